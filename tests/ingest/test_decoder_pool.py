"""Decoding in processes gives what decoding in threads gives, whatever happens to the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.colours import SIDE, ColourEncoder

import twinlens
import twinlens.ingest.executor
from twinlens.ingest.decoder_pool import BATCH, DecoderPool, PooledTask, usable_cores
from twinlens.ingest.sample import failure_of
from twinlens.ingest.sources.folder import reader
from twinlens.ingest.tasks import Task, TaskResult, decode_tasks
from twinlens.search.errors import ImageError
from twinlens.search.models.preprocess import preparation
from twinlens.search.records import image_id

PREPARE = preparation({"size": SIDE})

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes share memory on POSIX only")


class PreparedEncoder(ColourEncoder):
    """Its preprocessing can be sent to other processes."""

    preparation = PREPARE
    prepare = PREPARE  # type: ignore[assignment]


def kill_this_process() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fail() -> bytes:
    raise RuntimeError("a mistake in the program")


def tasks_of(photos: Path) -> list[Task]:
    return [Task(str(path), str(photos), reader(path)) for path in sorted(photos.iterdir())]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """More than a batch, with a file that is no picture, and an empty one."""
    photos = tmp_path / "pictures"
    photos.mkdir()
    for number in range(BATCH + 5):
        Image.new("RGB", (20, 30), (number, 50, 90)).save(photos / f"{number:02}.png")
    (photos / "03.png").write_bytes(b"no picture")
    (photos / "04.png").write_bytes(b"")
    return photos


Start = Callable[..., DecoderPool]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a pool, and waits until it is ready."""
    pools: list[DecoderPool] = []

    def start(stored: Sequence[str] = (), processes: int = 1) -> DecoderPool:
        ids = np.array(sorted(bytes.fromhex(one) for one in stored), dtype="S16")
        pool = DecoderPool(PREPARE, SIDE, lambda: ids, processes)
        pools.append(pool)
        pool.start()
        until = time.monotonic() + 60
        while not pool.ready and time.monotonic() < until:
            time.sleep(0.01)
        assert pool.ready
        return pool

    yield start
    for pool in pools:
        pool.close(cancel=True)


def results(pool: DecoderPool, tasks: Sequence[Task]) -> list[TaskResult]:
    handles: list[PooledTask] = [pool.submit(task) for task in tasks]
    for handle in handles:
        pool.flush(handle)
    return [handle.result() for handle in handles]


def same(found: Sequence[TaskResult], expected: Sequence[TaskResult]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.id, one.failure) == (other.id, other.failure)
        assert (one.image is None) == (other.image is None)
        if one.image is not None and other.image is not None:
            assert one.image.pixels is not None
            assert np.array_equal(one.image.pixels, other.image.pixels)
            assert (one.image.width, one.image.format) == (other.image.width, other.image.format)


def test_results_are_those_of_threads(pictures: Path, start: Start) -> None:
    tasks = tasks_of(pictures)
    expected = decode_tasks(tasks, PREPARE, SIDE, lambda ids: ())
    assert sum(result.failure is not None for result in expected) == 2
    same(results(start(processes=2), tasks), expected)


def test_stored_images_are_not_decoded(pictures: Path, start: Start) -> None:
    tasks = tasks_of(pictures)
    data = [(pictures / f"{number:02}.png").read_bytes() for number in (0, 7)]
    found = results(start(stored=list(map(image_id, data))), tasks)
    assert [n for n, one in enumerate(found) if one.image is None] == [0, 3, 4, 7]


def test_images_that_only_this_process_can_read_are_sent(pictures: Path, start: Start) -> None:
    def unreadable() -> bytes:
        raise ImageError("the archive is damaged")

    plain = tasks_of(pictures)
    tasks = [
        Task(task.uri, task.root, lambda path=task.uri: Path(path).read_bytes())  # type: ignore[misc]
        for task in plain
    ]
    expected = decode_tasks(plain, PREPARE, SIDE, lambda ids: ())
    tasks[6] = Task(tasks[6].uri, tasks[6].root, unreadable)
    failure = failure_of(ImageError("the archive is damaged"), tasks[6].uri, tasks[6].root)
    expected[6] = TaskResult(failure=failure)
    same(results(start(), tasks), expected)


def test_a_file_that_kills_its_process_is_one_failure(pictures: Path, start: Start) -> None:
    tasks = tasks_of(pictures)
    expected = decode_tasks(tasks, PREPARE, SIDE, lambda ids: ())
    tasks[9] = Task(tasks[9].uri, tasks[9].root, kill_this_process)
    found = results(start(), tasks)
    failure = found[9].failure
    assert failure is not None
    assert failure.reason.startswith("the process that decoded it ended")
    same(found[:9] + found[10:], expected[:9] + expected[10:])


def test_processes_that_are_killed_are_replaced(pictures: Path, start: Start) -> None:
    tasks = tasks_of(pictures)
    expected = decode_tasks(tasks, PREPARE, SIDE, lambda ids: ())
    pool = start(processes=2)
    for _ in range(3):
        for child in children(os.getpid()):
            os.kill(child, signal.SIGKILL)
        same(results(pool, tasks), expected)


def test_threads_decode_where_no_process_can_be_started_again(
    pictures: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was with the process is tried by the next run, since it may have crashed it."""
    tasks = tasks_of(pictures)
    expected = decode_tasks(tasks, PREPARE, SIDE, lambda ids: ())
    pool = start()
    monkeypatch.setattr("twinlens.ingest.decoder_pool.sys.executable", "/nowhere/python")
    for child in children(os.getpid()):
        os.kill(child, signal.SIGKILL)
    found = results(pool, tasks)
    for result in found[:BATCH]:
        assert result.failure is not None
        assert result.failure.transient
    same(found[BATCH:], expected[BATCH:])
    same(results(pool, tasks), expected)


@pytest.mark.parametrize("where", ["thread", "process", "sent"])
def test_a_lack_of_memory_fails_one_picture(pictures: Path, start: Start, where: str) -> None:
    def too_large() -> bytes:  # cannot be pickled
        return exhaust()

    tasks = tasks_of(pictures)
    load = too_large if where == "sent" else exhaust
    tasks[7] = Task(tasks[7].uri, tasks[7].root, load)
    if where == "thread":
        found = decode_tasks(tasks, PREPARE, SIDE, lambda ids: ())
    else:
        found = results(start(), tasks)
    failure = found[7].failure
    assert failure is not None
    assert failure.transient
    assert "not enough memory" in failure.reason
    assert sum(one.failure is not None for one in found) == 3


def exhaust() -> bytes:
    raise MemoryError


def sleep() -> bytes:
    time.sleep(600)
    raise AssertionError


def test_cancelling_does_not_wait_for_a_picture(start: Start) -> None:
    pool = start()
    pool.flush(pool.submit(Task("a", "b", sleep)))
    time.sleep(0.2)  # it is with the process
    closing = threading.Thread(target=partial(pool.close, cancel=True), daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
    assert not children(os.getpid())


def test_a_mistake_in_a_process_is_raised(pictures: Path, start: Start) -> None:
    pool = start()
    with pytest.raises(RuntimeError, match="a mistake in the program"):
        results(pool, [Task("a", "b", fail)])
    assert results(pool, tasks_of(pictures))[0].failure is None


def children(process: int) -> list[int]:
    """The decoding processes of a process."""
    found = subprocess.run(["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in found.stdout.splitlines()[1:]]
    return [int(pid) for pid, ppid, args in rows if int(ppid) == process and "decoder_p" in args]


def test_no_process_outlives_the_pool(pictures: Path, start: Start) -> None:
    pool = start(processes=2)
    results(pool, tasks_of(pictures))
    assert children(os.getpid())
    pool.close(cancel=False)
    assert not children(os.getpid())


def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time, numpy as np
from twinlens.ingest.decoder_pool import DecoderPool
from twinlens.search.models.preprocess import preparation
pool = DecoderPool(preparation({"size": 8}), 8, lambda: np.empty(0, "S16"), 1)
pool.start()
while not pool.ready:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (child,) = children(parent.pid)
        parent.kill()
    until = time.monotonic() + 30
    while time.monotonic() < until and Path(f"/proc/{child}").exists():
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


def test_an_ingest_uses_processes_when_the_encoder_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it stores and reports is the same."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(120):
        Image.new("RGB", (9, 9), (number, 99, 2 * number)).save(photos / f"{number:03}.png")
    (photos / "050.png").write_bytes(b"no picture")
    (photos / "110.png").write_bytes((photos / "020.png").read_bytes())
    started: list[DecoderPool] = []

    class WatchedPool(DecoderPool):
        def start(self) -> None:
            super().start()
            started.append(self)
            while not self.ready:
                time.sleep(0.01)

    monkeypatch.setattr("twinlens.ingest.decoder_pool.DecoderPool", WatchedPool)
    seen: dict[bool, list[tuple[str, str]]] = {}
    rows: dict[bool, list[dict[str, object]]] = {}
    for parallel in (False, True):
        monkeypatch.setattr(twinlens.ingest.executor, "_AHEAD", 10)
        monkeypatch.setattr(twinlens.ingest.executor, "_STARVED", -1.0 if parallel else 2.0)
        monkeypatch.setattr(twinlens.ingest.executor, "_CHECK_EVERY", 20)
        monkeypatch.setattr(twinlens.ingest.executor, "MIN_CORES", 1)
        with twinlens.open(tmp_path / f"{parallel}.db", model=PreparedEncoder()) as index:
            items: list[tuple[str, str]] = []
            index.ingest(photos, report=lambda row, to=items: to.append((row.uri, row.status)))
            seen[parallel] = sorted(items)
            scanned = index.engine.collection.scan("images", ["*"])
            rows[parallel] = [
                {**row, "vector": row["vector"].tolist()} for batch in scanned for row in batch
            ]
    assert len(started) == 1
    assert len(seen[True]) == 120
    assert seen[True] == seen[False]
    assert rows[True] == rows[False]
    assert len(rows[True]) == 118


def test_cores_are_counted() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_a_preparation_is_the_same_after_pickling() -> None:
    import pickle

    image = Image.effect_mandelbrot((50, 40), (-2, -1, 1, 1), 50).convert("RGB")
    again = pickle.loads(pickle.dumps(partial(PREPARE)))
    assert np.array_equal(again(image), PREPARE(image))

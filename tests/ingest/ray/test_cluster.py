"""Ingest on Ray: the same collection as without, also when a worker dies."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder
from support.rows import comparable

import twinlens
from twinlens.ingest import sinks
from twinlens.ingest.options import open_items
from twinlens.ingest.pipeline import ingest_items
from twinlens.ingest.ray import executor as ray_executor
from twinlens.ingest.ray.cluster import connect
from twinlens.ingest.report import ItemRow, Tally
from twinlens.search.errors import ClusterError, ModelMismatchError, UsageError
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.models.load import open_encoder

ray = pytest.importorskip("ray", reason="without Ray: pip install 'twinlens[cluster]'")

# Ray warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

#: Seconds after which something that should have happened has not.
PATIENCE = 60.0


class Marking(ColourEncoder):
    """Creates a file for every process it works in, and waits until there are two."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def images(self, pixels: Pixels) -> Rows:
        (self.folder / str(os.getpid())).touch()
        until = time.monotonic() + PATIENCE
        while len(list(self.folder.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        return super().images(pixels)


class Dying(ColourEncoder):
    """Kills the process it is in at its second batch, the first time."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = marker
        self.batches = 0

    def images(self, pixels: Pixels) -> Rows:
        self.batches += 1
        if self.batches == 2 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().images(pixels)


class Overlapping(ColourEncoder):
    """Finishes the first batch of a process when it is given the next one; notes that it was."""

    text_batch = 4

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = marker
        self.begun = 0

    def begin_images(self, pixels: Pixels | Sequence[Pixels]) -> Callable[[], Rows]:
        rows = self.images(np.stack(pixels))
        self.begun += 1
        first = self.begun == 1

        def wait() -> Rows:
            until = time.monotonic() + PATIENCE
            while first and not self.marker.exists() and time.monotonic() < until:
                if self.begun > 1:
                    self.marker.touch()
                time.sleep(0.01)
            return rows

        return wait

    def begin_texts(self, texts: Sequence[str]) -> Callable[[], Rows]:
        rows = self.texts(texts)
        return lambda: rows


class Failing(ColourEncoder):
    def images(self, pixels: Pixels) -> Rows:
        raise ArithmeticError("the device is on fire")


@pytest.fixture(scope="module")
def running() -> Iterator[None]:
    """Ray in this process with two cores, and a core that it takes for an accelerator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_gcs_server_port_wait_time_s", "120")
        ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def batches_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_executor, "CORE_BATCH", 4)
    monkeypatch.setattr(ray_executor, "DEVICE_BATCH", 4)
    monkeypatch.setattr(sinks, "CHUNK", 8)


def contents(index: twinlens.Index) -> dict[str, list[dict[str, Any]]]:
    """Every row of all three collections."""
    collection = index.engine.collection
    return {
        kind: sorted(
            (comparable(row) for rows in collection.scan(kind, ["*"]) for row in rows),  # type: ignore[arg-type]
            key=lambda row: str(row.get("id", row["path"])),
        )
        for kind in ("images", "texts", "files")
    }


def assert_same(one: twinlens.Index, other: twinlens.Index) -> None:
    """Row by row, so that a difference can be read."""
    mine, its = contents(one), contents(other)
    for kind, rows in mine.items():
        for row, expected in zip(rows, its[kind], strict=True):
            assert row == expected


def shades(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number:04}.png"
        Image.new("RGB", (9, 9), (number % 256, number // 256, 77)).save(path)
        if number % 3 == 0:
            path.with_suffix(".txt").write_text(f"a {list(COLOURS)[number % 8]} thing, {number}\n")
    return folder


def pack(path: Path, mode: str, shade: int) -> None:
    """A tar with one picture."""
    data = io.BytesIO()
    Image.new("RGB", (9, 9), (shade, 1, 1)).save(data, "PNG")
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        member = tarfile.TarInfo("inside.png")
        member.size = len(data.getvalue())
        tar.addfile(member, io.BytesIO(data.getvalue()))


@pytest.mark.usefixtures("running", "batches_of_four")
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_collection_is_the_same_after_every_run(tmp_path: Path, device: str) -> None:
    photos = shades(tmp_path / "photos", 30)
    (photos / "copy.png").write_bytes((photos / "0003.png").read_bytes())
    (photos / "copy.txt").write_text("the same again\n")
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n, it said")
    pack(photos / "plain.tar", "w", 200)
    pack(photos / "packed.tar.gz", "w:gz", 201)
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\n,a text alone\nphotos/0001.png,the second\n")

    def change() -> None:
        (photos / "0004.png").unlink()
        (photos / "0005.png").rename(photos / "renamed.png")
        (photos / "0006.txt").write_text("other words\n")
        Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "0007.png")
        os.utime(photos / "0008.png", ns=(1, 1))

    with (
        twinlens.open(tmp_path / "plain.db", model=ColourEncoder()) as plain,
        twinlens.open(tmp_path / "ray.db", model=ColourEncoder(), device=device) as cluster,
    ):
        for step, prune in ((None, False), (None, False), (change, False), (None, True)):
            if step is not None:
                step()
            expected = plain.ingest(photos, captions, prune=prune)
            report = cluster.ingest(photos, captions, prune=prune, cluster="auto")
            assert_same(cluster, plain)
            for count in ("images", "texts", "unchanged", "duplicates", "updated", "removed"):
                assert getattr(report, count) == getattr(expected, count), count
            assert report.missing == expected.missing
            assert report.failed == expected.failed
            assert report.failed_before == expected.failed_before
        assert plain.info().images == 31


@pytest.mark.usefixtures("running", "batches_of_four")
def test_every_item_is_in_the_report_file(tmp_path: Path) -> None:
    photos = shades(tmp_path / "photos", 10)
    (photos / "broken.png").write_bytes(b"no")
    with twinlens.open(tmp_path / "test.db", model=ColourEncoder(), device="cpu") as index:
        index.ingest(photos, cluster="auto", report=tmp_path / "report.jsonl")
    lines = (tmp_path / "report.jsonl").read_text().splitlines()
    assert len(lines) == 11
    assert sum('"stored"' in line for line in lines) == 10
    assert sum("not an image" in line for line in lines) == 1


@pytest.mark.usefixtures("running", "batches_of_four")
def test_work_is_shared_by_two_workers(tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    photos = shades(tmp_path / "photos", 40)
    encoder = Marking(tmp_path / "pids")
    with twinlens.open(tmp_path / "test.db", model=encoder, device="cpu") as index:
        assert index.ingest(photos, cluster="local").images == 40
    assert len(list((tmp_path / "pids").iterdir())) == 2
    assert encoder.images_seen == 0


@pytest.mark.usefixtures("running", "batches_of_four")
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_worker_has_its_next_batch_before_the_rows_of_the_last(
    tmp_path: Path, device: str
) -> None:
    photos = shades(tmp_path / "photos", 40)
    encoder = Overlapping(tmp_path / "overlapped")
    with (
        twinlens.open(tmp_path / "plain.db", model=ColourEncoder()) as plain,
        twinlens.open(tmp_path / "ray.db", model=encoder, device=device) as cluster,
    ):
        plain.ingest(photos)
        report = cluster.ingest(photos, cluster="auto")
        assert encoder.marker.exists()
        assert report.encode_seconds > 0
        assert_same(cluster, plain)


@pytest.mark.usefixtures("running", "batches_of_four")
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    photos = shades(tmp_path / "photos", 60)
    with (
        twinlens.open(tmp_path / "plain.db", model=ColourEncoder()) as plain,
        twinlens.open(
            tmp_path / "ray.db", model=Dying(tmp_path / "killed"), device="cpu"
        ) as cluster,
    ):
        plain.ingest(photos)
        report = cluster.ingest(photos, cluster="auto")
        assert (tmp_path / "killed").exists()
        assert (report.images, report.failed_count) == (60, 0)
        assert_same(cluster, plain)


@pytest.mark.usefixtures("running", "batches_of_four")
def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    class Interrupting:
        def __init__(self) -> None:
            self.seen = 0.0

        def update(self, n: float = 1) -> None:
            self.seen += n
            if self.seen == 20:
                raise KeyboardInterrupt

        def set_postfix_str(self, s: str, refresh: bool = True) -> None: ...

    photos = shades(tmp_path / "photos", 60)
    with (
        twinlens.open(tmp_path / "plain.db", model=ColourEncoder()) as plain,
        twinlens.open(tmp_path / "ray.db", model=ColourEncoder(), device="cpu") as cluster,
    ):
        plain.ingest(photos)
        with pytest.raises(KeyboardInterrupt):
            cluster.ingest(photos, cluster="auto", progress=Interrupting())
        assert 0 < cluster.info().files < 60
        report = cluster.ingest(photos, cluster="auto")
        assert 0 < report.images < 60
        assert_same(cluster, plain)


@pytest.mark.usefixtures("running", "batches_of_four")
def test_an_error_of_the_encoder_ends_the_run(tmp_path: Path) -> None:
    photos = shades(tmp_path / "photos", 20)
    with (
        twinlens.open(tmp_path / "test.db", model=Failing(), device="cpu") as index,
        pytest.raises(ArithmeticError, match="on fire"),
    ):
        index.ingest(photos, cluster="auto")


@pytest.mark.usefixtures("running", "batches_of_four")
def test_a_corpus_is_listed_no_further_than_needed(tmp_path: Path) -> None:
    photos = shades(tmp_path / "photos", 300)
    listed, lag = 0, 0

    with (
        twinlens.open(tmp_path / "test.db", model=ColourEncoder(), device="cpu") as index,
        connect("auto") as workers,
    ):
        assert workers is not None
        index.ingest(photos / "0000.png")
        finished: list[ItemRow] = []

        def items() -> Iterator[Any]:
            nonlocal listed, lag
            for item in open_items([photos]):
                listed += 1
                lag = max(lag, listed - len(finished))
                yield item

        collection = index.engine.collection
        executor = workers.executor(ColourEncoder, collection.fingerprint, device="cpu")
        tally = Tally(on_item=finished.append)
        assert ingest_items(collection, items(), [], executor, tally).images == 299
    batches = 2 * ray_executor.CORE_CALLS * ray_executor.BATCHES_EACH
    # Tasks of the workers, the chunk being filled, queued chunks, and the one being written.
    assert lag <= 4 * batches + 5 * 8


def test_an_encoder_that_cannot_be_pickled_is_refused(tmp_path: Path, running: None) -> None:
    encoder = ColourEncoder()
    encoder.lock = threading.Lock()  # type: ignore[attr-defined]
    photos = shades(tmp_path / "photos", 2)
    with (
        twinlens.open(tmp_path / "test.db", model=encoder) as index,
        pytest.raises(UsageError, match="cannot be sent to other processes"),
    ):
        index.ingest(photos, cluster="auto")


def test_an_address_that_does_not_answer(index: twinlens.Index, photos: Path) -> None:
    with pytest.raises(ClusterError, match=r"no cluster answers at 127\.0\.0\.1:1: "):
        index.ingest(photos, cluster="127.0.0.1:1")
    assert index._session.collection is None


def test_ray_s_client_is_refused(index: twinlens.Index, photos: Path) -> None:
    with pytest.raises(UsageError, match="on a machine of the cluster"):
        index.ingest(photos, cluster="ray://127.0.0.1:10001")


@pytest.mark.parametrize("address", ["nonsense", "http://host:1", "host:port", "a b:1"])
def test_an_invalid_address(index: twinlens.Index, photos: Path, address: str) -> None:
    with pytest.raises(UsageError, match=r"use local, auto or HOST:6379"):
        index.ingest(photos, cluster=address)


def test_the_error_without_ray_names_the_extra(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UsageError, match=r"twinlens\[cluster\]"):
        index.ingest(photos, cluster="local")


def test_a_worker_refuses_another_model() -> None:
    from twinlens.ingest.ray.actors import WorkerModel

    other = WorkerModel(
        "", pickle.dumps(ColourEncoder("other")), ColourEncoder().fingerprint.digest, 8
    )
    with pytest.raises(ModelMismatchError, match="do all machines have the same version"):
        other.encoder()


def test_ids_are_looked_up_exactly() -> None:
    from twinlens.ingest.tasks import find_sorted

    ids = sorted(f"{number * 7919:032x}" for number in range(100))
    stored = np.array([bytes.fromhex(one) for one in ids], "S16")
    others = [f"{number * 7919 + 1:032x}" for number in range(100)]
    assert find_sorted(stored, [*others, *ids]) == set(ids)
    assert find_sorted(stored[:0], ids) == set()
    assert find_sorted(stored, []) == set()


def test_a_feed_restarts_for_a_reader_that_died() -> None:
    import asyncio

    from twinlens.ingest.ray.actors import TaskFeed

    async def story() -> list[bytes | None]:
        feed = TaskFeed([None])
        await feed.put(1, b"second")
        await feed.put(0, b"first")
        before = [await feed.get(0), await feed.get(1)]
        await feed.drop(0)
        waiting = asyncio.create_task(feed.get(2))
        assert await feed.is_wanted(1)
        assert not await feed.is_wanted(0)
        await feed.close()
        return [*before, await feed.get(0), await feed.get(1), await waiting]

    assert asyncio.run(story()) == [b"first", b"second", b"", b"second", None]


def test_decoders_prepare_pictures_as_the_model_does(tiny_model: Path) -> None:
    from twinlens.ingest.ray.actors import WorkerModel

    picture = Image.effect_noise((97, 61), 90).convert("RGB")
    for name in (f"local-dir:{tiny_model}", "starter"):
        encoder = open_encoder(name, device="cpu")
        model = WorkerModel(name, b"", encoder.fingerprint.digest, encoder.fingerprint.image_size)
        assert np.array_equal(model.prepare()(picture), encoder.prepare(picture))


def test_the_command_leaves_nothing_running(tmp_path: Path, tiny_model: Path) -> None:
    photos = shades(tmp_path / "photos", 5)
    marker = f"TWINLENS_TEST_RUN={tmp_path}"
    name, _, value = marker.partition("=")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "twinlens", "ingest", photos, "--cluster", "local"),
            *("--db", tmp_path / "test.db", "--model", f"local-dir:{tiny_model}"),
        ],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "5 images and 2 texts encoded" in done.stdout
    assert "ray" not in (done.stdout + done.stderr).lower().replace(str(tmp_path), "")
    until = time.monotonic() + PATIENCE
    while (left := processes_with(marker)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def processes_with(variable: str) -> list[str]:
    """Command lines of processes that have a variable in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_text())
        except OSError:  # it has ended meanwhile, or is not ours
            continue
    return found

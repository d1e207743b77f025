"""Watching: the collection follows changes of its folder."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.ingest.report import IngestReport
from twinlens.ingest.watch import QUIET, watch
from twinlens.search.errors import UsageError

pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")

Queue = queue.Queue[Any]
#: Seconds to wait for what happens at once on a machine that is not busy.
PATIENCE = 300


def ingest_into(index: twinlens.Index) -> Callable[[Sequence[Path], bool], IngestReport]:
    return lambda paths, prune: index.ingest(*paths, prune=prune)


def refuse_to_warn(line: str) -> None:
    raise AssertionError(line)


def test_the_collection_follows_its_folder(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path]
) -> None:
    stop = threading.Event()
    reports: queue.Queue[IngestReport] = queue.Queue()

    def follow() -> None:
        for report in watch([photos], ingest_into(index), refuse_to_warn, stop):
            reports.put(report)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        assert reports.get(timeout=PATIENCE).images == 8
        paint("red", "photos/new.png", size=(50, 50))
        assert reports.get(timeout=PATIENCE).images == 1
        (photos / "blue.png").unlink()
        assert reports.get(timeout=PATIENCE).removed == 1
    finally:
        stop.set()
        thread.join(timeout=PATIENCE)
    assert not thread.is_alive()
    assert index.info().images == 8


def test_an_empty_folder_can_be_watched(index: twinlens.Index, tmp_path: Path) -> None:
    stop = threading.Event()
    (tmp_path / "empty").mkdir()
    reports = watch([tmp_path / "empty"], ingest_into(index), refuse_to_warn, stop)
    assert next(reports) == IngestReport()
    stop.set()
    assert list(reports) == []


def test_what_the_ingest_writes_itself_does_not_make_it_run_again(
    photos: Path, paint: Callable[..., Path], encoder: ColourEncoder
) -> None:
    """The database, a hidden folder and a report are in the folder that is watched."""
    stop = threading.Event()
    runs: Queue = queue.Queue()
    report = photos / "report.jsonl"
    (photos / ".hidden").mkdir()

    with twinlens.open(photos / "own.db", model=encoder) as index:

        def ingest(paths: Sequence[Path], prune: bool) -> IngestReport:
            done = index.ingest(*paths, prune=prune, report=report)
            (photos / ".hidden" / "file").write_text(str(done.images))
            return done

        def follow() -> None:
            for done in watch([photos], ingest, refuse_to_warn, stop, own=[report]):
                runs.put((done.images, done.unchanged, done.updated))

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            assert runs.get(timeout=PATIENCE) == (8, 0, 0)
            time.sleep(4 * QUIET / 1_000)  # for runs that should not happen
            paint("red", "photos/new.png", size=(50, 50))
            assert runs.get(timeout=PATIENCE) == (1, 8, 0)
            time.sleep(4 * QUIET / 1_000)
        finally:
            stop.set()
            thread.join(timeout=PATIENCE)
        assert runs.empty()


def test_a_folder_that_goes_away_while_it_is_listed_does_not_end_the_watch(
    index: twinlens.Index, photos: Path
) -> None:
    def ingest(paths: Sequence[Path], prune: bool) -> IngestReport:
        photos.rename(photos.with_name("moved"))
        return index.ingest(*paths, prune=prune)

    stop = threading.Event()
    reports = watch([photos], ingest, refuse_to_warn, stop)
    assert next(reports) == IngestReport()
    stop.set()
    assert list(reports) == []


def test_the_command_writes_one_report_for_all_runs(
    photos: Path, paint: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.jsonl"

    def told() -> list[str]:
        lines = report.read_text().splitlines() if report.exists() else []
        return [Path(json.loads(line)["uri"]).name for line in lines if line.endswith("}")]

    with subprocess.Popen(
        [sys.executable, "-c", "import twinlens; twinlens.main()", "ingest", photos, "--watch",
         "--report", report, "--db", tmp_path / "w.db", "-m", f"local-dir:{tiny_model}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job, as these tests may be, hands down that Ctrl-C is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as watching:  # fmt: skip
        try:
            wait_for(lambda: len(told()) == 8, watching)
            paint("red", "photos/new.png", size=(50, 50))
            wait_for(lambda: told().count("new.png") == 1, watching)
            assert told().count("red.png") == 2
            watching.send_signal(signal.SIGINT)
            _, err = watching.communicate(timeout=PATIENCE)
        finally:
            watching.kill()
    assert watching.returncode == 130
    assert "Traceback" not in err


def wait_for(happened: Callable[[], bool], watching: subprocess.Popen[str]) -> None:
    """Wait for something that a command does, however busy the machine is; fail if it ends."""
    until = time.monotonic() + PATIENCE
    while not happened():
        assert watching.poll() is None, watching.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_path_that_does_not_exist_cannot_be_watched(
    index: twinlens.Index, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        next(watch([tmp_path / "nowhere"], ingest_into(index), refuse_to_warn))


@pytest.fixture
def follow(index: twinlens.Index) -> Iterator[Callable[..., tuple[Queue, Queue]]]:
    """Watch in a thread; queues of the reports and of the warnings."""
    stop = threading.Event()
    threads = []

    def start(*paths: Path) -> tuple[Queue, Queue]:
        reports: Queue = queue.Queue()
        warnings: Queue = queue.Queue()

        def run() -> None:
            for report in watch(paths, ingest_into(index), warnings.put, stop):
                reports.put(report)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return reports, warnings

    yield start
    stop.set()
    for thread in threads:
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()


def test_a_folder_that_disappears_is_not_pruned(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path], follow: Callable[..., Any]
) -> None:
    reports, warnings = follow(photos)
    assert reports.get(timeout=PATIENCE).images == 8
    photos.rename(photos.with_name("elsewhere"))
    assert f"{photos} no longer exists, so nothing is removed" in warnings.get(timeout=PATIENCE)
    assert index.info().images == 8
    # It is watched again when it comes back.
    photos.with_name("elsewhere").rename(photos)
    while reports.get(timeout=PATIENCE).unchanged != 8:
        pass
    (photos / "blue.png").unlink()
    while reports.get(timeout=PATIENCE).removed != 1:
        pass
    assert index.info().images == 7


def test_a_folder_without_a_picture_is_not_pruned(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path], follow: Callable[..., Any]
) -> None:
    index.ingest(photos)
    for file in photos.iterdir():
        file.unlink()
    (photos / "README").write_text("nothing is mounted here")
    reports, warnings = follow(photos)
    assert reports.get(timeout=PATIENCE).missing == 8
    assert f"{photos} contains no pictures, so nothing is removed" in warnings.get(timeout=PATIENCE)
    assert index.info().images == 8
    # With one picture the folder counts as mounted, and the others are pruned.
    paint("red", "photos/red.png")
    assert reports.get(timeout=PATIENCE).removed == 7
    assert warnings.empty()


def test_a_folder_on_another_disk_is_not_pruned(
    index: twinlens.Index,
    photos: Path,
    follow: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports, warnings = follow(photos)
    assert reports.get(timeout=PATIENCE).images == 8
    plain = os.stat
    monkeypatch.setattr(
        "twinlens.ingest.watch._identity", lambda path: (plain(path).st_dev + 1, plain(path).st_ino)
    )
    (photos / "blue.png").unlink()
    assert "is on a different disk than before, so nothing is removed" in warnings.get(
        timeout=PATIENCE
    )
    assert index.info().images == 8


def test_one_of_several_folders_may_disappear(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path], follow: Callable[..., Any]
) -> None:
    other = paint("red", "other/large.png", size=(50, 50)).parent
    reports, warnings = follow(photos, other)
    assert reports.get(timeout=PATIENCE).images == 9
    other.rename(other.with_name("elsewhere"))
    assert str(other) in warnings.get(timeout=PATIENCE)
    paint("red", "photos/new.png", size=(60, 60))
    while reports.get(timeout=PATIENCE).images != 1:
        pass
    assert index.info().images == 10

"""Watching: the collection follows its folder."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import twinlens
from ingest.report import IngestReport
from ingest.watch import watch
from search.errors import UsageError

pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")


def test_the_collection_follows_its_folder(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path]
) -> None:
    stop = threading.Event()
    reports: queue.Queue[IngestReport] = queue.Queue()

    def follow() -> None:
        for report in watch([photos], lambda: index.ingest(photos, prune=True), stop):
            reports.put(report)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        assert reports.get(timeout=30).images == 8
        paint("red", "photos/new.png", size=(50, 50))
        assert reports.get(timeout=30).images == 1
        (photos / "blue.png").unlink()
        assert reports.get(timeout=30).removed == 1
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert index.info().images == 8


def test_an_empty_folder_is_waited_for(index: twinlens.Index, tmp_path: Path) -> None:
    stop = threading.Event()
    (tmp_path / "empty").mkdir()
    reports = watch([tmp_path / "empty"], lambda: index.ingest(tmp_path / "empty"), stop)
    assert next(reports) == IngestReport()
    stop.set()
    assert list(reports) == []


def test_what_does_not_exist_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no"):
        next(watch([tmp_path / "nowhere"], IngestReport))

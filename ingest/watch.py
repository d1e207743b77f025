"""Keeps a collection in step with folders for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

from twinlens.ingest.report import IngestReport
from twinlens.ingest.sources.detect import is_bare
from twinlens.search.errors import SourceError, UsageError

#: Milliseconds in which changes are gathered before they are taken in.
GATHER = 1_600
#: Milliseconds without a further change that end the gathering early.
SETTLE = 400


def watch(
    paths: Sequence[Path],
    ingest: Callable[[Sequence[Path], bool], IngestReport],
    warn: Callable[[str], None],
    stop: Event | None = None,
) -> Iterator[IngestReport]:
    """Ingest now, and again after every burst of changes at or below the paths.

    Changes that happen while an ingest runs are not lost: watching begins before the first one.
    What is gone from the paths is pruned, but not where a disk may be missing.

    Args:
        paths: folders and files that exist here.
        ingest: one incremental ingest of those that exist now; whether it may prune.
        warn: told why a run does not prune, in a line.
        stop: ends the watching when set.

    Raises:
        UsageError: a path does not exist, or the extra ``watch`` is not installed.
    """
    try:
        from watchfiles import watch as changes
    except ImportError as error:
        raise UsageError("watching needs an extra: pip install 'twinlens[watch]'") from error
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no {path} here to watch")
    guard = _Guard(paths, warn)
    stop = stop or Event()
    while not stop.is_set():
        # What was mounted, removed or put there anew is another thing, and is watched anew.
        places = _places(paths)
        # A time-out comes back as an empty set: the first one says that the watching has begun.
        bursts = changes(
            *(path for path, place in zip(paths, places, strict=True) if place is not None),
            debounce=GATHER,
            step=SETTLE,
            stop_event=stop,
            rust_timeout=SETTLE,
            yield_on_timeout=True,
            raise_interrupt=True,
        )
        begun = False
        for burst in bursts:
            if _places(paths) != places:
                break
            if burst or not begun:
                begun = True
                yield guard.run(ingest)


class _Guard:
    """Keeps a disk that is not mounted from costing what is stored of it.

    Args:
        paths: as they are when the watching begins.
        warn: told why a run does not prune; not again while nothing changes about that.
    """

    def __init__(self, paths: Sequence[Path], warn: Callable[[str], None]) -> None:
        self._paths = paths
        self._warn = warn
        self._devices = [_device(path) for path in paths]
        self._said = ""

    def run(self, ingest: Callable[[Sequence[Path], bool], IngestReport]) -> IngestReport:
        """One ingest of the paths that are there, which prunes where that is safe."""
        gone = [path for path in self._paths if _device(path) is None]
        here = [path for path in self._paths if path not in gone]
        doubt = self._doubt()
        report = _bearing_emptiness(ingest, here, not doubt) if here else IngestReport()
        # A folder that never held anything has nothing to lose.
        says = doubt if gone or report.missing else ""
        if says and says != self._said:
            self._warn(says)
        self._said = says
        return report

    def _doubt(self) -> str:
        """Why nothing is to be pruned, and what to do; "" where all the paths are as they were."""
        for path, device in zip(self._paths, self._devices, strict=True):
            now = _device(path)
            if now is None:
                what, meant = "is not there any more", f"`twinlens delete {path}`"
            elif now != device:
                what, meant = "is on another disk than it was", "watch anew"
            elif is_bare(path):
                what, meant = "holds no pictures at all", f"`twinlens delete {path}`"
            else:
                continue
            return (
                f"{path} {what}, so nothing is removed from the collection: bring its disk back, "
                f"or, where that is meant, {meant}"
            )
        return ""


def _device(path: Path) -> int | None:
    place = _place(path)
    return place[0] if place is not None else None


def _places(paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    return [_place(path) for path in paths]


def _place(path: Path) -> tuple[int, int] | None:
    """Which file or folder a path is, on which disk; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _bearing_emptiness(
    ingest: Callable[[Sequence[Path], bool], IngestReport], paths: Sequence[Path], prune: bool
) -> IngestReport:
    try:
        return ingest(paths, prune)
    except SourceError:
        # A folder may be empty for a while, a caption file half written; the next change tells.
        return IngestReport()

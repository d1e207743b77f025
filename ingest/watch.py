"""``watch``: keep a collection up to date with folders while they change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event

from twinlens.ingest.report import IngestReport
from twinlens.ingest.sources.detect import has_no_pictures
from twinlens.ingest.sources.passed_over import is_passed_over
from twinlens.search.errors import SourceError, UsageError
from twinlens.search.milvus.lite.folder import is_database

#: Milliseconds to collect changes for one ingest, at most.
DEBOUNCE = 1_600
#: Milliseconds without a further change after which the ingest starts earlier.
QUIET = 400
#: Standard output and error.
_OUTPUT = (1, 2)

#: Ingests paths; the second argument says whether it may prune.
Ingest = Callable[[Sequence[Path], bool], IngestReport]


def watch(
    paths: Sequence[Path],
    ingest: Ingest,
    warn: Callable[[str], None],
    stop: Event | None = None,
    own: Sequence[Path] = (),
) -> Iterator[IngestReport]:
    """Ingest now, and again after every burst of changes at or below the paths.

    Changes during an ingest are not lost: watching starts before the first one. Deleted files are
    pruned, except where a disk may not be mounted.

    Args:
        paths: existing folders and files.
        ingest: ingests those of the paths that exist at the time.
        warn: called with a line that says why a run does not prune.
        stop: ends the watching when set.
        own: files that the caller writes to: their changes are ignored.

    Raises:
        UsageError: a path does not exist, or the extra ``watch`` is not installed.
    """
    try:
        from watchfiles import watch as watch_files
    except ImportError as error:
        raise UsageError("watching needs an extra: pip install 'twinlens[watch]'") from error
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist, so it cannot be watched")
    safety = _PruneSafety(paths, warn)
    stop = stop or Event()
    while not stop.is_set():
        # Folders that were mounted, unmounted or replaced meanwhile need a new watch.
        identities = list(map(_identity, paths))
        existing = [p for p, one in zip(paths, identities, strict=True) if one is not None]
        # A timeout yields an empty set; the first one says that the watching has begun.
        bursts = watch_files(
            *existing,
            watch_filter=partial(_may_matter, existing, own),
            debounce=DEBOUNCE,
            step=QUIET,
            stop_event=stop,
            rust_timeout=QUIET,
            yield_on_timeout=True,
            raise_interrupt=True,
        )
        begun = False
        for burst in bursts:
            if list(map(_identity, paths)) != identities:
                break
            if burst or not begun:
                begun = True
                yield safety.run(ingest)


class _PruneSafety:
    """Prevents pruning while a disk may not be mounted.

    Args:
        paths: as they are when the watching begins.
        warn: called when a run does not prune; again only when the reason changes.
    """

    def __init__(self, paths: Sequence[Path], warn: Callable[[str], None]) -> None:
        self._paths = paths
        self._warn = warn
        self._devices = [_device(path) for path in paths]
        self._last_warning = ""

    def run(self, ingest: Ingest) -> IngestReport:
        """Ingest the paths that exist, and prune where that is safe."""
        missing = [path for path in self._paths if _device(path) is None]
        existing = [path for path in self._paths if path not in missing]
        doubt = self._doubt()
        report = _ingest_or_nothing(ingest, existing, not doubt) if existing else IngestReport()
        # A folder of which nothing is stored needs no warning.
        warning = doubt if missing or report.missing else ""
        if warning and warning != self._last_warning:
            self._warn(warning)
        self._last_warning = warning
        return report

    def _doubt(self) -> str:
        """Why pruning is not safe, and what to do; "" where it is."""
        for path, device in zip(self._paths, self._devices, strict=True):
            now = _device(path)
            if now is None:
                what, otherwise = "no longer exists", f"run `twinlens delete {path}`"
            elif now != device:
                what, otherwise = "is on a different disk than before", "start watching again"
            elif has_no_pictures(path):
                what, otherwise = "contains no pictures", f"run `twinlens delete {path}`"
            else:
                continue
            return (
                f"{path} {what}, so nothing is removed from the collection: mount its disk again, "
                f"or, if this is intended, {otherwise}"
            )
        return ""


def _may_matter(watched: Sequence[Path], own: Sequence[Path], _: object, changed: str) -> bool:
    """Whether an ingest may read a changed file or folder.

    It does not read hidden ones. What it writes itself must not make it run again: its database, a
    report, and the log that its output is redirected to.
    """
    path = Path(os.path.abspath(changed))
    for root in map(Path, map(os.path.abspath, watched)):
        if path.is_relative_to(root):
            inner = path.relative_to(root).parts
            if any(name.startswith(".") or is_passed_over(name) for name in inner):
                return False
            if any(map(is_database, (root.joinpath(*inner[:n]) for n in range(len(inner) + 1)))):
                return False
    written: list[Path | int] = [*own, *_OUTPUT]
    return not any(_is_same_file(path, one) for one in written)


def _is_same_file(path: Path, other: Path | int) -> bool:
    """Whether both are one file that exists; the second may be an open one."""
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except OSError:
        return False


def _device(path: Path) -> int | None:
    identity = _identity(path)
    return identity[0] if identity is not None else None


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file or folder; None where it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _ingest_or_nothing(ingest: Ingest, paths: Sequence[Path], prune: bool) -> IngestReport:
    try:
        return ingest(paths, prune)
    except SourceError:
        # An empty folder, or a caption file that is half written; the next change ingests it.
        return IngestReport()
    except UsageError:
        if all(path.exists() for path in paths):
            raise
        return IngestReport()  # it was removed just now

"""Keeps a collection in step with folders for as long as it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

from ingest.report import IngestReport
from search.errors import SourceError, UsageError

#: Milliseconds in which changes are gathered before they are taken in.
GATHER = 1_600
#: Milliseconds without a further change that end the gathering early.
SETTLE = 400


def watch(
    paths: Sequence[Path], ingest: Callable[[], IngestReport], stop: Event | None = None
) -> Iterator[IngestReport]:
    """Ingest now, and again after every burst of changes at or below the paths.

    Changes that happen while an ingest runs are not lost: watching begins before the first one.

    Args:
        paths: folders and files that exist here.
        ingest: one incremental ingest.
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
    # A time-out comes back as an empty set: the first one says that the watching has begun.
    bursts = changes(
        *paths,
        debounce=GATHER,
        step=SETTLE,
        stop_event=stop,
        rust_timeout=SETTLE,
        yield_on_timeout=True,
        raise_interrupt=True,
    )
    begun = False
    for burst in bursts:
        if burst or not begun:
            begun = True
            yield _bearing_emptiness(ingest)


def _bearing_emptiness(ingest: Callable[[], IngestReport]) -> IngestReport:
    try:
        return ingest()
    except SourceError:
        # A folder may be empty for a while, a caption file half written; the next change tells.
        return IngestReport()

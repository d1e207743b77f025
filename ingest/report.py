"""What happened in a run: counts, and a row with its reason for every item that failed."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from twinlens.ingest.sample import Failure
from twinlens.search.errors import TwinlensError, UsageError

Status = Literal[
    "stored", "text stored", "unchanged", "duplicate", "updated", "failed", "failed before"
]

#: How many failures a report carries; the count goes on.
MAX_FAILURES = 1_000


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The outcome of one ingest.

    Attributes:
        images: pictures encoded and stored.
        texts: texts encoded and stored.
        unchanged: items that were stored already, and were not read again.
        duplicates: further paths of pictures that were stored already; renamed files among them.
        updated: stored pictures whose captions or metadata changed.
        removed: pictures deleted because no file holds them any more.
        missing: paths that are gone, whose pictures were kept because pruning was not asked for.
        failed: what could not be stored, and why: the first ``MAX_FAILURES`` of them.
        failed_count: how many could not be stored.
        failed_before: items that failed in an earlier run and have not changed since: not tried.
        seconds: wall time.
        encode_seconds: how much of it the encoder was at work.
    """

    images: int = 0
    texts: int = 0
    unchanged: int = 0
    duplicates: int = 0
    updated: int = 0
    removed: int = 0
    missing: int = 0
    failed: tuple[Failure, ...] = ()
    failed_count: int = 0
    failed_before: int = 0
    seconds: float = 0.0
    encode_seconds: float = 0.0

    @property
    def items(self) -> int:
        """Everything the sources held."""
        stored = self.images + self.unchanged + self.duplicates + self.updated
        return stored + self.failed_count + self.failed_before


@dataclass(frozen=True, slots=True)
class ItemRow:
    """What became of one item; ``ms`` is what reading and decoding it took."""

    uri: str
    status: Status
    reason: str = ""
    ms: float = 0.0


#: Takes the row of every finished item.
Sink = Callable[[ItemRow], None]


@contextmanager
def report_file(place: str | os.PathLike[str] | Sink | None) -> Iterator[Sink | None]:
    """A place for rows: a file of JSON lines; what takes rows already, or None, stays as it is.

    Raises:
        UsageError: the file cannot be made.
        TwinlensError: it cannot be written any further.
    """
    if place is None or callable(place):
        yield place
        return
    try:
        # Line by line: whoever watches a folder reads the report while it is written.
        file = open(place, "w", 1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        raise UsageError(_unwritten(place, error)) from error

    def write(row: ItemRow) -> None:
        try:
            print(json.dumps(asdict(row), ensure_ascii=False), file=file)
        except OSError as error:
            raise TwinlensError(_unwritten(place, error)) from error

    try:
        yield write
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise TwinlensError(_unwritten(place, error)) from error


def _unwritten(place: str | os.PathLike[str], error: OSError) -> str:
    return f"the report {os.fspath(place)} cannot be written: {error.strerror or error}"


class Progress(Protocol):
    """What a progress bar looks like from here; ``tqdm`` is one."""

    def update(self, n: float = 1) -> object: ...

    def set_postfix_str(self, s: str, refresh: bool = True) -> object: ...


#: Which count of the report a status goes into.
_COUNTED: dict[Status, str] = {
    "stored": "images",
    "unchanged": "unchanged",
    "duplicate": "duplicates",
    "updated": "updated",
    "failed": "failed_count",
    "failed before": "failed_before",
}


class Tally:
    """Counts as a run goes along, from any thread; tells a progress bar and a report of each item.

    Args:
        progress: told of every finished item.
        sink: given a row for every finished item.
    """

    def __init__(self, progress: Progress | None = None, sink: Sink | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[Failure] = []
        self._progress = progress
        self._sink = sink
        self._lock = threading.Lock()

    def item(self, uri: str, status: Status, ms: float = 0.0) -> None:
        """An item is finished."""
        self._note(ItemRow(uri, status, "", round(ms, 1)))

    def failure(self, failure: Failure, ms: float = 0.0) -> None:
        """An item could not be stored."""
        with self._lock:
            if len(self.failed) < MAX_FAILURES:
                self.failed.append(failure)
        self._note(ItemRow(failure.uri, "failed", failure.reason, round(ms, 1)))

    def _note(self, row: ItemRow) -> None:
        with self._lock:
            if row.status in _COUNTED:
                self.counts[_COUNTED[row.status]] += 1
            if self._sink is not None:
                self._sink(row)
            if self._progress is not None:
                self._progress.update(1)
                if row.status == "failed":
                    count = self.counts["failed_count"]
                    self._progress.set_postfix_str(f"{count} failed", refresh=False)

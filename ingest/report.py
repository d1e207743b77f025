"""``IngestReport``: the result of an ingest, with counts and the reason of every failure."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

from twinlens.ingest.sample import Failure
from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.paths import expand_home
from twinlens.search.printable import printable

Status = Literal[
    "stored",
    "text stored",
    "unchanged",
    "duplicate",
    "updated",
    "failed",
    "failed before",
    "left out",
]
#: What a moderation policy found in a new picture: "" is nothing, or that there is no policy.
Moderation = Literal["", "flagged", "held"]

#: Failures, and notices, listed in a report; all of them are counted.
MAX_FAILURES = 1_000


@dataclass(frozen=True, slots=True)
class Notice:
    """What an ingest passed over or could not keep of a file that did not fail, in a sentence."""

    uri: str
    text: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The result of one ingest.

    Attributes:
        images: images encoded and stored.
        texts: texts encoded and stored.
        unchanged: items that were stored already and were skipped.
        duplicates: further paths of images that were stored already, renamed files included.
        updated: stored images whose captions or metadata changed.
        removed: images deleted because no file contains them any more.
        missing: paths that no longer exist, whose images were kept because ``prune`` was not set.
        left_out: captions, and whole pictures, that the option ``leave_out`` names.
        flagged: how many of ``images`` the option ``policy`` flagged, with those it held back.
        held: how many of them it held back.
        failed: the first ``MAX_FAILURES`` items that could not be stored, with their reasons.
        failed_count: how many items could not be stored.
        failed_before: skipped items: they failed in an earlier run and have not changed since.
        notices: the first ``MAX_FAILURES`` notices: what was passed over or could not be kept.
        notice_count: how many notices there are.
        seconds: wall time.
        encode_seconds: time spent in the encoder.
    """

    images: int = 0
    texts: int = 0
    unchanged: int = 0
    duplicates: int = 0
    updated: int = 0
    removed: int = 0
    missing: int = 0
    left_out: int = 0
    flagged: int = 0
    held: int = 0
    failed: tuple[Failure, ...] = ()
    failed_count: int = 0
    failed_before: int = 0
    notices: tuple[Notice, ...] = ()
    notice_count: int = 0
    seconds: float = 0.0
    encode_seconds: float = 0.0

    @property
    def items(self) -> int:
        """How many items the sources contained."""
        stored = self.images + self.unchanged + self.duplicates + self.updated
        return stored + self.failed_count + self.failed_before

    @property
    def found_anything(self) -> bool:
        """Whether there were any items, or any stored paths that are gone."""
        found = self.items or self.texts or self.removed or self.missing or self.left_out
        return bool(found)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The result of one item; ``ms`` is the time to read and decode it."""

    uri: str
    status: Status
    reason: str = ""
    ms: float = 0.0
    moderation: Moderation = ""


#: Called with the row of every finished item.
ItemCallback = Callable[[ItemRow], None]


class IngestInterrupted(KeyboardInterrupt):
    """Ctrl-C ended an ingest; what it had encoded is stored, and the next run continues there.

    Attributes:
        report: what was done until then.
    """

    def __init__(self, report: IngestReport) -> None:
        super().__init__()
        self.report = report


class Notices:
    """Collects notices, each once; ``add`` may be called from any thread."""

    def __init__(self) -> None:
        self._listed: dict[Notice, None] = {}
        self._count = 0
        self._lock = threading.Lock()

    def add(self, uri: str, text: str) -> None:
        """Add a notice about a file."""
        notice = Notice(uri, text)
        with self._lock:
            if notice in self._listed:
                return
            self._count += 1
            if len(self._listed) < MAX_FAILURES:
                self._listed[notice] = None

    def texts(self, limit: int = 3) -> list[str]:
        """The first different sentences."""
        return list(dict.fromkeys(notice.text for notice in self._listed))[:limit]

    @property
    def listed(self) -> tuple[Notice, ...]:
        """The first ``MAX_FAILURES`` of them."""
        return tuple(self._listed)

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def added_to(self, report: IngestReport) -> IngestReport:
        """A report with these notices."""
        return replace(report, notices=self.listed, notice_count=self.count)


@contextmanager
def open_report(
    report: str | os.PathLike[str] | ItemCallback | None,
) -> Iterator[ItemCallback | None]:
    """Open a report file of JSON lines and yield a callback that writes to it.

    A callback or ``None`` is yielded as it is.

    Raises:
        UsageError: the file cannot be created.
        TwinlensError: the file cannot be written.
    """
    if report is None or callable(report):
        yield report
        return
    try:
        # Line-buffered, so that the report of a watch can be read while it is written.
        file = open(expand_home(report), "w", 1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        raise UsageError(_unwritten(report, error)) from error

    def write(row: ItemRow) -> None:
        try:
            print(printable(json.dumps(asdict(row), ensure_ascii=False)), file=file)
        except OSError as error:
            raise TwinlensError(_unwritten(report, error)) from error

    try:
        yield write
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise TwinlensError(_unwritten(report, error)) from error


def _unwritten(path: str | os.PathLike[str], error: OSError) -> str:
    return f"the report {os.fspath(path)} cannot be written: {error.strerror or error}"


class Progress(Protocol):
    """The methods of ``tqdm`` that an ingest calls on a progress bar."""

    def update(self, n: float = 1) -> object: ...

    def set_postfix_str(self, s: str, refresh: bool = True) -> object: ...


#: The count of the report that a status adds to.
_COUNTED: dict[Status, str] = {
    "stored": "images",
    "unchanged": "unchanged",
    "duplicate": "duplicates",
    "updated": "updated",
    "failed": "failed_count",
    "failed before": "failed_before",
    "left out": "left_out",
}


class Tally:
    """Count finished items, from any thread, and pass each on to a progress bar and a callback.

    Args:
        progress: updated with every finished item.
        on_item: called with the row of every finished item.
    """

    def __init__(
        self, progress: Progress | None = None, on_item: ItemCallback | None = None
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[Failure] = []
        self._progress = progress
        self._on_item = on_item
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    def report(self) -> IngestReport:
        """What was counted so far."""
        with self._lock:
            return IngestReport(
                **self.counts,
                failed=tuple(self.failed),
                notices=(),
                seconds=time.perf_counter() - self._began,
            )

    def item(self, uri: str, status: Status, ms: float = 0.0, moderation: Moderation = "") -> None:
        """Count a finished item."""
        self.add(ItemRow(uri, status, "", round(ms, 1), moderation))

    def captions_left_out(self, count: int) -> None:
        """Count captions that the option ``leave_out`` took away."""
        with self._lock:
            self.counts["left_out"] += count

    def failure(self, failure: Failure, ms: float = 0.0) -> None:
        """Count an item that could not be stored."""
        with self._lock:
            if len(self.failed) < MAX_FAILURES:
                self.failed.append(failure)
        self.add(ItemRow(failure.uri, "failed", failure.reason, round(ms, 1)))

    def add(self, row: ItemRow) -> None:
        """Count a row, and pass it on."""
        with self._lock:
            if row.status in _COUNTED:
                self.counts[_COUNTED[row.status]] += 1
            if row.moderation:
                self.counts["flagged"] += 1
                self.counts["held"] += row.moderation == "held"
            if self._on_item is not None:
                self._on_item(row)
            if self._progress is not None:
                self._progress.update(1)
                if row.status == "failed":
                    count = self.counts["failed_count"]
                    self._progress.set_postfix_str(f"{count} failed", refresh=False)

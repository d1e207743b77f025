"""What happened in a run: counts, and a row with its reason for every item that failed."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.sample import Failure

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

    @property
    def items(self) -> int:
        """Everything the sources held."""
        stored = self.images + self.unchanged + self.duplicates + self.updated
        return stored + self.failed_count + self.failed_before

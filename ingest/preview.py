"""``preview``: count what an ingest would do, without reading a picture or writing a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from twinlens.ingest.ledger import Ledger
from twinlens.ingest.report import Notice
from twinlens.ingest.sample import Item, Sample
from twinlens.search.milvus.collection import Collection


@dataclass(frozen=True, slots=True)
class Preview:
    """The result of a dry run.

    Attributes:
        new: items to read. Those whose bytes are stored already would not be encoded.
        changed: how many of these are stored with other contents.
        captions_changed: stored images whose captions or metadata would be updated.
        unchanged: items to skip.
        failed: items that cannot be stored, as far as can be told without reading them.
        failed_before: items to skip because they failed in an earlier run and have not changed.
        missing: stored paths that no longer exist, which ``prune`` would remove.
        left_out: captions, and whole pictures, that the option ``leave_out`` names.
        notices, notice_count: as in ``IngestReport``.
    """

    new: int
    changed: int
    captions_changed: int
    unchanged: int
    failed: int
    failed_before: int
    missing: int
    left_out: int = 0
    notices: tuple[Notice, ...] = ()
    notice_count: int = 0

    @classmethod
    def of(cls, counts: Counter[str], missing: Iterable[list[str]]) -> Preview:
        """The preview of items counted by status, and of missing paths."""
        return cls(
            new=counts["new"] + counts["changed"],
            changed=counts["changed"],
            captions_changed=counts["captions changed"],
            unchanged=counts["unchanged"],
            failed=counts["failed"],
            failed_before=counts["failed before"],
            missing=sum(map(len, missing)),
            left_out=counts["left out"],
        )


def preview(collection: Collection | None, items: Iterable[Item], roots: Iterable[str]) -> Preview:
    """Judge every item; ``collection`` is None where it does not exist yet."""
    all_roots = set(roots)
    with Ledger(collection) as ledger:
        counts = Counter[str]()
        for item, status, _ in ledger.judge_all(items, all_roots):
            counts[status] += 1
            counts["left out"] += item.left_out if isinstance(item, Sample) else 0
        ledger.find_missing(all_roots)
        return Preview.of(counts, ledger.missing(1_000))

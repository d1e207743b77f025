"""What an ingest would do, without reading a picture or writing a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from twinlens.ingest.ledger import Ledger, Verdict
from twinlens.ingest.sample import Failure, Item
from twinlens.search.milvus.collection import Collection


@dataclass(frozen=True, slots=True)
class Preview:
    """The outcome of a dry run.

    Attributes:
        new: items that would be read; those whose bytes are stored already would not be encoded.
        changed: of these, paths that held something else before.
        captions_changed: stored pictures whose captions or metadata would be updated.
        unchanged: items that would not be touched.
        failed: items that cannot be stored, as far as can be told without reading them.
        failed_before: items that failed in an earlier run and have not changed since.
        missing: paths that are gone from disk, which ``prune`` would remove.
    """

    new: int
    changed: int
    captions_changed: int
    unchanged: int
    failed: int
    failed_before: int
    missing: int


def preview(collection: Collection | None, items: Iterable[Item], roots: Iterable[str]) -> Preview:
    """Judge every item; ``corpus`` is None where there is no collection yet."""
    counts: Counter[Verdict | str] = Counter()
    all_roots = set(roots)
    with Ledger(collection) as ledger:
        for item in items:
            if isinstance(item, Failure):
                counts["failed"] += 1
                ledger.meet(item.uri)
                continue
            all_roots.add(item.root)
            verdict, known = ledger.judge(item)
            counts[verdict] += 1
            counts["changed"] += verdict == "new" and known is not None
        ledger.mark_gone(all_roots)
        missing = sum(map(len, ledger.gone(1_000)))
    return Preview(
        new=counts["new"],
        changed=counts["changed"],
        captions_changed=counts["captions changed"],
        unchanged=counts["unchanged"],
        failed=counts["failed"],
        failed_before=counts["failed before"],
        missing=missing,
    )

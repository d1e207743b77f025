"""``PolicyReport``: count what a policy found in pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from twinlens.search.analysis.policy.judge import Judge, Judged, Threshold
from twinlens.search.analysis.policy.measure import Measured


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What a policy found.

    Attributes:
        policy: the policy, ``NAME@VERSION``.
        source: where the pictures that thresholds were chosen from are: "collection", or "model"
            for those that come with twinlens.
        thresholds: one for each concept.
        pictures: how many were judged.
        flagged, held: how many of them show a concept, and a concept whose action is hold.
        failed: how many could not be read.
        concepts: how many show each concept.
        stored: whether it was written into the collection.
        measured: with labelled pictures, a result for each concept.
    """

    policy: str
    source: str
    thresholds: tuple[Threshold, ...]
    pictures: int = 0
    flagged: int = 0
    held: int = 0
    failed: int = 0
    concepts: tuple[tuple[str, int], ...] = ()
    stored: bool = False
    measured: tuple[Measured, ...] = ()

    @property
    def rough(self) -> bool:
        """Whether a threshold's share of false alarms is not known."""
        return any(threshold.expected is None for threshold in self.thresholds)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        plain = asdict(self) | {"concepts": dict(self.concepts), "rough": self.rough}
        plain["measured"] = [one.to_dict() for one in self.measured]
        return plain


def count_judged(
    judge: Judge,
    judged: Iterable[Judged],
    on_item: Callable[[Judged], object] | None = None,
    *,
    stored: bool = False,
) -> PolicyReport:
    """Count judged pictures.

    Args:
        judge: has judged them.
        judged: the pictures, which may come one by one.
        on_item: called with each.
        stored: see the attribute of ``PolicyReport``.
    """
    counts: Counter[str] = Counter()
    concepts: Counter[str] = Counter()
    for one in judged:
        counts["failed" if one.error else "pictures"] += 1
        counts["flagged"] += bool(one.flags)
        counts["held"] += one.held
        concepts.update(flag.concept for flag in one.flags)
        if on_item is not None:
            on_item(one)
    return PolicyReport(
        judge.policy.label,
        judge.source,
        judge.thresholds,
        concepts=tuple((one.concept, concepts[one.concept]) for one in judge.thresholds),
        stored=stored,
        pictures=counts["pictures"],
        flagged=counts["flagged"],
        held=counts["held"],
        failed=counts["failed"],
    )

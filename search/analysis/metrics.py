"""Ranks and nearest rows by every inner product, and recall with its confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinlens.search.models.base import Rows

Numbers = npt.NDArray[np.int64]
#: Where recall is measured: the usual three, and more for the plot.
KS = (1, 2, 3, 5, 10, 20, 50, 100)
#: Inner products nearer than this are the same: float32 sums depend on their order.
TIE = 1e-6
#: Rows per side of one block of inner products: 4 MB of queries' scores at a time.
_QUERIES, _GALLERY = 256, 4_096


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ranks(queries: Rows, gallery: Rows, pairs: Numbers) -> Numbers:
    """The rank of each query's nearest right answer, from 1; exact, block by block.

    Args:
        queries: float32 unit rows ``[n, dim]``.
        gallery: float32 unit rows ``[m, dim]``; it may be a memory map.
        pairs: int64 ``[p, 2]``: which row of the gallery answers which query. Every query has at
            least one.

    Returns:
        int64 ``[n]``: one more than the strangers that are as near as the nearest right answer.
    """
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    found = np.empty(len(queries), dtype=np.int64)
    for first in range(0, len(queries), _QUERIES):
        block = np.asarray(queries[first : first + _QUERIES])
        begin, end = np.searchsorted(pairs[:, 0], [first, first + len(block)])
        asks, answers = pairs[begin:end, 0] - first, pairs[begin:end, 1]
        right = np.einsum("pd,pd->p", block[asks], gallery[answers])
        best = np.full(len(block), -np.inf, dtype=np.float32)
        np.maximum.at(best, asks, right)
        bar = best[:, None] - np.float32(TIE)
        ahead = np.ones(len(block), dtype=np.int64)
        for start in range(0, len(gallery), _GALLERY):
            near = block @ gallery[start : start + _GALLERY].T >= bar
            here = (answers >= start) & (answers < start + near.shape[1])
            near[asks[here], answers[here] - start] = False
            ahead += near.sum(axis=1)
        found[first : first + len(block)] = ahead
    return found


def nearest(queries: Rows, gallery: Rows, k: int) -> tuple[Numbers, Rows]:
    """The exact ``k`` nearest rows of each query: int64 ``[n, k]`` and inner products, best first.

    Fewer than ``k`` columns where the gallery has fewer rows. Memory is bounded as in ``ranks``.
    """
    k = min(k, len(gallery))
    numbers = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    for first in range(0, len(queries), _QUERIES):
        block = np.asarray(queries[first : first + _QUERIES])
        held = np.empty((len(block), 0), dtype=np.float32)
        which = np.empty((len(block), 0), dtype=np.int64)
        for start in range(0, len(gallery), _GALLERY):
            new = block @ gallery[start : start + _GALLERY].T
            held = np.concatenate([held, new], axis=1)
            rows = np.broadcast_to(np.arange(start, start + new.shape[1]), new.shape)
            which = np.concatenate([which, rows], axis=1)
            order = np.argsort(-held, axis=1, kind="stable")[:, :k]
            held = np.take_along_axis(held, order, axis=1)
            which = np.take_along_axis(which, order, axis=1)
        numbers[first : first + len(block)] = which
        scores[first : first + len(block)] = held
    return numbers, scores


def bootstrap(
    found: Numbers, groups: Numbers, ks: Sequence[int] = KS, draws: int = 1_000, seed: int = 0
) -> tuple[dict[int, Estimate], Estimate]:
    """Recall@k and the median rank, with 95 % percentile intervals.

    Queries are drawn with replacement, those of one group together: the captions of one picture
    succeed and fail together, and an interval that took them for independent would be too narrow
    (the cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 3.8). Where every query succeeds, the interval is that one point, which says only that
    there were too few queries to see a failure.

    Args:
        found: int64 ``[n]``, ranks from 1.
        groups: int64 ``[n]``: equal numbers are drawn together.
        ks: where to measure recall.
        draws: how many resamples.
        seed: the same seed, the same interval.

    Returns:
        Recall by k, and the smallest rank that half of the queries reach.
    """
    order = np.argsort(found, kind="stable")
    sorted_ranks = found[order]
    names, member = np.unique(groups[order], return_inverse=True)
    until = np.searchsorted(sorted_ranks, ks, side="right")
    dice = np.random.default_rng(seed)

    def measure(weights: Numbers) -> Rows:
        reached = np.concatenate([[0], np.cumsum(weights)])
        middle = np.searchsorted(reached[1:], reached[-1] / 2)
        return np.array([*(reached[until] / reached[-1]), sorted_ranks[middle]], dtype=np.float64)

    point = measure(np.ones(len(found), dtype=np.int64))
    drawn = np.stack(
        [
            measure(
                np.bincount(dice.integers(0, len(names), len(names)), minlength=len(names))[member]
            )
            for _ in range(draws)
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    estimates = [
        Estimate(float(value), float(min(value, at_least)), float(max(value, at_most)))
        for value, at_least, at_most in zip(point, low, high, strict=True)
    ]
    return dict(zip(ks, estimates[:-1], strict=True)), estimates[-1]

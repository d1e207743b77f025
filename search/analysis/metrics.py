"""Compute exact ranks and nearest neighbours, and recall@k with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinlens.search.models.base import Rows

Numbers = npt.NDArray[np.int64]
#: The k of recall@k: the usual 1, 5 and 10, and more for the plot.
KS = (1, 2, 3, 5, 10, 20, 50, 100)
#: Inner products closer than this count as equal: float32 sums depend on their order.
TIE = 1e-6
#: Queries and gallery rows of one block of inner products: 4 MB.
BLOCK = 256, 4_096


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: int, trials: int) -> Estimate:
    """A share with its 95 % interval by Wilson (https://doi.org/10.2307/2276774); 0 to 1 of none.

    Args:
        successes: out of ``trials``.
        trials: independent ones.
    """
    if not trials:
        return Estimate(math.nan, 0.0, 1.0)
    z = 1.959964
    share, more = successes / trials, z * z / trials
    centre = (share + more / 2) / (1 + more)
    width = z * math.sqrt(share * (1 - share) / trials + more / (4 * trials)) / (1 + more)
    return Estimate(share, max(0.0, centre - width), min(1.0, centre + width))


def ranks(queries: Rows, gallery: Rows, pairs: Numbers, block: tuple[int, int] = BLOCK) -> Numbers:
    """Rank the nearest right answer of each query, from 1; exact, in blocks of inner products.

    Args:
        queries: float32 unit rows ``[n, dim]``.
        gallery: float32 unit rows ``[m, dim]``; may be a memory map.
        pairs: int64 ``[p, 2]``: the numbers of a query and of a row that answers it. Every query
            has at least one.
        block: queries and gallery rows that are compared at once.

    Returns:
        int64 ``[n]``: one more than the wrong answers that are as near as the nearest right one.
    """
    height, width = block
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    found = np.empty(len(queries), dtype=np.int64)
    for first in range(0, len(queries), height):
        some = np.asarray(queries[first : first + height])
        begin, end = np.searchsorted(pairs[:, 0], [first, first + len(some)])
        asking, answers = pairs[begin:end, 0] - first, pairs[begin:end, 1]
        right = np.einsum("pd,pd->p", some[asking], gallery[answers])
        best = np.full(len(some), -np.inf, dtype=np.float32)
        np.maximum.at(best, asking, right)
        bar = best[:, None] - np.float32(TIE)
        rank = np.ones(len(some), dtype=np.int64)
        for start in range(0, len(gallery), width):
            near = some @ gallery[start : start + width].T >= bar
            here = (answers >= start) & (answers < start + near.shape[1])
            near[asking[here], answers[here] - start] = False
            rank += near.sum(axis=1)
        found[first : first + len(some)] = rank
    return found


def nearest(
    queries: Rows, gallery: Rows, k: int, block: tuple[int, int] = BLOCK
) -> tuple[Numbers, Rows]:
    """Find the exact ``k`` nearest rows of each query; memory is bounded as in ``ranks``.

    Returns:
        Their numbers, int64 ``[n, k]``, and inner products, float32 ``[n, k]``, best first; with
        fewer columns if the gallery has fewer rows.
    """
    height, width = block
    k = min(k, len(gallery))
    numbers = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    for first in range(0, len(queries), height):
        some = np.asarray(queries[first : first + height])
        best = np.empty((len(some), 0), dtype=np.float32)
        which = np.empty((len(some), 0), dtype=np.int64)
        for start in range(0, len(gallery), width):
            new = some @ gallery[start : start + width].T
            best = np.concatenate([best, new], axis=1)
            rows = np.broadcast_to(np.arange(start, start + new.shape[1]), new.shape)
            which = np.concatenate([which, rows], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :k]
            best = np.take_along_axis(best, order, axis=1)
            which = np.take_along_axis(which, order, axis=1)
        numbers[first : first + len(some)] = which
        scores[first : first + len(some)] = best
    return numbers, scores


def bootstrap(
    found: Numbers, groups: Numbers, ks: Sequence[int] = KS, draws: int = 1_000, seed: int = 0
) -> tuple[dict[int, Estimate], Estimate]:
    """Estimate recall@k and the median rank, with 95 % bootstrap percentile intervals.

    Queries are resampled with replacement, those of one group together (the cluster bootstrap:
    Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8): the captions
    of one image tend to succeed or fail together, and treating them as independent would make the
    intervals too narrow. If every query succeeds, the interval is a single point, which says only
    that there were too few queries to see a failure.

    Args:
        found: int64 ``[n]``, ranks from 1.
        groups: int64 ``[n]``: queries with equal numbers are drawn together.
        ks: the k of recall@k.
        draws: number of resamples.
        seed: of the resampling.

    Returns:
        Recall by k, and the smallest rank that half of the queries reach.
    """
    order = np.argsort(found, kind="stable")
    sorted_ranks = found[order]
    names, member = np.unique(groups[order], return_inverse=True)
    until = np.searchsorted(sorted_ranks, ks, side="right")
    rng = np.random.default_rng(seed)

    def measure(weights: Numbers) -> Rows:
        reached = np.concatenate([[0], np.cumsum(weights)])
        middle = np.searchsorted(reached[1:], reached[-1] / 2)
        return np.array([*(reached[until] / reached[-1]), sorted_ranks[middle]], dtype=np.float64)

    point = measure(np.ones(len(found), dtype=np.int64))
    drawn = np.stack(
        [
            measure(
                np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[member]
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

"""Rank rows exactly: by inner product with vectors, and by BM25 for words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from twinlens.search.milvus.lite.arrays import SPARSE_TERM
from twinlens.search.milvus.lite.blocks import Block, Floats, Mask
from twinlens.search.milvus.lite.filters import mask_of
from twinlens.search.milvus.lite.rows import View

#: Where a row is: its block and its place there; and its score.
Ranked = tuple[int, int, float]
#: The most scores computed at once, for a bounded use of memory: 64 MB.
MAX_SCORES = 1 << 24
#: How many scores share a maximum.
GROUP = 64
#: With fewer rows than one in this many, vectors are gathered instead of scanned.
SPARSE = 4
#: BM25's constants, those of Milvus Lite.
K1, B = 1.5, 0.75
#: The constant of reciprocal rank fusion.
RRF = 60


def selected(view: View, expression: str) -> list[tuple[Block, Mask]]:
    """The live rows that satisfy an expression, as a mask of each block."""
    found = []
    for block, live in view:
        mask = mask_of(block, expression)
        found.append((block, live if mask is None else live & mask))
    return found


def nearest(rows: Sequence[tuple[Block, Mask]], queries: Floats, limit: int) -> list[list[Ranked]]:
    """The rows with the largest inner products, best first, for each query.

    Args:
        rows: which rows, as ``selected`` returns them.
        queries: float32 ``[n, dim]``.
        limit: how many.
    """
    found: list[list[tuple[float, int, int]]] = [[] for _ in queries]
    step = max(1, MAX_SCORES // max(1, len(queries)))
    for number, (block, mask) in enumerate(rows):
        count = int(mask.sum())
        if not count:
            continue
        places = None if count == len(block) else np.flatnonzero(mask)
        gather = places is not None and count * SPARSE < len(block)
        for start in range(0, count if gather else len(block), step):
            some = places[start : start + step] if gather and places is not None else None
            vectors = block.vectors[start : start + step] if some is None else block.vectors[some]
            scores = _products(vectors, queries)
            if some is None and places is not None:
                scores[~mask[start : start + step]] = -np.inf
            for query, best in enumerate(_best_of_each(scores, limit)):
                for place in best:
                    row = start + int(place) if some is None else int(some[place])
                    found[query].append((-float(scores[place, query]), number, row))
    return [
        [(block, row, -score) for score, block, row in sorted(hits)[:limit] if score < np.inf]
        for hits in found
    ]


def _products(vectors: Floats, queries: Floats) -> Floats:
    """The inner products ``[rows, n]``; with one query a matrix-vector product, which is faster."""
    if len(queries) == 1:
        column: Floats = (vectors @ queries[0])[:, None]
        return column
    products: Floats = vectors @ queries.T
    return products


def _best_of_each(scores: Floats, limit: int) -> list[npt.NDArray[np.int64]]:
    """The places of the largest scores ``[rows, n]`` of each query, in any order.

    The largest are among the groups with the largest maxima; finding those first takes a twentieth
    of the time of looking through all scores once more.
    """
    rows, queries = scores.shape
    groups = rows // GROUP
    if groups < 4 * limit:
        return [_best(column, limit) for column in scores.T]
    grouped = groups * GROUP
    maxima = scores[:grouped].reshape(GROUP, groups, queries).max(axis=0)
    members = np.arange(GROUP) * groups
    rest = np.arange(grouped, rows)
    found = []
    for query in range(queries):
        places = (_best(maxima[:, query], limit)[:, None] + members).reshape(-1)
        places = np.concatenate([places, rest])
        found.append(places[_best(scores[places, query], limit)])
    return found


def _best(scores: Floats, limit: int) -> npt.NDArray[np.int64]:
    """The places of the largest scores, in any order."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    return np.argpartition(scores, -limit)[-limit:]


def by_words(
    view: View, rows: Sequence[tuple[Block, Mask]], terms: dict[int, float], limit: int
) -> list[Ranked]:
    """The rows with the highest BM25 for some words, best first; rows without any are left out.

    score = sum over terms of idf · tf · (k1 + 1) / (tf + k1 · (1 - b + b · length / mean length))
    idf   = ln(1 + (N - df + 0.5) / (df + 0.5))

    (Robertson & Zaragoza, 2009, https://doi.org/10.1561/1500000019), over all live rows.

    Args:
        view: all rows, for the statistics.
        rows: those to rank, as ``selected`` returns them.
        terms: the weight of each term of the query, by the term's hash.
        limit: how many.
    """
    postings = [_Postings.of(block) for block, _ in view]
    live = [mask for _, mask in view]
    total = sum(int(mask.sum()) for mask in live)
    words = sum(float(p.lengths[mask].sum()) for p, mask in zip(postings, live, strict=True))
    mean = words / total if words else 1.0
    scores = [np.zeros(len(block)) for block, _ in view]
    for term, weight in terms.items():
        having = [p.of_term(term) for p in postings]
        frequency = sum(int(mask[docs].sum()) for (docs, _), mask in zip(having, live, strict=True))
        if not frequency:
            continue
        idf = np.log((total - frequency + 0.5) / (frequency + 0.5) + 1)
        for (docs, tf), p, score in zip(having, postings, scores, strict=True):
            norm = K1 * (1 - B + B * p.lengths[docs] / mean)
            score[docs] += idf * weight * tf * (K1 + 1) / (tf + norm)
    found = []
    for number, (score, (_, mask)) in enumerate(zip(scores, rows, strict=True)):
        score[~mask] = 0
        best = np.flatnonzero(score)
        best = best[_best(score[best].astype(np.float32), limit)] if len(best) > limit else best
        found += [(-float(score[row]), number, int(row)) for row in best]
    return [(number, row, -score) for score, number, row in sorted(found)[:limit]]


class _Postings:
    """The term frequencies of a block's rows.

    Attributes:
        docs, terms, counts: one entry for each row and term.
        lengths: the number of words of each row.
    """

    def __init__(self, block: Block) -> None:
        column = block.table.column("sparse").combine_chunks()
        offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)
        offsets = offsets[column.offset : column.offset + len(column) + 1] // 8
        data = column.buffers()[2] or b""
        entries = np.frombuffer(data, dtype=SPARSE_TERM, count=int(offsets[-1]))[int(offsets[0]) :]
        self.docs = np.repeat(np.arange(len(column), dtype=np.int32), np.diff(offsets))
        self.terms, self.counts = entries["term"], entries["count"]
        self.lengths = np.bincount(self.docs, weights=self.counts, minlength=len(column))

    @classmethod
    def of(cls, block: Block) -> _Postings:
        """The postings of a block, decoded once."""
        if block.postings is None:
            block.postings = cls(block)
        assert isinstance(block.postings, cls)
        return block.postings

    def of_term(self, term: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """The rows that have a term, and how often."""
        (where,) = np.nonzero(self.terms == term)
        return self.docs[where], self.counts[where].astype(np.float64)


def fuse(rankings: Sequence[Sequence[Ranked]], limit: int, offset: int) -> list[Ranked]:
    """Fuse rankings by reciprocal rank, best first: the score is the sum of 1 / (60 + rank)."""
    scores: dict[tuple[int, int], float] = {}
    for ranking in rankings:
        for rank, (block, row, _) in enumerate(ranking, 1):
            scores[block, row] = scores.get((block, row), 0.0) + 1 / (RRF + rank)
    best = sorted(scores.items(), key=lambda one: -one[1])[offset : offset + limit]
    return [(block, row, score) for (block, row), score in best]

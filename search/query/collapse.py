"""Near-duplicates among ranked rows: folded into the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinlens.search.models.base import Rows


@dataclass(frozen=True, slots=True)
class Folded:
    """What is left.

    Attributes:
        kept: places of rows that are like no better one, best first.
        duplicates: how many rows were folded into each of them.
        read: how many rows were looked at: those behind them were not wanted any more.
    """

    kept: list[int]
    duplicates: list[int]
    read: int


def fold(rows: Rows, limit: int, cosine: float, before: Rows) -> Folded:
    """Go through rows, best first, until there would be one more than ``limit`` to keep.

    Args:
        rows: float32 unit rows ``[n, dim]``, best first.
        limit: how many to keep.
        cosine: a row that is nearer than this to one kept is folded into the nearest of them.
        before: unit rows ``[m, dim]`` kept on earlier pages, which rows are folded into uncounted.
    """
    kept: list[int] = []
    duplicates: list[int] = []
    best = np.empty((len(before) + min(limit, len(rows)), rows.shape[1]), dtype=np.float32)
    best[: len(before)] = before
    for place, row in enumerate(rows):
        count = len(before) + len(kept)
        likeness = best[:count] @ row
        nearest = int(likeness.argmax()) if count else -1
        if count and float(likeness[nearest]) > cosine:
            if nearest >= len(before):
                duplicates[nearest - len(before)] += 1
        elif len(kept) == limit:
            return Folded(kept, duplicates, place)
        else:
            best[count] = row
            kept.append(place)
            duplicates.append(0)
    return Folded(kept, duplicates, len(rows))

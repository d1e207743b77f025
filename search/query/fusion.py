"""Fuse the parts of a query into one unit row, so that a single search answers it.

Late fusion adds a row's standard scores for the parts, ``sum_i w_i (x.e_i - m_i) / s_i``, where
``m_i`` and ``s_i`` are the mean and standard deviation of part ``i``'s cosines over the collection.
The means are the same for every ``x`` and do not change the ranking, so one search with
``sum_i w_i e_i / s_i`` ranks the same. Dividing by ``s_i`` gives texts and images equal weight,
although their cosines spread differently. ``docs/guide/queries.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.search.errors import UsageError
from twinlens.search.models.base import Rows

#: With fewer sampled rows than this, the spread is not estimated.
MIN_SAMPLE = 8
#: Bounds the weight of a part that has nearly the same cosine with every row.
MIN_SPREAD = 1e-3
#: The fused row's least length, as a share of the sum of the weights; below, the parts cancel out.
MIN_LENGTH = 1e-4


def spread(rows: Rows, sample: Rows) -> list[float]:
    """The standard deviation of each part's cosines over the searched collection.

    Args:
        rows: the parts' float32 unit rows ``[n, dim]``.
        sample: float32 unit rows ``[m, dim]`` of the collection; too few give 1 for every part.
    """
    if len(sample) < MIN_SAMPLE:
        return [1.0] * len(rows)
    deviations = (sample @ rows.T).std(axis=0)
    return [max(float(deviation), MIN_SPREAD) for deviation in deviations]


def fuse(rows: Rows, weights: Sequence[float], spreads: Sequence[float]) -> Rows:
    """Fuse the rows of parts into one unit row ``[dim]``.

    Args:
        rows: the parts' float32 unit rows ``[n, dim]``.
        weights: of each part; below 0 for what hits should be unlike.
        spreads: see ``spread``.

    Raises:
        UsageError: the parts cancel out.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.asarray(spreads, dtype=np.float64)
    row = shares @ rows.astype(np.float64)
    length = float(np.linalg.norm(row))
    if not length > MIN_LENGTH * float(np.abs(shares).sum()):
        raise UsageError("the parts of the query cancel out: nothing is left to search for")
    unit: Rows = (row / length).astype(np.float32)
    return unit

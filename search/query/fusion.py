"""The rows of a query's parts → one unit row, so that one search answers them all.

Late fusion adds up what each part says of a row ``x``, on one scale: ``sum_i w_i (x.e_i - m_i) /
s_i``, with ``m_i`` and ``s_i`` the mean and standard deviation of part ``i``'s cosines over the
collection. The means are the same for every ``x`` and change no ranking, so this ranks as one
search with ``sum_i w_i e_i / s_i`` does. Dividing by ``s_i`` is what makes words and pictures count
alike: their cosines spread differently. ``docs/guide/queries.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.search.errors import UsageError
from twinlens.search.models.base import Rows

#: With fewer rows than this there is no spread to speak of.
ENOUGH = 8
#: A part that is equally near to every row must not count without bound.
MIN_SPREAD = 1e-3
#: Parts that take each other away leave this much at least, of the sum of their weights.
MIN_LENGTH = 1e-4


def spread(rows: Rows, sample: Rows) -> list[float]:
    """The standard deviation of each part's cosines over the searched collection.

    Args:
        rows: the parts' float32 unit rows ``[n, dim]``.
        sample: float32 unit rows ``[m, dim]`` of the collection; with too few, all parts get 1.
    """
    if len(sample) < ENOUGH:
        return [1.0] * len(rows)
    deviations = (sample @ rows.T).std(axis=0)
    return [max(float(deviation), MIN_SPREAD) for deviation in deviations]


def fuse(rows: Rows, weights: Sequence[float], spreads: Sequence[float]) -> Rows:
    """The unit row ``[dim]`` that ranks as the parts do together.

    Args:
        rows: the parts' float32 unit rows ``[n, dim]``.
        weights: how much each counts; below 0 for what should not be there.
        spreads: see ``spread``.

    Raises:
        UsageError: the parts take each other away.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.asarray(spreads, dtype=np.float64)
    row = shares @ rows.astype(np.float64)
    length = float(np.linalg.norm(row))
    if not length > MIN_LENGTH * float(np.abs(shares).sum()):
        raise UsageError("the parts of the query take each other away: nothing is left to look for")
    unit: Rows = (row / length).astype(np.float32)
    return unit

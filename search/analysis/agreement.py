"""Compare each caption with the other captions of its picture: those that disagree may be wrong.

A caption's mean cosine with the other captions is compared with its mean cosine with those of
another picture, which is that of unrelated captions. Both are taken as normal with one spread, so
that the log odds are linear (linear discriminant analysis). The centre of true captions is the
median, which wrong ones hardly move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twinlens.search.analysis.metrics import Numbers
from twinlens.search.models.base import Rows
from twinlens.search.query.calibration import Reals

#: Captions read at once, at least.
BLOCK = 4_096
#: Captions with others beside them from which the centres can be measured.
MIN_CAPTIONS = 32
#: A normal distribution's spread in median absolute deviations.
_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near captions of one picture are to each other, and those of different pictures.

    Attributes:
        centre: the usual mean cosine of a caption with the other captions of its picture.
        unrelated: with the captions of another picture.
        variance: of both. 0 if they cannot be told apart, or too few captions have others.
    """

    centre: float = 0.0
    unrelated: float = 0.0
    variance: float = 0.0

    @classmethod
    def of(cls, texts: Rows, owners: Numbers) -> tuple[Agreement, Reals]:
        """Compare all captions of a collection.

        Args:
            texts: float32 unit rows ``[m, dim]``; may be a memory map.
            owners: int64 ``[m]``: the number of each caption's picture.

        Returns:
            The statistics, and float64 ``[m]``: each caption's mean cosine with the others of its
            picture, NaN if it has none.
        """
        own = np.full(len(owners), np.nan)
        foreign: list[Reals] = [np.empty(0)]
        for numbers, starts in _blocks(owners):
            rows = np.asarray(texts[numbers])
            sums = np.add.reduceat(rows, starts, axis=0)
            counts = np.diff(starts, append=len(rows))
            picture = np.repeat(np.arange(len(starts)), counts)
            others = counts[picture] > 1
            with_own = np.einsum("nd,nd->n", rows[others], sums[picture[others]]) - 1
            own[numbers[others]] = with_own / (counts[picture[others]] - 1)
            if len(starts) > 1:
                next_one = (picture[others] + 1) % len(starts)
                mean = sums[next_one] / counts[next_one, None]
                foreign.append(np.einsum("nd,nd->n", rows[others], mean).astype(np.float64))
        known, unrelated = own[~np.isnan(own)], np.concatenate(foreign)
        if min(len(known), len(unrelated)) < MIN_CAPTIONS:
            return cls(), own
        centre, none = float(np.median(known)), float(unrelated.mean())
        spread = _MAD * float(np.median(np.abs(known - centre)))
        variance = (spread**2 + float(unrelated.var())) / 2
        return cls(centre, none, variance if centre > none else 0.0), own

    def log_odds(self, means: Reals) -> Reals:
        """Log odds that captions belong to a picture, by their mean cosine with its captions.

        0 where the mean is NaN.
        """
        if self.variance <= 0:
            return np.zeros(len(means))
        between = (self.centre + self.unrelated) / 2
        odds: Reals = (self.centre - self.unrelated) * (means - between) / self.variance
        return np.nan_to_num(odds)


def _blocks(owners: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """The captions' numbers by picture, some whole pictures at a time, and where each begins."""
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=-1))
    first = 0
    while first < len(starts):
        end = max(first + 1, int(np.searchsorted(starts, starts[first] + BLOCK)))
        stop = starts[end] if end < len(starts) else len(order)
        yield order[starts[first] : stop], starts[first:end] - starts[first]
        first = end

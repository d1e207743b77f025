"""Explain why a caption does not fit its picture: search the whole collection for what fits better.

All comparisons are exact, in blocks of inner products, whatever index the collection has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinlens.search.analysis.agreement import Agreement
from twinlens.search.analysis.duplicates import THRESHOLD
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.analysis.metrics import TIE, Numbers, nearest, ranks
from twinlens.search.models.base import Rows
from twinlens.search.query.calibration import Reals, logistic

#: How many of the pictures that fit a caption best may be the one it was swapped with.
SWAP_PICTURES = 50
#: Near-duplicates of a picture that are looked at.
DUPLICATES = 10
#: The nearest captions that are looked at for one of another picture.
_CAPTIONS = 32
#: A pair fits from this probability on.
FITS = 0.5
#: How much a picture's other captions count: they may be wrong themselves.
AGREEMENT_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge pairs by their own vectors, and by the picture's other captions.

    Attributes:
        calibration: of a pair's own vectors.
        agreement: of captions of one picture.
    """

    calibration: PairCalibration
    agreement: Agreement

    def probability(self, text_rows: Rows, image_rows: Rows, means: Reals) -> Reals:
        """The probability that each pair belongs together: float64 ``[n]``.

        Args:
            text_rows, image_rows: float32 unit rows ``[n, dim]``.
            means: float64 ``[n]``: the mean cosine with the picture's other captions, or NaN.
        """
        return self.combine(self.calibration.match(text_rows, image_rows), means)

    def combine(self, matches: Reals, means: Reals) -> Reals:
        """The probabilities by the vectors and by the other captions, as one."""
        inside = np.clip(matches, 1e-15, 1 - 1e-15)
        odds = np.log(inside) - np.log1p(-inside)
        return logistic(odds + AGREEMENT_WEIGHT * self.agreement.log_odds(means))

    def by_others(self, mean: float) -> float | None:
        """The probability by the other captions alone; ``None`` if nothing can be told by them."""
        if np.isnan(mean) or self.agreement.variance <= 0:
            return None
        return float(logistic(self.agreement.log_odds(np.array([mean])))[0])


@dataclass(frozen=True, slots=True, eq=False)
class Reasons:
    """What explains each of ``n`` pairs; int64 ``[n]`` each. A number of -1 means that none does.

    Attributes:
        image_rank: 1 more than the pictures that are nearer to the caption than its own.
        text_rank: 1 more than the captions of other pictures that are nearer to the picture.
        better_image: the number of the nearest picture, if it is not the caption's own.
        better_text: the number of another picture's caption that is nearer than the caption.
        swapped: the number of the caption that it was swapped with.
        duplicate: the number of a caption that fits, of a near-duplicate picture.
    """

    image_rank: Numbers
    text_rank: Numbers
    better_image: Numbers
    better_text: Numbers
    swapped: Numbers
    duplicate: Numbers


def explain(
    pairs: Numbers,
    texts: Rows,
    images: Rows,
    owners: Numbers,
    probabilities: Reals,
    judge: Judge,
) -> Reasons:
    """Look for what explains some pairs.

    A caption t of a picture i is swapped with a caption u of a picture j if neither fits its own
    picture (probability below 0.5), and each fits the other's.

    Args:
        pairs: the numbers of the captions to explain.
        texts, images: float32 unit rows ``[m, dim]``; may be memory maps.
        owners: int64 ``[m]``: the number of each caption's picture.
        probabilities: float64 ``[m]``: how likely each caption belongs to it.
        judge: judges other pairs.
    """
    siblings = _Siblings(owners)
    asked, own = np.asarray(texts[pairs]), np.asarray(images[owners[pairs]])
    everyone = np.arange(len(pairs))
    near_images, image_scores = nearest(asked, images, SWAP_PICTURES + 1)
    near_texts, text_scores = nearest(own, texts, _CAPTIONS)
    copies, copy_scores = nearest(own, images, DUPLICATES + 1)
    text_rank = ranks(own, texts, np.stack([everyone, pairs], axis=1))
    better_image, better_text, swapped, duplicate = (
        np.full(len(pairs), -1, dtype=np.int64) for _ in range(4)
    )
    for at, number in enumerate(pairs):
        owner = owners[number]
        bar = float(asked[at] @ own[at]) + TIE
        mine = siblings.of(owner)
        better = np.asarray(texts[mine]) @ own[at] >= bar - 2 * TIE
        text_rank[at] = max(1, text_rank[at] - int((better & (mine != number)).sum()))
        if len(near_images[at]) and image_scores[at, 0] > bar:
            better_image[at] = near_images[at, 0]
        others = near_texts[at][(owners[near_texts[at]] != owner) & (text_scores[at] > bar)]
        better_text[at] = others[0] if len(others) else -1
        if probabilities[number] >= FITS:
            continue
        likely = near_images[at][near_images[at] != owner]
        misfits = siblings.of_all(likely)
        misfits = misfits[probabilities[misfits] < FITS]
        swapped[at] = _swapped(int(number), misfits, texts, images, owners, siblings, judge)
        near = copies[at][(copy_scores[at] >= THRESHOLD) & (copies[at] != owner)]
        fitting = siblings.of_all(near)
        fitting = fitting[probabilities[fitting] >= FITS]
        duplicate[at] = _fitting(fitting, own[at], texts, judge.calibration)
    return Reasons(
        image_rank=ranks(asked, images, np.stack([everyone, owners[pairs]], axis=1)),
        text_rank=text_rank,
        better_image=better_image,
        better_text=better_text,
        swapped=swapped,
        duplicate=duplicate,
    )


class _Siblings:
    """The captions of each picture."""

    def __init__(self, owners: Numbers) -> None:
        self._order = np.argsort(owners, kind="stable")
        self._sorted = owners[self._order]

    def of(self, image: int) -> Numbers:
        """The numbers of a picture's captions."""
        first, end = np.searchsorted(self._sorted, [image, image + 1])
        return self._order[first:end]

    def of_all(self, images: Numbers) -> Numbers:
        """The numbers of the captions of several pictures."""
        empty = np.empty(0, dtype=np.int64)
        return np.concatenate([empty, *(self.of(int(image)) for image in images)])


def _swapped(
    number: int,
    candidates: Numbers,
    texts: Rows,
    images: Rows,
    owners: Numbers,
    siblings: _Siblings,
    judge: Judge,
) -> int:
    """The caption that another was swapped with; -1 for none."""
    if not len(candidates):
        return -1
    mine = siblings.of(owners[number])
    here, there = images[owners[number]], np.asarray(images[owners[candidates]])
    comes, goes = np.asarray(texts[candidates]), np.broadcast_to(texts[number], there.shape)
    beside_me = np.asarray(texts[mine[mine != number]])
    with_mine = np.full(len(candidates), np.nan)
    if len(beside_me):
        with_mine = (comes @ beside_me.mean(axis=0)).astype(np.float64)
    with_theirs = np.full(len(candidates), np.nan)
    for at, candidate in enumerate(candidates):
        theirs = siblings.of(owners[candidate])
        theirs = theirs[theirs != candidate]
        if len(theirs):
            with_theirs[at] = float((np.asarray(texts[theirs]) @ texts[number]).mean())
    both = np.minimum(
        judge.probability(goes, there, with_theirs),
        judge.probability(comes, np.broadcast_to(here, there.shape), with_mine),
    )
    best = int(both.argmax())
    return int(candidates[best]) if both[best] >= FITS else -1


def _fitting(candidates: Numbers, image: Rows, texts: Rows, calibration: PairCalibration) -> int:
    """The caption of another picture that fits a picture best; -1 if none fits."""
    if not len(candidates):
        return -1
    rows = np.asarray(texts[candidates])
    fits = calibration.match(rows, np.broadcast_to(image, rows.shape))
    best = int(fits.argmax())
    return int(candidates[best]) if fits[best] >= FITS else -1

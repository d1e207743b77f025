"""Score pairs of a text and a picture: do they belong together?

The cosine of a pair means little by itself, so it is compared with the cosines of unrelated pairs,
as for relevance (``twinlens.search.query.calibration``):

    z      = (cosine - centre) / spread     in standard deviations of unrelated pairs
    match  = 1 / (1 + exp((half - z) / width))

``centre`` and ``spread`` are a collection's or a model's. ``half`` and ``width`` follow from how
far the model's true pairs lie from unrelated ones: ``docs/reference/match.md`` has the statistics.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from twinlens.search.analysis.background import ModelBackground
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.query.calibration import (
    MIN_QUERIES,
    SENTENCE_SPREAD,
    Calibration,
    CalibrationCache,
    Reals,
    logistic,
)

Verdict = Literal["match", "unsure", "mismatch"]

#: From this probability on a pair is a match, and down to that one a mismatch: odds of 4 to 1.
MATCH_FROM = 0.8
MISMATCH_TO = 0.2
#: Two normal distributions of spread 1, ``distance`` apart, have equal densities half-way, and log
#: odds of slope ``distance`` there (linear discriminant analysis). What ``starter`` was measured
#: with (``benchmarks/match.py``) corrects both:
HALF_FACTOR = 0.52
WIDTH_FACTOR = 1.15
#: The distance of true pairs, in ``spread``, if a model's own cannot be measured; and what counts
#: as one: below, the model does not understand the photographs that come with twinlens.
DISTANCE = 3.0
MIN_DISTANCE, MAX_DISTANCE = 1.0, 12.0
#: The least share of the model's distance that a collection's own may be.
LEAST_SHARE = 0.6
#: CLIPScore's factor, called w in the paper.
CLIP_SCORE_SCALE = 2.5


@dataclass(frozen=True, slots=True)
class PairMatch:
    """How well one text fits one picture.

    Attributes:
        image: the picture's name, or its number among the given pictures.
        text: the text.
        cosine: of their embeddings.
        match: the probability that they belong together, in a mix of as many true pairs as
            swapped ones.
        verdict: what ``match`` means, see ``verdict``.
        probability: the share of this text among the texts asked of the picture, at the model's
            own temperature, as ``classify`` gives for what is encoded; ``None`` for a single text.
        clip_score: see ``clip_score``.
        ref_clip_score: see ``ref_clip_score``; ``None`` without references.
        error: why the picture cannot be read; "" if it can. The numbers are 0 then.
    """

    image: str
    text: str
    cosine: float = 0.0
    match: float = 0.0
    verdict: Verdict = "unsure"
    probability: float | None = None
    clip_score: float = 0.0
    ref_clip_score: float | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON; a failed pair has its error and no numbers."""
        if self.error:
            return {"image": self.image, "text": self.text, "error": self.error}
        plain = asdict(self)
        del plain["error"]
        return plain


@dataclass(frozen=True, slots=True, eq=False)
class PairCalibration:
    """The statistics that turn the cosine of a text and a picture into a probability.

    Attributes:
        calibration: unrelated pairs, as for the relevance of pictures found by a text.
        distance: how far true pairs lie from them, in ``spread``.
    """

    calibration: Calibration
    distance: float = DISTANCE

    @classmethod
    def of_collection(cls, calibrations: CalibrationCache, encoder: Encoder) -> PairCalibration:
        """Compare with the pictures and texts of a collection.

        The distance of true pairs is the median of its own texts and their pictures, if there are
        at least ``MIN_QUERIES``: among pictures of one kind it is shorter. A median bears some
        wrong captions; ``LEAST_SHARE`` bounds what many of them do. With fewer than
        ``MIN_QUERIES`` pictures, all of it is the model's.

        Args:
            calibrations: of the collection, ``SearchEngine.calibrations``.
            encoder: the collection's model.
        """
        of_model = cls.of_model(encoder)
        found = calibrations.get("text", "images")
        if len(found.sample) < MIN_QUERIES:
            return of_model
        distance = of_model.distance
        texts, images = calibrations.true_pairs()
        if len(texts) >= MIN_QUERIES:
            own = float(np.median(found.z_scores(texts, cosines(texts, images))))
            distance = min(max(own, LEAST_SHARE * distance), MAX_DISTANCE)
        return cls(found, distance)

    @classmethod
    def of_model(cls, encoder: Encoder) -> PairCalibration:
        """Compare with the sentences and photographs that come with twinlens.

        The first time with a model, about 50 pictures and 300 texts are encoded.
        """
        sigmoid: tuple[float, float] | None = getattr(encoder, "sigmoid", None)
        key = encoder.fingerprint.digest, sigmoid
        with _made_lock:
            made = _made.get(key)
            if made is None:
                made = _made[key] = cls._of_model(encoder, sigmoid)
            return made

    @classmethod
    def _of_model(cls, encoder: Encoder, sigmoid: tuple[float, float] | None) -> PairCalibration:
        background = ModelBackground.of(encoder)
        calibration = Calibration.of(
            "text",
            "images",
            background.images,
            background.sentences,
            len(background.images),
            spread_factor=SENTENCE_SPREAD,
            sigmoid=sigmoid,
        )
        own = background.images[background.owners]
        z = calibration.z_scores(background.captions, cosines(background.captions, own))
        distance = float(np.median(z))
        if not distance >= MIN_DISTANCE:
            distance = DISTANCE
        return cls(calibration, min(distance, MAX_DISTANCE))

    @property
    def half(self) -> float:
        """The z at which a pair is as likely a true one as a swapped one."""
        return HALF_FACTOR * self.distance

    @property
    def width(self) -> float:
        """How many z change the odds by a factor of e."""
        return WIDTH_FACTOR / self.distance

    def match(self, text_rows: Rows, image_rows: Rows) -> Reals:
        """The probability that each pair belongs together: float64 ``[n]``.

        It is right for a mix of as many true pairs as random swaps. Where true pairs are rarer, it
        is too high: multiply its odds by those of a true pair.

        A model that was trained with a sigmoid loss predicts this by itself, for one true pair
        among thousands of swaps; the higher of the two counts.

        Args:
            text_rows, image_rows: float32 unit rows ``[n, dim]``; row ``i`` of both is a pair.
        """
        scores = cosines(text_rows, image_rows)
        log_odds = (self.calibration.z_scores(text_rows, scores) - self.half) / self.width
        if self.calibration.sigmoid is not None:
            scale, bias = self.calibration.sigmoid
            log_odds = np.maximum(log_odds, scale * scores + bias)
        return logistic(log_odds)


#: Those of models, by digest and sigmoid.
_made: LRUCache[tuple[str, tuple[float, float] | None], PairCalibration] = LRUCache(8)
_made_lock = threading.Lock()


def verdict(probability: float) -> Verdict:
    """A ``match`` from 0.8 on, a ``mismatch`` up to 0.2, ``unsure`` between."""
    if probability >= MATCH_FROM:
        return "match"
    return "mismatch" if probability <= MISMATCH_TO else "unsure"


def cosines(text_rows: Rows, image_rows: Rows) -> Reals:
    """The cosine of each pair of unit rows ``[n, dim]``: float64 ``[n]``."""
    found: Reals = np.einsum("nd,nd->n", text_rows, image_rows, dtype=np.float64)
    return found


def clip_score(text_rows: Rows, image_rows: Rows) -> Reals:
    """CLIPScore of each pair: ``2.5 * max(cosine, 0)``, float64 ``[n]``.

    From https://arxiv.org/abs/2104.08718, section 3. The paper's figures are of CLIP ViT-B/32 with
    "A photo depicts" before each text. It depends on the model: compare only scores of one model.

    Args:
        text_rows, image_rows: float32 unit rows ``[n, dim]``; row ``i`` of both is a pair.
    """
    return CLIP_SCORE_SCALE * np.maximum(cosines(text_rows, image_rows), 0.0)


def ref_clip_score(
    text_rows: Rows,
    image_rows: Rows,
    reference_rows: Rows,
    owned: npt.NDArray[np.bool_] | None = None,
) -> Reals:
    """RefCLIPScore of each pair, with reference texts for its picture: float64 ``[n]``.

    The harmonic mean of CLIPScore and ``max(0, highest cosine of text and reference)``; 0 if either
    is 0. From https://arxiv.org/abs/2104.08718, section 3.1.

    Args:
        text_rows, image_rows: float32 unit rows ``[n, dim]``; row ``i`` of both is a pair.
        reference_rows: float32 unit rows ``[m, dim]``.
        owned: bool ``[n, m]``: which references belong to which pair, at least one to each;
            default: all to all.
    """
    near = text_rows.astype(np.float64) @ reference_rows.T.astype(np.float64)
    if owned is not None:
        near = np.where(owned, near, -1.0)
    reference = np.maximum(near.max(axis=1), 0.0)
    score = clip_score(text_rows, image_rows)
    total = score + reference
    found: Reals = np.divide(2 * score * reference, total, np.zeros_like(total), where=total > 0)
    return found

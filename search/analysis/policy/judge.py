"""``Judge``: decide what pictures show by a policy, with thresholds for a wanted false-alarm rate.

A concept's texts and examples are rows of the model. Cosines of a picture with a text are much
lower than with another picture, and some texts are close to everything; so each row's cosines are
compared with those that ordinary pictures, the background, have with the same row:

    z(picture, row) = (cosine - mean over the background) / standard deviation over the background
    score(picture)  = the largest z over the concept's texts and examples

A picture shows the concept if its score is above the k-th largest score of the ``n`` background
pictures, where ``k = floor(false_alarms * (n + 1))``. Whatever the distribution of scores, a new
picture of the background's kind is then flagged with a probability of at most ``false_alarms``
(split conformal prediction: Bates et al., Testing for outliers with conformal p-values, 2023,
https://arxiv.org/abs/2104.08279, section 2). Where ``k`` is 0, too few pictures for such a small
share, the scores are taken to be normal, and the threshold is extrapolated.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.background import ModelBackground
from twinlens.search.analysis.metrics import Estimate
from twinlens.search.analysis.pictures import read_pictures
from twinlens.search.analysis.policy.file import SCORE, Action, Concept, Example, Policy
from twinlens.search.errors import UsageError
from twinlens.search.filters import compile_filter
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.batches import encode_texts
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.query.calibration import Reals, sample_rows
from twinlens.search.records import FLAG, FLAGGED, HELD, POLICY, POLICY_DIGEST, REVIEW, Row

#: A background picture this similar to an example, or to a picture that is measured, is left out.
SAME = 0.97
#: With fewer pictures than this, means and deviations say little.
MIN_BACKGROUND = 20
#: From this many pictures on, a collection is its own background.
MIN_OWN = 100
#: Avoids division by zero for a row that is equally far from every picture.
_MIN_SPREAD = 1e-4
#: Scores closer than this are equal: inner products of float32 depend on their order.
_TIE = 1e-4
_DRAWS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """Ordinary pictures.

    Attributes:
        rows: float32 unit rows ``[n, dim]``.
        source: a sample of the collection that is judged, or the pictures that come with twinlens.
    """

    rows: Rows
    source: Literal["collection", "model"]

    @classmethod
    def of(
        cls, encoder: Encoder, collection: Collection | None = None, where: str = ""
    ) -> Background:
        """A sample of about 1,000 pictures of a collection; twinlens' own if it has too few.

        What a reviewer holds back is no ordinary picture. With twinlens' own, thresholds are rough:
        49 photographs stand for all there are.

        Args:
            encoder: the model.
            collection: where pictures are stored.
            where: a filter for the ordinary ones among them.

        Raises:
            FilterError: the filter is not valid.
        """
        if collection is not None:
            fields = collection.fields("images")
            parts = [f"({where})"] if where else []
            if REVIEW in fields:
                parts.append(f'not {REVIEW} == "held"')
            expression = compile_filter(" and ".join(parts), fields, collection.capabilities)
            count = collection.count("images", expression)
            if count >= MIN_OWN:
                sample = sample_rows(collection, "images", count, expression)
                return cls(sample.rows, "collection")
        return cls(ModelBackground.of(encoder).images, "model")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A concept's threshold.

    Attributes:
        concept: its name.
        action: what happens above it.
        wanted: the wanted share of false alarms.
        score: a picture with a higher score shows the concept.
        background: how many pictures it was chosen from.
        expected: the share of false alarms to expect, with the interval that 95 of 100
            backgrounds of this size lead to: a Beta distribution. ``None`` if nobody can tell:
            it was extrapolated, or chosen from other pictures than those of a collection.
    """

    concept: str
    action: Action
    wanted: float
    score: float
    background: int
    expected: Estimate | None


@dataclass(frozen=True, slots=True)
class Flag:
    """A concept that a picture shows, with the picture's score."""

    concept: str
    score: float
    action: Action


@dataclass(frozen=True, slots=True)
class Judged:
    """A picture with the concepts that it shows, or the error if it cannot be read.

    Attributes:
        path: of the picture.
        flags: the concepts, the most exceeded threshold first.
        error: why it cannot be read.
        scores: its score for every concept.
    """

    path: str
    flags: tuple[Flag, ...] = ()
    error: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """Whether a concept asks for it to be held back."""
        return any(flag.action == "hold" for flag in self.flags)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        if self.error:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "held": self.held,
            "flags": [flag.concept for flag in self.flags],
            "scores": self.scores,
        }


class Judge:
    """Judge embeddings by a policy.

    Args:
        policy: what to look for.
        encoder: the model, which encodes the policy's texts and examples.
        background: ordinary pictures; near-duplicates of examples are left out.

    Raises:
        UsageError: an example cannot be read, or there are too few background pictures.

    Attributes:
        policy: the policy.
        source: where the background is from.
        model: the digest of the encoder's fingerprint.
        digest: a hash of the policy and the model, 16 hex digits.
        thresholds: one for each concept.
    """

    def __init__(self, policy: Policy, encoder: Encoder, background: Background) -> None:
        #: Without its example pictures, which may be large.
        self.policy = replace(
            policy, concepts=tuple(replace(one, examples=()) for one in policy.concepts)
        )
        self.source = background.source
        self.model = encoder.fingerprint.digest
        both = f"{policy.digest} {self.model}".encode()
        self.digest = hashlib.blake2b(both, digest_size=8).hexdigest()
        self._rows, modalities = _concept_rows(policy, encoder)
        counts = [len(concept.texts) + len(concept.examples) for concept in policy.concepts]
        self._first = np.cumsum([0, *counts[:-1]])
        self._choose_thresholds(without(background.rows, self._rows[modalities == "image"]))

    def check_model(self, fingerprint: Fingerprint) -> None:
        """Raise ``UsageError`` unless embeddings of this model can be judged."""
        if fingerprint.digest != self.model:
            raise UsageError(
                f"the policy {self.policy.label} was sent for another model than "
                f"{fingerprint.label}: send it again"
            )

    def apart_from(self, rows: Rows) -> Judge:
        """The judge whose thresholds have not seen near-duplicates of unit rows ``[n, dim]``.

        Raises:
            UsageError: too few background pictures are left.
        """
        other = copy(self)
        other._choose_thresholds(without(self._ordinary, rows))
        return other

    def _choose_thresholds(self, ordinary: Rows) -> None:
        if len(ordinary) < MIN_BACKGROUND:
            raise UsageError(
                f"thresholds need at least {MIN_BACKGROUND} ordinary pictures to compare with, and "
                f"there are {len(ordinary)} beside examples and labelled pictures: ingest more "
                "pictures first"
            )
        self._ordinary = ordinary
        cosines = (ordinary @ self._rows.T).astype(np.float64)
        self._mean = cosines.mean(axis=0)
        self._spread = np.maximum(cosines.std(axis=0), _MIN_SPREAD)
        scores = self.scores(ordinary)
        self.thresholds = tuple(
            _threshold(concept, scores[:, number], known=self.source == "collection")
            for number, concept in enumerate(self.policy.concepts)
        )

    @property
    def rough(self) -> bool:
        """Whether a threshold's share of false alarms is not known."""
        return any(threshold.expected is None for threshold in self.thresholds)

    def scores(self, vectors: Rows) -> Reals:
        """Scores float64 ``[n, concepts]`` of float32 unit rows ``[n, dim]``."""
        z = ((vectors @ self._rows.T).astype(np.float64) - self._mean) / self._spread
        largest: Reals = np.maximum.reduceat(z, self._first, axis=1)
        return largest

    def found(self, vectors: Rows) -> npt.NDArray[np.bool_]:
        """Which concepts pictures show: bool ``[n, concepts]`` of float32 rows ``[n, dim]``."""
        shows: npt.NDArray[np.bool_] = self.scores(vectors) > [one.score for one in self.thresholds]
        return shows

    def judge(self, paths: Sequence[str], vectors: Rows) -> list[Judged]:
        """Judge pictures by their float32 unit rows ``[n, dim]``."""
        judged = []
        for path, scores in zip(paths, self.scores(vectors), strict=True):
            above = [
                (float(score) - limit.score, limit, float(score))
                for score, limit in zip(scores, self.thresholds, strict=True)
                if score > limit.score
            ]
            above.sort(key=lambda one: -one[0])
            flags = tuple(Flag(one.concept, round(score, 2), one.action) for _, one, score in above)
            named = {
                concept.name: round(float(score), 2)
                for concept, score in zip(self.policy.concepts, scores, strict=True)
            }
            judged.append(Judged(path, flags, scores=named))
        return judged

    def rows(self, vectors: Rows) -> list[Row]:
        """The fields to store with pictures that were not judged before, by their unit rows."""
        if not len(vectors):
            return []
        return [self.fields(one) for one in self.judge([""] * len(vectors), vectors)]

    def fields(self, judged: Judged) -> Row:
        """The fields to store with a judged picture."""
        shown = {flag.concept for flag in judged.flags}
        row: Row = {
            POLICY: self.policy.label,
            POLICY_DIGEST: self.digest,
            FLAGGED: bool(shown),
            HELD: judged.held,
        }
        for concept in self.policy.concepts:
            row[f"{FLAG}{concept.name}"] = concept.name in shown
            row[f"{FLAG}{concept.name}{SCORE}"] = judged.scores[concept.name]
        return row


def without(rows: Rows, others: Rows) -> Rows:
    """Those of float32 unit rows ``[n, dim]`` that are no near-duplicates of others."""
    if not len(rows) or not len(others):
        return rows
    kept: Rows = rows[(rows @ others.T).max(axis=1) < SAME]
    return kept


def _threshold(concept: Concept, scores: Reals, *, known: bool) -> Threshold:
    """Choose a threshold; ``known``: the scores are those of a collection's own pictures."""
    count = len(scores)
    # 1e-9: 0.01 * 100 must count as 1 in binary fractions, too.
    rank = math.floor(concept.false_alarms * (count + 1) + 1e-9)
    expected = None
    if rank:
        score = float(np.partition(scores, count - rank)[count - rank]) + _TIE
        if known:
            drawn = np.random.default_rng(0).beta(rank, count + 1 - rank, _DRAWS)
            low, high = np.quantile(drawn, [0.025, 0.975])
            expected = Estimate(rank / (count + 1), float(low), float(high))
    else:
        # The prediction interval of a normal sample; Student's t is close to normal from 20 on.
        width = float(scores.std(ddof=1)) * math.sqrt(1 + 1 / count)
        score = float(scores.mean()) + width * NormalDist().inv_cdf(1 - concept.false_alarms)
    return Threshold(concept.name, concept.action, concept.false_alarms, score, count, expected)


def _concept_rows(policy: Policy, encoder: Encoder) -> tuple[Rows, npt.NDArray[np.str_]]:
    """Float32 unit rows of all concepts' texts and examples, in order, and what each is."""
    rows: list[Rows] = []
    modalities: list[str] = []
    for concept in policy.concepts:
        if concept.texts:
            rows.append(encode_texts(encoder, concept.texts))
            modalities += ["text"] * len(concept.texts)
        named = ((one.name, partial(_bytes_of, one)) for one in concept.examples)
        for batch in read_pictures(encoder, named):
            pixels = []
            for picture in batch:
                if picture.pixels is None:
                    raise UsageError(
                        f"{policy.label}: concepts.{concept.name}.examples: "
                        f"{picture.name[:200]} {picture.error}"
                    )
                pixels.append(picture.pixels)
            rows.append(encoder.images(np.stack(pixels)))
            modalities += ["image"] * len(batch)
    return np.concatenate(rows), np.array(modalities)


def _bytes_of(example: Example) -> bytes:
    return example.data

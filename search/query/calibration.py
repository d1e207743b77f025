"""Turn cosine similarities into a relevance from 0 to 1, and detect queries that match nothing.

How high a cosine must be for a match depends on the model, the collection and the direction of the
search. So cosines are compared with those of unrelated pairs: a typical query and a random row.
``docs/reference/relevance.md`` has the statistics, the alternatives and the measurements.

    z           = (cosine - centre) / spread     in standard deviations of unrelated pairs
    relevance   = 1 / (1 + exp((half - z) / width))
    nothing close: the best z is below what meaningless queries reach among as many rows

``centre`` and ``spread`` belong to the collection: they are measured on typical queries and a
sample of its rows. Half of the query's own mean over that sample counts towards the centre, which
corrects queries that are close to everything. ``half`` and ``width`` were fitted once: ``CURVES``.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.records import ID_LENGTH, Target

#: What a query is made of.
Modality = Literal["text", "image"]
Reals = npt.NDArray[np.float64]

#: Rows sampled from the searched collection, and how many of a sample serve as typical queries.
ROW_SAMPLE = 1_000
QUERY_SAMPLE = 256
#: With fewer stored texts than this, ``SENTENCES`` are typical queries, too.
MIN_QUERIES = 32
#: How much of a query's own mean counts towards the centre; less in small samples, where the rows
#: that the query looks for are a large part.
QUERY_MEAN_WEIGHT = 0.5
QUERY_MEAN_ROWS = 20
#: Scale and bias of a sigmoid for near-duplicates (image and image, text and text): 0.5 at 0.97.
NEAR_DUPLICATE = (200.0, -194.0)
#: The cosines of unrelated images spread wider than those of a text and an image.
IMAGE_SPREAD = 1.2
#: The captions of real collections spread wider than ``SENTENCES``.
SENTENCE_SPREAD = 1.1
#: Seconds before a sample is checked again, and the change in row count that makes it outdated.
MAX_AGE = 30.0
GROWTH = 1.3
#: Avoids division by zero for a model that gives every pair the same cosine.
_MIN_SPREAD = 1e-4

#: ``half`` and ``width`` by direction: at z = half, every second hit is right.
CURVES: Mapping[tuple[Modality, Target], tuple[float, float]] = {
    ("text", "images"): (3.5, 0.6),
    ("image", "texts"): (3.5, 0.6),
    ("text", "texts"): (3.7, 0.3),
    ("image", "images"): (4.4, 0.7),
}
#: Meaningless queries spread less than typical ones. The best of N rows that they find lies below
#: ``offset + slope * sqrt(2 ln N)`` for 95 of 100 texts and 90 of 100 images, which is how the
#: largest of N normal numbers grows (Gumbel, Statistics of Extremes, 1958).
FLOORS: Mapping[tuple[Modality, Target], tuple[float, float]] = {
    ("text", "images"): (0.33, 0.56),
    ("image", "texts"): (-0.1, 0.77),
    ("text", "texts"): (-0.1, 0.66),
    ("image", "images"): (0.0, 0.75),
}
#: A hit on the floor gets at most the relevance this many widths below ``half``: 0.27.
FLOOR_WIDTHS = 1.0

#: What people search for in collections of every kind: typical queries for a collection without
#: texts.
SENTENCES = (
    "a dog running on the grass",
    "a cat sleeping on a sofa",
    "two children playing on a beach",
    "a woman in a red dress",
    "a man riding a bicycle down the street",
    "a group of people at a table in a restaurant",
    "a plate of food with vegetables",
    "a cup of coffee on a desk",
    "snow-covered mountains under a blue sky",
    "a city skyline at night",
    "a boat on a calm lake",
    "an aeroplane in the sky",
    "a car parked in front of a house",
    "a train at a station",
    "flowers in a garden",
    "a bird sitting on a branch",
    "a horse in a field",
    "a football match in a stadium",
    "a band playing music on a stage",
    "a baby laughing",
    "an old church in a small town",
    "a forest path in autumn",
    "a laptop and a phone",
    "a bookshelf full of books",
    "a kitchen with white cupboards",
    "a bride and groom at their wedding",
    "fireworks over the water",
    "a waterfall between rocks",
    "a map of a country",
    "a close-up of an insect",
    "a crowd of people in a market",
    "a drawing of a robot",
)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The statistics that turn the cosines of one direction of a collection into relevance.

    Attributes:
        modality, target: the direction: what the query is made of, and what is searched.
        count: rows in the searched collection.
        centre, spread: mean and standard deviation of the cosines of unrelated pairs.
        sample: float32 unit rows ``[m, dim]`` of the searched collection.
        sigmoid: scale and bias of a model that was trained with a sigmoid loss, else ``None``.
        mean_row: the sample's mean ``[dim]``; ``None`` for an empty sample.
    """

    modality: Modality
    target: Target
    count: int
    centre: float
    spread: float
    sample: Rows
    sigmoid: tuple[float, float] | None = None
    mean_row: Rows | None = None

    @classmethod
    def of(
        cls,
        modality: Modality,
        target: Target,
        sample: Rows,
        queries: Rows,
        count: int,
        *,
        related: npt.NDArray[np.bool_] | None = None,
        spread_factor: float = 1.0,
        sigmoid: tuple[float, float] | None = None,
    ) -> Calibration:
        """Measure the cosines of unrelated pairs.

        Args:
            modality, target: the direction.
            sample: float32 unit rows ``[m, dim]``, drawn at random from the searched collection.
            queries: float32 unit rows ``[n, dim]`` of typical queries.
            count: rows in the searched collection.
            related: bool ``[n, m]``: pairs that belong together and are left out.
            spread_factor: what the spread is multiplied by.
            sigmoid: see the attribute.
        """
        cosines = queries @ sample.T
        unrelated = cosines[~related] if related is not None else cosines.reshape(-1)
        if not unrelated.size:
            # No unrelated pairs: at least a cosine of 0 must not count as a match.
            unrelated = np.array([-0.1, 0.1], dtype=np.float32)
        return cls(
            modality,
            target,
            count,
            float(unrelated.mean()),
            max(float(unrelated.std()) * spread_factor, _MIN_SPREAD),
            sample,
            sigmoid,
            sample.mean(axis=0) if len(sample) else None,
        )

    def z_scores(self, query: Rows, scores: Sequence[float] | Reals) -> Reals:
        """Cosines as standard deviations above unrelated pairs: float64 ``[k]``.

        Args:
            query: the query's float32 unit row ``[dim]``, or one for each score ``[k, dim]``.
            scores: cosines of ``k`` hits.
        """
        cosines = np.asarray(scores, dtype=np.float64)
        z: Reals = (cosines - self._centre_for(query)) / self.spread
        return z

    def relevance(self, query: Rows, scores: Sequence[float]) -> list[float]:
        """Cosines as relevance from 0 to 1; for one query it never falls as the cosine rises.

        0.5 means that every second such hit was right in the measurements. A model trained with a
        sigmoid loss (https://arxiv.org/abs/2303.15343) predicts matches of texts and images by
        itself; the higher of the two counts. So does the near-duplicate sigmoid within a modality.
        """
        half, width = CURVES[self.modality, self.target]
        # Among very many rows, unrelated ones come closer than that.
        half = max(half, self.floor + FLOOR_WIDTHS * width)
        log_odds = (self.z_scores(query, scores) - half) / width
        across = (self.modality == "text") == (self.target == "images")
        sigmoid = self.sigmoid if across else NEAR_DUPLICATE
        if sigmoid is not None:
            scale, bias = sigmoid
            log_odds = np.maximum(log_odds, scale * np.asarray(scores, dtype=np.float64) + bias)
        relevance: list[float] = logistic(log_odds).tolist()
        return relevance

    def nothing_close(self, query: Rows, best: float) -> bool:
        """Whether the best hit, of cosine ``best``, is no closer than a meaningless query finds."""
        return bool((best - self._centre_for(query)) / self.spread < self.floor)

    def _centre_for(self, query: Rows) -> Reals:
        """The centre, moved towards each query's own mean over the sample."""
        if self.mean_row is None:
            return np.asarray(self.centre)
        weight = QUERY_MEAN_WEIGHT * len(self.sample) / (len(self.sample) + QUERY_MEAN_ROWS)
        own = (query @ self.mean_row).astype(np.float64)
        centre: Reals = self.centre + weight * (own - self.centre)
        return centre

    def for_fused(self, query: Rows) -> Calibration:
        """The calibration for a query fused from several parts.

        Its cosines follow no typical query's, so they are compared with its own over the sample.
        """
        if len(self.sample) < MIN_QUERIES:
            return replace(self, sigmoid=None)
        cosines = self.sample @ query
        spread = max(float(cosines.std()), _MIN_SPREAD)
        return replace(self, centre=float(cosines.mean()), spread=spread, sigmoid=None)

    @property
    def floor(self) -> float:
        """The z that meaningless queries stay below, among ``count`` rows."""
        offset, slope = FLOORS[self.modality, self.target]
        return offset + slope * math.sqrt(2 * math.log(max(self.count, 2)))


class CalibrationCache:
    """Make and cache a collection's calibrations; sample again when the collection has grown.

    Args:
        collection: what is searched.
        encoder: gives the model, to encode ``SENTENCES`` if the collection has too few texts.
        max_age: seconds before a sample is checked again.
    """

    def __init__(
        self, collection: Collection, encoder: Callable[[], Encoder], max_age: float = MAX_AGE
    ) -> None:
        self._collection = collection
        self._encoder = encoder
        self.max_age = max_age
        self._samples: dict[Target, _Sample] = {}
        self._made: dict[tuple[Modality, Target], tuple[_Sample, _Sample, Calibration]] = {}
        self._pairs: tuple[_Sample, Rows, Rows] | None = None
        self._sentences: Rows | None = None
        self._lock = threading.Lock()

    def get(self, modality: Modality, target: Target) -> Calibration:
        """The calibration of one direction."""
        with self._lock:
            images, texts = self._sample("images"), self._sample("texts")
            made = self._made.get((modality, target))
            if made is None or made[0] is not images or made[1] is not texts:
                made = images, texts, self._make(modality, target, images, texts)
                self._made[modality, target] = made
            return made[2]

    def true_pairs(self) -> tuple[Rows, Rows]:
        """Up to ``QUERY_SAMPLE`` stored texts and their own pictures.

        Returns:
            Float32 unit rows ``[n, dim]`` of the texts and of the pictures.
        """
        with self._lock:
            texts = self._sample("texts")
            pairs = self._pairs
            if pairs is None or pairs[0] is not texts:
                pairs = self._pairs = texts, *self._read_pairs(texts)
            return pairs[1:]

    def _read_pairs(self, texts: _Sample) -> tuple[Rows, Rows]:
        owners = [(at, key.decode()) for at, key in enumerate(texts.image_ids) if key]
        owners = owners[:QUERY_SAMPLE]
        stored = self._collection.get(
            "images", sorted({key for _, key in owners}), ["id", "vector"]
        )
        found = {row["id"]: row["vector"] for row in stored}
        kept = [(at, found[key]) for at, key in owners if key in found]
        images = np.array([row for _, row in kept], dtype=np.float32)
        return texts.rows[[at for at, _ in kept]], images.reshape(len(kept), texts.rows.shape[1])

    def _make(
        self, modality: Modality, target: Target, images: _Sample, texts: _Sample
    ) -> Calibration:
        searched = images if target == "images" else texts
        typical = images if modality == "image" else texts
        queries, image_ids = typical.rows[:QUERY_SAMPLE], typical.image_ids[:QUERY_SAMPLE]
        spread_factor = 1.0
        if modality == "image" and len(queries) < MIN_QUERIES:
            # Too few images to measure their spread: use the sentences instead.
            queries, image_ids = queries[:0], image_ids[:0]
            spread_factor = IMAGE_SPREAD if target == "images" else 1.0
        if len(queries) < MIN_QUERIES:
            sentences = self._sentence_rows()
            queries = np.concatenate([queries, sentences])
            none = np.full(len(sentences), b"", image_ids.dtype)
            image_ids = np.concatenate([image_ids, none])
            spread_factor *= SENTENCE_SPREAD
        same_image = image_ids[:, None] == searched.image_ids[None]
        return Calibration.of(
            modality,
            target,
            searched.rows,
            queries,
            searched.count,
            related=same_image & (image_ids != b"")[:, None],
            spread_factor=spread_factor,
            sigmoid=getattr(self._encoder(), "sigmoid", None),
        )

    def _sentence_rows(self) -> Rows:
        if self._sentences is None:
            encoder = self._encoder()
            encode = getattr(encoder, "fixed_texts", encoder.texts)
            self._sentences = encode(SENTENCES)
        return self._sentences

    def _sample(self, kind: Target) -> _Sample:
        now = time.monotonic()
        sample = self._samples.get(kind)
        if sample is not None and now - sample.checked < self.max_age:
            return sample
        count = self._collection.count(kind)
        if sample is not None and sample.count / GROWTH <= count <= sample.count * GROWTH:
            sample.checked = now
            return sample
        sample = self._samples[kind] = sample_rows(self._collection, kind, count)
        return sample


@dataclass(slots=True, eq=False)
class _Sample:
    """Rows drawn from one collection, each with the id of its image ("" for none)."""

    rows: Rows
    image_ids: npt.NDArray[np.bytes_]
    count: int
    checked: float


def sample_rows(collection: Collection, kind: Target, count: int, expression: str = "") -> _Sample:
    """Draw about ``ROW_SAMPLE`` of ``count`` rows: ids are hashes, so the smallest are random.

    Args:
        collection: where the rows are.
        kind: which rows.
        count: how many there are that match the expression.
        expression: a Milvus expression; "" for all.
    """
    drawn = 'id != ""'
    if count > ROW_SAMPLE:
        # 10 % more than needed, so that there are seldom fewer; eight hex digits are fine enough.
        bound = min(int(1.1 * ROW_SAMPLE / count * 16**8), 16**8 - 1)
        drawn = f'id < "{bound:08x}"'
    expression = f"({expression}) and {drawn}" if expression else drawn
    image_field = "id" if kind == "images" else "image_id"
    found = collection.query(kind, expression, [image_field, "vector"], ROW_SAMPLE)
    dim = collection.fingerprint.dim
    return _Sample(
        np.array([row["vector"] for row in found], dtype=np.float32).reshape(-1, dim),
        np.array([row[image_field] for row in found], dtype=f"S{ID_LENGTH}"),
        count,
        time.monotonic(),
    )


def logistic(log_odds: Reals) -> Reals:
    """Log-odds as probabilities from 0 to 1."""
    # Beyond 60 the result is 0 or 1 in float64, and exp would overflow far out.
    probabilities: Reals = 1 / (1 + np.exp(-np.clip(log_odds, -60, 60)))
    return probabilities

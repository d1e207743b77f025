"""A raw cosine → how likely this is a real match, and whether a query found anything at all.

What a cosine is worth depends on the model, on the collection and on who asks whom. So it is read
against strangers: pairs of a typical query and a row drawn at random, which have nothing to do with
each other. ``docs/reference/relevance.md`` has the statistics, what else was tried, and what was measured.

    nearness  z = (cosine - centre) / spread     of strangers, in standard deviations
    relevance   = 1 / (1 + exp((half - z) / width))
    nothing close: the best z is below what queries without meaning reach among as many rows

``centre`` and ``spread`` are the collection's own, of typical queries and a sample of its rows.
Half of a query's own mean over that sample counts towards the centre: a query that is near to
everything is near to nothing in particular. ``half`` and ``width`` were fitted once: ``CURVES``.
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

Asker = Literal["text", "image"]
Reals = npt.NDArray[np.float64]

#: Rows of the searched collection that strangers are drawn from, and of typical queries.
SAMPLE = 1_000
ASKING = 256
#: With fewer texts than this, everyday sentences stand for typical queries too.
ENOUGH = 32
#: How much of a query's own mean counts towards the centre; less where so few rows are there that
#: what it looks for makes up much of them.
OWN_MEAN = 0.5
OWN_MEAN_ROWS = 20
#: Scale and bias for a picture (a text) and another that is nearly the same: half at 0.97.
SAME = (200.0, -194.0)
#: The cosine of unlike pictures among each other spreads wider than that of words and pictures.
PICTURES_SPREAD = 1.2
#: Captions of real collections spread wider than the everyday sentences below.
SENTENCES_SPREAD = 1.1
#: Seconds for which a sample is taken to be up to date, and the change in count that outdates it.
FRESH = 30.0
GROWN = 1.3
#: A model that does not spread at all must not divide by nothing.
_LEAST_SPREAD = 1e-4

#: ``half`` and ``width`` by who asks and what is found: at z = half every second hit is right.
CURVES: Mapping[tuple[Asker, Target], tuple[float, float]] = {
    ("text", "images"): (3.5, 0.6),
    ("image", "texts"): (3.5, 0.6),
    ("text", "texts"): (3.7, 0.3),
    ("image", "images"): (4.4, 0.7),
}
#: Queries without meaning spread less than typical ones; the best of N rows that they find lies
#: below ``offset + slope * sqrt(2 ln N)`` for 95 of 100 texts and 90 of 100 pictures: so does the
#: largest of N normal numbers grow (Gumbel, Statistics of Extremes, 1958).
FLOORS: Mapping[tuple[Asker, Target], tuple[float, float]] = {
    ("text", "images"): (0.33, 0.56),
    ("image", "texts"): (-0.1, 0.77),
    ("text", "texts"): (-0.1, 0.66),
    ("image", "images"): (0.0, 0.75),
}
#: A hit on the floor is never more relevant than this many widths below ``half``: 0.27.
FLOOR_WIDTHS = 1.0

#: What people ask of collections of every kind: typical queries where a collection has no texts.
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
    """How to read the cosines of one direction in one collection; made by ``Calibration.of``.

    Attributes:
        asker, target: the direction: who asks, and what is found.
        count: rows in the searched collection.
        centre, spread: mean and standard deviation of the cosine of strangers.
        sample: float32 unit rows ``[m, dim]`` of the searched collection.
        sigmoid: scale and bias, of a model that was trained to tell pairs by itself, else ``None``.
        middle: the sample's mean ``[dim]``; ``None`` where there is no sample.
    """

    asker: Asker
    target: Target
    count: int
    centre: float
    spread: float
    sample: Rows
    sigmoid: tuple[float, float] | None = None
    middle: Rows | None = None

    @classmethod
    def of(
        cls,
        asker: Asker,
        target: Target,
        sample: Rows,
        asking: Rows,
        count: int,
        *,
        acquainted: npt.NDArray[np.bool_] | None = None,
        widened: float = 1.0,
        sigmoid: tuple[float, float] | None = None,
    ) -> Calibration:
        """Read off strangers.

        Args:
            asker, target: the direction.
            sample: float32 unit rows ``[m, dim]``, drawn at random from the searched collection.
            asking: float32 unit rows ``[n, dim]`` of typical queries.
            count: rows in the searched collection.
            acquainted: bool ``[n, m]``: the pairs that belong together, which are no strangers.
            widened: what the spread is multiplied by.
            sigmoid: see the attribute.
        """
        cosines = asking @ sample.T
        strangers = cosines[~acquainted] if acquainted is not None else cosines.reshape(-1)
        if not strangers.size:
            # Nobody is a stranger here: at least a cosine of 0 says nothing.
            strangers = np.array([-0.1, 0.1], dtype=np.float32)
        return cls(
            asker,
            target,
            count,
            float(strangers.mean()),
            max(float(strangers.std()) * widened, _LEAST_SPREAD),
            sample,
            sigmoid,
            sample.mean(axis=0) if len(sample) else None,
        )

    def nearness(self, query: Rows, scores: Sequence[float]) -> Reals:
        """Cosines → how far above strangers they are, in standard deviations: float64 ``[k]``.

        Args:
            query: the query's float32 unit row ``[dim]``.
            scores: cosines of ``k`` hits.
        """
        cosines = np.asarray(scores, dtype=np.float64)
        nearness: Reals = (cosines - self._centre_for(query)) / self.spread
        return nearness

    def relevance(self, query: Rows, scores: Sequence[float]) -> list[float]:
        """Cosines → relevances from 0 to 1; within one query, the nearer the more relevant.

        0.5 means that of such hits every second one was right where it was measured. A model that
        was trained with a sigmoid (https://arxiv.org/abs/2303.15343) has an opinion of its own on
        words and pictures; its yes counts too. So does a likeness of picture and picture that only
        copies have.
        """
        half, width = CURVES[self.asker, self.target]
        # Among very many rows strangers come nearer than that.
        half = max(half, self.floor + FLOOR_WIDTHS * width)
        odds = (self.nearness(query, scores) - half) / width
        across = (self.asker == "text") == (self.target == "images")
        own = self.sigmoid if across else SAME
        if own is not None:
            scale, bias = own
            odds = np.maximum(odds, scale * np.asarray(scores, dtype=np.float64) + bias)
        chances: list[float] = logistic(odds).tolist()
        return chances

    def nothing_close(self, query: Rows, best: float) -> bool:
        """Whether the nearest row, of cosine ``best``, is no nearer than nonsense would find."""
        return (best - self._centre_for(query)) / self.spread < self.floor

    def _centre_for(self, query: Rows) -> float:
        """The centre, moved towards the query's own mean over the sample."""
        if self.middle is None:
            return self.centre
        weight = OWN_MEAN * len(self.sample) / (len(self.sample) + OWN_MEAN_ROWS)
        return self.centre + weight * (float(self.middle @ query) - self.centre)

    def of_fused(self, query: Rows) -> Calibration:
        """The same for a query of several parts, whose cosines are like nobody else's.

        Its strangers are its own: the rows of the sample.
        """
        if len(self.sample) < ENOUGH:
            return replace(self, sigmoid=None)
        cosines = self.sample @ query
        spread = max(float(cosines.std()), _LEAST_SPREAD)
        return replace(self, centre=float(cosines.mean()), spread=spread, sigmoid=None)

    @property
    def floor(self) -> float:
        """The nearness that queries without meaning stay below, among ``count`` rows."""
        offset, slope = FLOORS[self.asker, self.target]
        return offset + slope * math.sqrt(2 * math.log(max(self.count, 2)))


class Calibrations:
    """The calibrations of one corpus: sampled when first needed, sampled again when it has grown.

    Args:
        corpus: what is searched.
        encoder: encodes the everyday sentences where the corpus has too few texts.
    """

    def __init__(self, collection: Collection, encoder: Callable[[], Encoder]) -> None:
        self._collection = collection
        self._encoder = encoder
        self._samples: dict[Target, _Sample] = {}
        self._made: dict[tuple[Asker, Target], tuple[_Sample, _Sample, Calibration]] = {}
        self._sentences: Rows | None = None
        self._guard = threading.Lock()

    def get(self, asker: Asker, target: Target) -> Calibration:
        """The calibration of one direction."""
        with self._guard:
            images, texts = self._sample("images"), self._sample("texts")
            held = self._made.get((asker, target))
            if held is None or held[0] is not images or held[1] is not texts:
                held = images, texts, self._make(asker, target, images, texts)
                self._made[asker, target] = held
            return held[2]

    def _make(self, asker: Asker, target: Target, images: _Sample, texts: _Sample) -> Calibration:
        found = images if target == "images" else texts
        asking = images if asker == "image" else texts
        rows, owners = asking.rows[:ASKING], asking.owners[:ASKING]
        widened = 1.0
        if asker == "image" and len(rows) < ENOUGH:
            # Too few pictures to see how unlike others they are: words stand in for them.
            rows, owners = rows[:0], owners[:0]
            widened = PICTURES_SPREAD if target == "images" else 1.0
        if len(rows) < ENOUGH:
            sentences = self._everyday()
            rows = np.concatenate([rows, sentences])
            owners = np.concatenate([owners, np.full(len(sentences), b"", owners.dtype)])
            widened *= SENTENCES_SPREAD
        return Calibration.of(
            asker,
            target,
            found.rows,
            rows,
            found.count,
            acquainted=(owners[:, None] == found.owners[None]) & (owners != b"")[:, None],
            widened=widened,
            sigmoid=getattr(self._encoder(), "sigmoid", None),
        )

    def _everyday(self) -> Rows:
        if self._sentences is None:
            self._sentences = self._encoder().texts(SENTENCES)
        return self._sentences

    def _sample(self, kind: Target) -> _Sample:
        now = time.monotonic()
        held = self._samples.get(kind)
        if held is not None and now - held.taken < FRESH:
            return held
        count = self._collection.count(kind)
        if held is not None and held.count / GROWN <= count <= held.count * GROWN:
            held.taken = now
            return held
        sample = self._samples[kind] = draw(self._collection, kind, count)
        return sample


@dataclass(slots=True, eq=False)
class _Sample:
    """Rows drawn from one collection, each with the picture it belongs to."""

    rows: Rows
    owners: npt.NDArray[np.bytes_]
    count: int
    taken: float


def draw(collection: Collection, kind: Target, count: int) -> _Sample:
    """About ``SAMPLE`` rows of ``count``, at random: ids are hashes, so the smallest will do."""
    expression = 'id != ""'
    if count > SAMPLE:
        # 10 % more than needed, so that seldom fewer come; eight hex digits are fine enough.
        bound = min(int(1.1 * SAMPLE / count * 16**8), 16**8 - 1)
        expression = f'id < "{bound:08x}"'
    owner = "id" if kind == "images" else "image_id"
    found = collection.where(kind, expression, [owner, "vector"], SAMPLE)
    dim = collection.fingerprint.dim
    return _Sample(
        np.array([row["vector"] for row in found], dtype=np.float32).reshape(-1, dim),
        np.array([row[owner] for row in found], dtype=f"S{ID_LENGTH}"),
        count,
        time.monotonic(),
    )


def logistic(x: Reals) -> Reals:
    """What odds of ``exp(x)`` are as a probability."""
    # Beyond 60 the answer is 0 or 1 to float64's precision, and exp would overflow far out.
    odds: Reals = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return odds

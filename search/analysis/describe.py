"""Propose texts for images without captions: the captions of other images, or labels, that fit.

Nothing is generated: a proposal is a stored caption or a label that lies near the image, with the
probability that the two belong together. Captions that were themselves proposed are left out, so
that a mistake does not spread from image to image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol, Unpack

import numpy as np

from twinlens.search.analysis.classify import TEMPLATES, distinct
from twinlens.search.analysis.describe_options import DescribeOptions, check_describe_options
from twinlens.search.analysis.everyday import WORDS
from twinlens.search.analysis.pictures import NamedImage, ReadPicture, read_pictures
from twinlens.search.errors import UsageError
from twinlens.search.filters import compile_visible
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.batches import encode_texts
from twinlens.search.query.calibration import Reals
from twinlens.search.records import CAPTION_SOURCE, PROPOSED, Row

#: How probable it is that a random stored caption fits an image, and how many of the everyday words
#: fit one: chosen so that probabilities come out right in ``benchmarks/describe.py``.
CAPTION_PRIOR = 1 / 500
WORDS_FITTING = 2.0
#: Selects the stored images that have no captions, as a filter.
WITHOUT_CAPTIONS = "captions is unknown"
#: Images whose nearest captions are read at once, with their vectors.
_BATCH = 64
_FIELDS = ("id", "path", "captions", "vector")

#: Gives the probabilities, float64 ``[n]``, that text rows and image rows ``[n, dim]`` belong
#: together, pair by pair.
Match = Callable[[Rows, Rows], Reals]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A text that may describe an image, and how probable that is, from 0 to 1."""

    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Described:
    """An image with what may describe it.

    Attributes:
        path: of the image, or the name it was given under.
        id: its id; "" if it cannot be read.
        proposals: the most probable first; none if no text is probable enough.
        captions: those that it has already; then nothing is proposed.
        error: why it cannot be read.
    """

    path: str
    id: str = ""
    proposals: tuple[Proposal, ...] = ()
    captions: tuple[str, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        if self.error:
            return {"path": self.path, "error": self.error}
        plain: dict[str, Any] = {"path": self.path, "id": self.id}
        if self.captions:
            return plain | {"captions": list(self.captions)}
        return plain | {"proposals": [asdict(one) for one in self.proposals]}


class Candidates(Protocol):
    """The texts that proposals are chosen from."""

    @property
    def prior(self) -> float:
        """How probable it is that one of them, drawn at random, fits an image: above 0, below 1."""

    def nearest(self, vectors: Rows, count: int) -> list[tuple[list[str], Rows]]:
        """The nearest texts of each image row ``[n, dim]``, and their rows ``[k, dim]``."""


class StoredCaptions:
    """The captions of a collection, without those that were proposed."""

    prior = CAPTION_PRIOR

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        fields = collection.fields("texts")
        written = f'not {CAPTION_SOURCE} == "{PROPOSED}"' if CAPTION_SOURCE in fields else ""
        # Nor the words of what a policy holds back.
        self._expression = compile_visible(written, fields, collection.capabilities)

    def nearest(self, vectors: Rows, count: int) -> list[tuple[list[str], Rows]]:
        found = self._collection.search(
            "texts", vectors, count, fields=["text", "vector"], expression=self._expression
        )
        dim = self._collection.fingerprint.dim
        return [
            (
                [row["text"] for row, _ in hits],
                np.array([row["vector"] for row, _ in hits], dtype=np.float32).reshape(-1, dim),
            )
            for hits in found
        ]


class Labels:
    """Labels, each encoded in a sentence: "a photo of a dog".

    Args:
        encoder: called once a label is needed.
        labels: at least two; repeated ones count once.
        fitting: how many of them fit an image, on average.

    Raises:
        UsageError: fewer than two labels.
    """

    def __init__(
        self, encoder: Callable[[], Encoder], labels: Sequence[str], fitting: float = 1.0
    ) -> None:
        self.labels = distinct(labels)
        self._encoder = encoder
        self._encoded: Rows | None = None
        self.prior = min(0.5, fitting / len(self.labels))

    def nearest(self, vectors: Rows, count: int) -> list[tuple[list[str], Rows]]:
        rows = self.rows
        order = np.argsort(-(vectors @ rows.T), axis=1, kind="stable")[:, :count]
        return [([self.labels[at] for at in best], rows[best]) for best in order]

    @property
    def rows(self) -> Rows:
        """The embeddings of the sentences, float32 ``[n, dim]``."""
        if self._encoded is None:
            encoder = self._encoder()
            sentences = [TEMPLATES[0].replace("{}", label) for label in self.labels]
            self._encoded = encode_texts(encoder, sentences)
        return self._encoded


def with_prior(match: Reals, prior: float) -> Reals:
    """The probabilities of pairs if a random one belongs together with probability ``prior``.

    ``match`` supposes that every second pair does; its odds are multiplied by the prior odds
    (Bayes' theorem).
    """
    true = match * prior
    found: Reals = true / (true + (1 - match) * (1 - prior))
    return found


class Describer:
    """Propose texts for image embeddings.

    The best of thousands of texts would nearly always look certain by ``match`` alone, so the prior
    of the candidates counts, see ``with_prior``.

    Args:
        candidates: the texts to choose from; the next ones serve where these give no proposal.
        match: judges pairs of a text and an image.
        options: how many texts to propose, and from which probability on.

    Raises:
        UsageError: an option is invalid.
    """

    def __init__(
        self, candidates: Sequence[Candidates], match: Match, **options: Unpack[DescribeOptions]
    ) -> None:
        checked = check_describe_options(**options)
        self._candidates = tuple(candidates)
        self._match = match
        self._count = checked["count"]
        self._min_probability = checked["min_probability"]

    def propose(self, vectors: Rows) -> list[tuple[Proposal, ...]]:
        """The most probable texts of each float32 unit row ``[n, dim]``, the best first."""
        proposals: list[tuple[Proposal, ...]] = [()] * len(vectors)
        for candidates in self._candidates:
            left = [at for at, found in enumerate(proposals) if not found]
            for start in range(0, len(left), _BATCH):
                some = left[start : start + _BATCH]
                # More than asked for: the same words may be stored often, and the nearest text
                # need not be the most probable.
                nearest = candidates.nearest(vectors[some], 4 * self._count + 12)
                for at, (texts, rows) in zip(some, nearest, strict=True):
                    if texts:
                        proposals[at] = self._choose(texts, rows, vectors[at], candidates.prior)
        return proposals

    def _choose(
        self, texts: Sequence[str], rows: Rows, image: Rows, prior: float
    ) -> tuple[Proposal, ...]:
        balanced = self._match(rows, np.repeat(image[None], len(rows), axis=0))
        probabilities = with_prior(balanced, prior)
        best: dict[str, float] = {}
        for at in np.argsort(-probabilities, kind="stable"):
            if probabilities[at] >= self._min_probability:
                best.setdefault(texts[at], float(probabilities[at]))
        return tuple(Proposal(*one) for one in islice(best.items(), self._count))


def candidates_for(
    collection: Collection | None, encoder: Callable[[], Encoder], labels: Sequence[str] = ()
) -> list[Candidates]:
    """The texts to choose from: the user's labels; or else stored captions, then everyday words.

    Args:
        collection: where captions may be stored.
        encoder: called only if labels or words must be encoded.
        labels: the user's.

    Raises:
        UsageError: there is only one label.
    """
    if labels:
        return [Labels(encoder, labels)]
    words = Labels(encoder, WORDS, WORDS_FITTING)
    stored = collection is not None and collection.count("texts") > 0
    return [StoredCaptions(collection), words] if collection is not None and stored else [words]


def describe_stored(
    describer: Describer, collection: Collection, expression: str = ""
) -> Iterator[Described]:
    """Describe the stored images that match a Milvus expression; memory use is bounded."""
    for rows in collection.scan("images", _FIELDS, expression, batch=1_000):
        for start in range(0, len(rows), _BATCH):
            yield from _describe_rows(describer, rows[start : start + _BATCH])


def describe_ids(
    describer: Describer, collection: Collection, ids: Sequence[str]
) -> list[Described]:
    """Describe stored images by their ids, in this order.

    Raises:
        UsageError: there is no such image.
    """
    rows = {row["id"]: row for row in collection.get("images", list(dict.fromkeys(ids)), _FIELDS)}
    missing = next((key for key in ids if key not in rows), None)
    if missing is not None:
        raise UsageError(f"no picture with the id {missing[:64]!r} is stored")
    described = {one.id: one for one in _describe_rows(describer, list(rows.values()))}
    return [described[key] for key in ids]


def describe_pictures(
    describer: Describer,
    encoder: Encoder,
    images: Iterable[NamedImage],
    collection: Collection | None = None,
) -> Iterator[Described]:
    """Describe images, given as names and functions that read their bytes; results are in order.

    An image that is stored already is not encoded again, and keeps its captions. One that cannot be
    read gives a result with its error.
    """
    for batch in read_pictures(encoder, images):
        ids = list(dict.fromkeys(one.id for one in batch if one.id))
        rows = collection.get("images", ids, _FIELDS) if collection is not None and ids else []
        stored = {row["id"]: row for row in rows}
        stored |= _encoded(encoder, [one for one in batch if one.id and one.id not in stored])
        described = {one.id: one for one in _describe_rows(describer, list(stored.values()))}
        for one in batch:
            if one.error:
                yield Described(one.name, error=one.error)
            else:
                found = described[one.id]
                yield Described(one.name, one.id, found.proposals, found.captions)


def _encoded(encoder: Encoder, pictures: Sequence[ReadPicture]) -> dict[str, Row]:
    """Rows as if they were stored, by id."""
    pixels = {one.id: one.pixels for one in pictures if one.pixels is not None}
    if not pixels:
        return {}
    vectors = encoder.images(np.stack(list(pixels.values())))
    return {
        key: {"id": key, "path": "", "captions": [], "vector": vector}
        for key, vector in zip(pixels, vectors, strict=True)
    }


def _describe_rows(describer: Describer, rows: Sequence[Row]) -> Iterator[Described]:
    open_rows = [row for row in rows if not row["captions"]]
    proposals: Mapping[str, tuple[Proposal, ...]] = {}
    if open_rows:
        vectors = np.array([row["vector"] for row in open_rows], dtype=np.float32)
        found = describer.propose(vectors)
        proposals = {row["id"]: some for row, some in zip(open_rows, found, strict=True)}
    for row in rows:
        key = row["id"]
        yield Described(row["path"], key, proposals.get(key, ()), tuple(row["captions"]))

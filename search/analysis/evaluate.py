"""Retrieval quality: recall@k both ways with confidence intervals, and what the index loses of it.

Recall@k is what CLIP_benchmark's zero-shot retrieval reports
(https://github.com/LAION-AI/CLIP_benchmark): text→image, the share of captions whose picture is
among the k nearest pictures; image→text, the share of pictures any of whose captions is among the
k nearest captions. Ranks are exact, by inner products with every row. A stranger as near as the
right answer counts as nearer, so that a model that maps everything to one point finds nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.metrics import KS, TIE, Estimate, Numbers, bootstrap, nearest, ranks
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.records import ID_LENGTH, Target

Direction = Literal["text→image", "image→text"]
#: The depth at which Milvus' answers are compared with exact ones.
ANN_K = 10
#: How many missing pictures are named; the count goes on.
MAX_MISSING = 1_000
#: Pairs that are looked up at once, and captions that are encoded at once.
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and captions to ask with.

    Attributes:
        path: the picture's, as it was ingested.
        captions: what should find it.
        problem: why it cannot be read, which matters where it is not stored; "" for nothing.
    """

    path: str
    captions: Sequence[str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well one direction finds.

    Attributes:
        direction: who asks, and what is found.
        queries: how many were asked, of ``gallery`` rows.
        recall: recall@k, from 0 to 1, for every k of ``KS``.
        median_rank: half of the queries have their answer at this rank or before it; 1 is best.
        ann_recall: the share of the exact 10 nearest rows that Milvus returns, over a sample of
            the queries; 1 for an exact index, NaN where the captions asked for are not stored.
    """

    direction: Direction
    queries: int
    gallery: int
    recall: Mapping[int, Estimate]
    median_rank: Estimate
    ann_recall: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of one model on one corpus.

    ``images`` counts the pictures that have captions and those that have none: all of them can be
    found. ``unpaired`` texts describe no stored picture and were left out. ``missing`` are pairs
    whose picture is neither stored nor can be read, or has no captions for that reason, and in a
    comparison what could not be stored: each a path and why, the first of ``missing_count``.
    """

    model: str
    images: int
    texts: int
    unpaired: int
    dim: int
    directions: tuple[Quality, Quality]
    missing: tuple[str, ...] = ()
    missing_count: int = 0

    @property
    def bytes_per_image(self) -> int:
        """Of the vector, float32, as it is stored."""
        return 4 * self.dim

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""

        def plain(estimate: Estimate) -> dict[str, float]:
            return {"value": estimate.value, "low": estimate.low, "high": estimate.high}

        return {
            "model": self.model,
            "images": self.images,
            "texts": self.texts,
            "unpaired": self.unpaired,
            "missing": self.missing_count,
            "bytes_per_image": self.bytes_per_image,
            "directions": {
                side.direction: {
                    "queries": side.queries,
                    "gallery": side.gallery,
                    "recall": {str(k): plain(found) for k, found in side.recall.items()},
                    "median_rank": plain(side.median_rank),
                    f"ann_recall@{ANN_K}": side.ann_recall,
                }
                for side in self.directions
            },
        }


def evaluate(
    collection: Collection,
    *,
    pairs: Iterable[Pair] | None = None,
    encoder: Encoder | None = None,
    max_queries: int = 10_000,
    ann_queries: int = 500,
    draws: int = 1_000,
    seed: int = 0,
) -> Evaluation:
    """Measure a corpus by its own captions, or by other ones.

    Memory stays bounded whatever the corpus: vectors are read from Milvus once, in a stream, into
    a temporary file. Time grows with ``max_queries`` times the rows.

    Args:
        corpus: the pictures, and the captions where ``pairs`` gives none.
        pairs: captions to ask instead of the stored ones.
        encoder: the corpus' model, to encode those.
        max_queries: ask at most so many each way, drawn at random; 0 for all.
        ann_queries: on how many of them to compare Milvus' answers with exact ones.
        draws: resamples for the confidence intervals.
        seed: of everything random.

    Raises:
        UsageError: there are no captions of stored pictures, or a number is out of range.
    """
    if seed < 0 or max_queries < 0:
        raise UsageError("the seed and the number of queries are 0 or more")
    asked = _Asked(collection)
    dim = collection.fingerprint.dim
    with tempfile.TemporaryDirectory() as folder:
        images = _Vectors(Path(folder) / "images", dim)
        for rows in collection.scan("images", ["id", "vector"]):
            images.add([row["id"] for row in rows], [row["vector"] for row in rows])
        texts = _Vectors(Path(folder) / "texts", dim)
        if pairs is None:
            for rows in collection.scan("texts", ["image_id", "vector"]):
                texts.add([row["image_id"] for row in rows], [row["vector"] for row in rows])
        else:
            if encoder is None:
                raise UsageError("captions that are not stored need the encoder")
            for owners, words in asked.resolve(pairs):
                texts.add(owners, encoder.texts(words))
        owner = images.find(texts.keys())
        paired = np.flatnonzero(owner >= 0)
        if not len(paired):
            raise UsageError(
                "no caption of a stored picture to ask with: ingest captions too, or give a file "
                "of pairs" + (f". Missing: {asked.missing[0]}" if asked.missing else "")
            )
        dice = np.random.default_rng(seed)
        asking = _some(paired, max_queries, dice)
        with_captions = _some(np.unique(owner[paired]), max_queries, dice)
        image_rows, text_rows = images.rows(), texts.rows()
        ann_to_image = _ann(
            collection, "images", text_rows[_some(asking, ann_queries, dice)], image_rows
        )
        ann_to_text = float("nan")
        if pairs is None:
            some = _some(with_captions, ann_queries, dice)
            ann_to_text = _ann(collection, "texts", image_rows[some], text_rows)
        to_image = _quality(
            "text→image",
            text_rows,
            image_rows,
            asking,
            np.stack([asking, owner[asking]], axis=1),
            owner[asking],
            ann_to_image,
            (draws, seed),
        )
        answering = paired[np.isin(owner[paired], with_captions)]
        to_text = _quality(
            "image→text",
            image_rows,
            text_rows,
            with_captions,
            np.stack([owner[answering], answering], axis=1),
            with_captions,
            ann_to_text,
            (draws, seed),
        )
        return Evaluation(
            model=collection.fingerprint.label,
            images=len(image_rows),
            texts=len(paired),
            unpaired=len(owner) - len(paired),
            dim=dim,
            directions=(to_image, to_text),
            missing=tuple(asked.missing),
            missing_count=asked.missing_count,
        )


class _Vectors:
    """Rows of one collection in a temporary file, under a key each: memory stays bounded."""

    def __init__(self, path: Path, dim: int) -> None:
        self._path = path
        self._dim = dim
        self._keys: list[npt.NDArray[np.bytes_]] = []
        path.touch()

    def add(self, keys: Sequence[str], vectors: Sequence[Any] | Rows) -> None:
        if keys:
            self._keys.append(np.array(keys, dtype=f"S{ID_LENGTH}"))
            with self._path.open("ab") as file:
                file.write(np.asarray(vectors, dtype=np.float32).tobytes())

    def keys(self) -> npt.NDArray[np.bytes_]:
        return np.concatenate([np.empty(0, dtype=f"S{ID_LENGTH}"), *self._keys])

    def rows(self) -> Rows:
        count = sum(map(len, self._keys))
        if not count:
            return np.empty((0, self._dim), dtype=np.float32)
        return np.memmap(self._path, dtype=np.float32, mode="r", shape=(count, self._dim))

    def find(self, wanted: npt.NDArray[np.bytes_]) -> Numbers:
        """Where each of these keys is, -1 where it is not."""
        mine = self.keys()
        if not len(mine):
            return np.full(len(wanted), -1, dtype=np.int64)
        order = np.argsort(mine)
        at = order[np.searchsorted(mine, wanted, sorter=order).clip(max=len(mine) - 1)]
        return np.where(mine[at] == wanted, at, -1)


class _Asked:
    """Captions to ask with: whose they are, and which pictures there are not."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.missing: list[str] = []
        self.missing_count = 0

    def resolve(self, pairs: Iterable[Pair]) -> Iterator[tuple[list[str], list[str]]]:
        """The pictures' ids, "" for one that is not stored, and the words; never none of them."""
        source = iter(pairs)
        while batch := list(islice(source, _BATCH)):
            known = self._collection.get(
                "files", [pair.path for pair in batch], ["path", "image_id"]
            )
            ids = {row["path"]: row["image_id"] for row in known}
            found = []
            for pair in batch:
                owner = ids.get(pair.path, "")
                if pair.problem and not (owner and pair.captions):
                    self._miss(pair)
                found += [(owner, words) for words in pair.captions]
            for start in range(0, len(found), _BATCH):
                owners, words = zip(*found[start : start + _BATCH], strict=True)
                yield list(owners), list(words)

    def _miss(self, pair: Pair) -> None:
        self.missing_count += 1
        if self.missing_count <= MAX_MISSING:
            self.missing.append(f"{pair.path}: {pair.problem}")


def _some(numbers: Numbers, limit: int, dice: np.random.Generator) -> Numbers:
    if not 0 < limit < len(numbers):
        return numbers
    return np.sort(dice.choice(numbers, limit, replace=False))


def _quality(
    direction: Direction,
    rows: Rows,
    gallery: Rows,
    asking: Numbers,
    pairs: Numbers,
    groups: Numbers,
    ann_recall: float,
    resampling: tuple[int, int],
) -> Quality:
    """``pairs`` and ``asking`` number the rows of the whole; ranks are of those that ask."""
    local = np.stack([np.searchsorted(asking, pairs[:, 0]), pairs[:, 1]], axis=1)
    found = ranks(rows[asking], gallery, local)
    recall, median = bootstrap(found, groups, KS, *resampling)
    return Quality(
        direction, len(asking), len(gallery), MappingProxyType(recall), median, ann_recall
    )


def _ann(collection: Collection, target: Target, queries: Rows, gallery: Rows) -> float:
    """The share of the exact nearest ``ANN_K`` that Milvus returns.

    A hit counts when it is as near as the last of the exact ones, whichever of equals it is
    (https://arxiv.org/abs/1807.05614, section 2.1).
    """
    _, exact = nearest(queries, gallery, ANN_K)
    kept = 0
    for first in range(0, len(queries), 50):
        block = queries[first : first + 50]
        answers = collection.search(target, block, exact.shape[1], fields=["vector"])
        for query, bar, hits in zip(block, exact[first : first + 50, -1], answers, strict=True):
            if hits:
                vectors = np.array([row["vector"] for row, _ in hits], dtype=np.float32)
                kept += int((vectors @ query >= bar - TIE).sum())
    return kept / exact.size

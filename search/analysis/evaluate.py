"""Measure retrieval quality: recall@k in both directions, and the recall of the index.

Recall@k is what CLIP_benchmark's zero-shot retrieval reports
(https://github.com/LAION-AI/CLIP_benchmark): text→image, the share of captions whose image is
among the k nearest images; image→text, the share of images with a caption among the k nearest
captions. Ranks are exact, by inner products with every row. A wrong answer as near as the right one
ranks before it, so that a model that maps everything to one point finds nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from twinlens.search.analysis.metrics import KS, TIE, Estimate, Numbers, bootstrap, nearest, ranks
from twinlens.search.analysis.vector_file import VectorFile
from twinlens.search.errors import OptionError, UsageError
from twinlens.search.frozen import FrozenDict
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.records import Target

Direction = Literal["text→image", "image→text"]
#: How many results of Milvus are compared with the exact ones.
ANN_K = 10
#: How many missing images are listed; all are counted.
MAX_MISSING = 1_000
#: Pairs looked up, and captions encoded, in one batch.
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and captions to search for it with.

    Attributes:
        path: of the image, as it was ingested.
        captions: texts that should find it.
        problem: why the image cannot be read, in case it is not stored; "" if it can.
    """

    path: str
    captions: Sequence[str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """The retrieval quality of one direction.

    Attributes:
        direction: what the queries are, and what is searched.
        queries: number of queries, and of rows searched, ``gallery``.
        recall: recall@k, from 0 to 1, for every k of ``KS``.
        median_rank: half of the queries have their answer at this rank or better; 1 is best.
        ann_recall: the share of the exact 10 nearest rows that Milvus returns, over a sample of
            the queries; 1 for an exact index, NaN if the captions are not stored.
    """

    direction: Direction
    queries: int
    gallery: int
    recall: Mapping[int, Estimate]
    median_rank: Estimate
    ann_recall: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The retrieval quality of one model on one collection.

    Attributes:
        model: its label.
        images: stored images, with and without captions, since all of them can be found.
        texts: captions of stored images.
        unpaired: texts that describe no stored image, and were left out.
        dim: dimensions of an embedding.
        directions: text→image and image→text.
        missing: the first images that are not stored and could not be read, as "path: reason".
        missing_count: the number of such images.
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
        """Bytes of one stored float32 vector."""
        return 4 * self.dim

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""

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
    """Measure retrieval in both directions, with the stored captions or with others.

    Memory is bounded: vectors are streamed from Milvus into temporary files. Time grows with
    ``max_queries`` times the number of rows.

    Args:
        collection: the images, and the captions unless ``pairs`` are given.
        pairs: captions to use instead of the stored ones.
        encoder: the collection's model, to encode those.
        max_queries: the most queries in each direction, drawn at random; 0 for all.
        ann_queries: for how many of them Milvus' results are compared with the exact ones.
        draws: resamples for the confidence intervals.
        seed: of everything random.

    Raises:
        UsageError: there are no captions of stored images, or a number is out of range.
    """
    for name, number in (("seed", seed), ("max_queries", max_queries)):
        if number < 0:
            raise OptionError(f"must be at least 0, not {number}", name)
    captions = _CaptionPairs(collection)
    dim = collection.fingerprint.dim
    with tempfile.TemporaryDirectory() as folder:
        images = VectorFile(Path(folder) / "images", dim)
        for rows in collection.scan("images", ["id", "vector"]):
            images.add([row["id"] for row in rows], [row["vector"] for row in rows])
        texts = VectorFile(Path(folder) / "texts", dim)
        if pairs is None:
            for rows in collection.scan("texts", ["image_id", "vector"]):
                texts.add([row["image_id"] for row in rows], [row["vector"] for row in rows])
        else:
            if encoder is None:
                raise UsageError("captions that are not stored must be encoded: give the encoder")
            for owners, words in captions.resolve(pairs):
                texts.add(owners, encoder.texts(words))
        owner = images.find(texts.keys())
        paired = np.flatnonzero(owner >= 0)
        if not len(paired):
            raise UsageError(
                "there are no captions of stored pictures: ingest captions, too, or give a file of "
                "pairs" + (f". Missing: {captions.missing[0]}" if captions.missing else "")
            )
        rng = np.random.default_rng(seed)
        asking = _some(paired, max_queries, rng)
        with_captions = _some(np.unique(owner[paired]), max_queries, rng)
        image_rows, text_rows = images.rows(), texts.rows()
        ann_to_image = _ann(
            collection, "images", text_rows[_some(asking, ann_queries, rng)], image_rows
        )
        ann_to_text = float("nan")
        if pairs is None:
            some = _some(with_captions, ann_queries, rng)
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
            missing=tuple(captions.missing),
            missing_count=captions.missing_count,
        )


class _CaptionPairs:
    """Look up the images that captions belong to, and collect those that are missing."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.missing: list[str] = []
        self.missing_count = 0

    def resolve(self, pairs: Iterable[Pair]) -> Iterator[tuple[list[str], list[str]]]:
        """Batches of captions with their images' ids, "" for an image that is not stored."""
        source = iter(pairs)
        while batch := list(islice(source, _BATCH)):
            stored = self._collection.get(
                "files", [pair.path for pair in batch], ["path", "image_id"]
            )
            ids = {row["path"]: row["image_id"] for row in stored}
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


def _some(numbers: Numbers, limit: int, rng: np.random.Generator) -> Numbers:
    if not 0 < limit < len(numbers):
        return numbers
    return np.sort(rng.choice(numbers, limit, replace=False))


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
    """Measure one direction; ``asking`` and ``pairs`` number rows of ``rows`` and ``gallery``."""
    local = np.stack([np.searchsorted(asking, pairs[:, 0]), pairs[:, 1]], axis=1)
    found = ranks(rows[asking], gallery, local)
    recall, median = bootstrap(found, groups, KS, *resampling)
    return Quality(direction, len(asking), len(gallery), FrozenDict(recall), median, ann_recall)


def _ann(collection: Collection, target: Target, queries: Rows, gallery: Rows) -> float:
    """The share of the exact ``ANN_K`` nearest rows that Milvus returns.

    A result counts if it is as near as the last of the exact ones, so that ties do not matter
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

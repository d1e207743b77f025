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
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search.corpus import Corpus
from search.encoder import Encoder, Rows
from search.errors import UsageError
from search.ranking import KS, TIE, Estimate, Numbers, bootstrap, nearest, ranks
from search.records import ID_LENGTH, Target

Direction = Literal["text→image", "image→text"]
#: The depth at which Milvus' answers are compared with exact ones.
ANN_K = 10


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
    found. ``unpaired`` texts describe no stored picture and were left out.
    """

    model: str
    images: int
    texts: int
    unpaired: int
    dim: int
    directions: tuple[Quality, Quality]

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
    corpus: Corpus,
    *,
    pairs: Iterable[tuple[str, Sequence[str]]] | None = None,
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
        pairs: paths as they were ingested, each with captions to ask instead of the stored ones.
        encoder: the corpus' model, to encode those.
        max_queries: ask at most so many each way, drawn at random; 0 for all.
        ann_queries: on how many of them to compare Milvus' answers with exact ones.
        draws: resamples for the confidence intervals.
        seed: of everything random.

    Raises:
        UsageError: there are no captions of stored pictures.
    """
    dim = corpus.fingerprint.dim
    with tempfile.TemporaryDirectory() as folder:
        images = _Vectors(Path(folder) / "images", dim)
        for rows in corpus.scan("images", ["id", "vector"]):
            images.add([row["id"] for row in rows], [row["vector"] for row in rows])
        texts = _Vectors(Path(folder) / "texts", dim)
        if pairs is None:
            for rows in corpus.scan("texts", ["image_id", "vector"]):
                texts.add([row["image_id"] for row in rows], [row["vector"] for row in rows])
        else:
            if encoder is None:
                raise UsageError("captions that are not stored need the encoder")
            for owners, words in _asked(corpus, pairs):
                texts.add(owners, encoder.texts(words))
        owner = images.find(texts.keys())
        paired = np.flatnonzero(owner >= 0)
        if not len(paired):
            raise UsageError(
                "no caption of a stored picture to ask with: ingest captions too, or give a file "
                "of pairs"
            )
        dice = np.random.default_rng(seed)
        asking = _some(paired, max_queries, dice)
        with_captions = _some(np.unique(owner[paired]), max_queries, dice)
        image_rows, text_rows = images.rows(), texts.rows()
        ann_to_image = _ann(
            corpus, "images", text_rows[_some(asking, ann_queries, dice)], image_rows
        )
        ann_to_text = float("nan")
        if pairs is None:
            some = _some(with_captions, ann_queries, dice)
            ann_to_text = _ann(corpus, "texts", image_rows[some], text_rows)
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
            model=corpus.fingerprint.label,
            images=len(image_rows),
            texts=len(paired),
            unpaired=len(owner) - len(paired),
            dim=dim,
            directions=(to_image, to_text),
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


def _asked(
    corpus: Corpus, pairs: Iterable[tuple[str, Sequence[str]]]
) -> Iterator[tuple[list[str], list[str]]]:
    """Captions of pictures that are stored: the pictures' ids, and the words."""
    batch: list[tuple[str, Sequence[str]]] = []

    def resolved() -> tuple[list[str], list[str]]:
        known = corpus.get("files", [path for path, _ in batch], ["path", "image_id"])
        ids = {row["path"]: row["image_id"] for row in known}
        found = [(ids.get(path, ""), words) for path, captions in batch for words in captions]
        return [of for of, _ in found], [words for _, words in found]

    for pair in pairs:
        batch.append(pair)
        if len(batch) == 64:
            yield resolved()
            batch.clear()
    if batch:
        yield resolved()


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


def _ann(corpus: Corpus, target: Target, queries: Rows, gallery: Rows) -> float:
    """The share of the exact nearest ``ANN_K`` that Milvus returns.

    A hit counts when it is as near as the last of the exact ones, whichever of equals it is
    (https://arxiv.org/abs/1807.05614, section 2.1).
    """
    _, exact = nearest(queries, gallery, ANN_K)
    kept = 0
    for first in range(0, len(queries), 50):
        block = queries[first : first + 50]
        answers = corpus.search(target, block, exact.shape[1], fields=["vector"])
        for query, bar, hits in zip(block, exact[first : first + 50, -1], answers, strict=True):
            if hits:
                vectors = np.array([row["vector"] for row, _ in hits], dtype=np.float32)
                kept += int((vectors @ query >= bar - TIE).sum())
    return kept / exact.size

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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from search.corpus import Corpus
from search.encoder import Encoder, Rows
from search.errors import TwinlensError, UsageError
from search.records import ID_LENGTH, Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Direction = Literal["text→image", "image→text"]
Numbers = npt.NDArray[np.int64]
#: Where recall is measured: the usual three, and more for the plot.
KS = (1, 2, 3, 5, 10, 20, 50, 100)
#: The depth at which Milvus' answers are compared with exact ones.
ANN_K = 10
#: Inner products nearer than this are the same: float32 sums depend on their order.
TIE = 1e-6
#: Rows per side of one block of inner products: 4 MB of queries' scores at a time.
_QUERIES, _GALLERY = 256, 4_096


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


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


def ranks(queries: Rows, gallery: Rows, pairs: Numbers) -> Numbers:
    """The rank of each query's nearest right answer, from 1; exact, block by block.

    Args:
        queries: float32 unit rows ``[n, dim]``.
        gallery: float32 unit rows ``[m, dim]``; it may be a memory map.
        pairs: int64 ``[p, 2]``: which row of the gallery answers which query. Every query has at
            least one.

    Returns:
        int64 ``[n]``: one more than the strangers that are as near as the nearest right answer.
    """
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    found = np.empty(len(queries), dtype=np.int64)
    for first in range(0, len(queries), _QUERIES):
        block = np.asarray(queries[first : first + _QUERIES])
        begin, end = np.searchsorted(pairs[:, 0], [first, first + len(block)])
        asks, answers = pairs[begin:end, 0] - first, pairs[begin:end, 1]
        right = np.einsum("pd,pd->p", block[asks], gallery[answers])
        best = np.full(len(block), -np.inf, dtype=np.float32)
        np.maximum.at(best, asks, right)
        bar = best[:, None] - np.float32(TIE)
        ahead = np.ones(len(block), dtype=np.int64)
        for start in range(0, len(gallery), _GALLERY):
            near = block @ gallery[start : start + _GALLERY].T >= bar
            here = (answers >= start) & (answers < start + near.shape[1])
            near[asks[here], answers[here] - start] = False
            ahead += near.sum(axis=1)
        found[first : first + len(block)] = ahead
    return found


def nearest(queries: Rows, gallery: Rows, k: int) -> tuple[Numbers, Rows]:
    """The exact ``k`` nearest rows of each query: int64 ``[n, k]`` and inner products, best first.

    Fewer than ``k`` columns where the gallery has fewer rows. Memory is bounded as in ``ranks``.
    """
    k = min(k, len(gallery))
    numbers = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    for first in range(0, len(queries), _QUERIES):
        block = np.asarray(queries[first : first + _QUERIES])
        held = np.empty((len(block), 0), dtype=np.float32)
        which = np.empty((len(block), 0), dtype=np.int64)
        for start in range(0, len(gallery), _GALLERY):
            new = block @ gallery[start : start + _GALLERY].T
            held = np.concatenate([held, new], axis=1)
            rows = np.broadcast_to(np.arange(start, start + new.shape[1]), new.shape)
            which = np.concatenate([which, rows], axis=1)
            order = np.argsort(-held, axis=1, kind="stable")[:, :k]
            held = np.take_along_axis(held, order, axis=1)
            which = np.take_along_axis(which, order, axis=1)
        numbers[first : first + len(block)] = which
        scores[first : first + len(block)] = held
    return numbers, scores


def bootstrap(
    found: Numbers, groups: Numbers, ks: Sequence[int] = KS, draws: int = 1_000, seed: int = 0
) -> tuple[dict[int, Estimate], Estimate]:
    """Recall@k and the median rank, with 95 % percentile intervals.

    Queries are drawn with replacement, those of one group together: the captions of one picture
    succeed and fail together, and an interval that took them for independent would be too narrow
    (the cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 3.8). Where every query succeeds, the interval is that one point, which says only that
    there were too few queries to see a failure.

    Args:
        found: int64 ``[n]``, ranks from 1.
        groups: int64 ``[n]``: equal numbers are drawn together.
        ks: where to measure recall.
        draws: how many resamples.
        seed: the same seed, the same interval.

    Returns:
        Recall by k, and the smallest rank that half of the queries reach.
    """
    order = np.argsort(found, kind="stable")
    sorted_ranks = found[order]
    names, member = np.unique(groups[order], return_inverse=True)
    until = np.searchsorted(sorted_ranks, ks, side="right")
    dice = np.random.default_rng(seed)

    def measure(weights: Numbers) -> Rows:
        reached = np.concatenate([[0], np.cumsum(weights)])
        middle = np.searchsorted(reached[1:], reached[-1] / 2)
        return np.array([*(reached[until] / reached[-1]), sorted_ranks[middle]], dtype=np.float64)

    point = measure(np.ones(len(found), dtype=np.int64))
    drawn = np.stack(
        [
            measure(
                np.bincount(dice.integers(0, len(names), len(names)), minlength=len(names))[member]
            )
            for _ in range(draws)
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    estimates = [
        Estimate(float(value), float(min(value, at_least)), float(max(value, at_most)))
        for value, at_least, at_most in zip(point, low, high, strict=True)
    ]
    return dict(zip(ks, estimates[:-1], strict=True)), estimates[-1]


def plot(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Draw recall@k over k, both ways, with the intervals as bands; PNG, SVG or PDF by its ending.

    Raises:
        TwinlensError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TwinlensError("a plot needs matplotlib: pip install 'twinlens[plot]'") from error

    figure = Figure(figsize=(10, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for side, axes in enumerate((left, right)):
        _draw(axes, [evaluation.directions[side] for evaluation in evaluations],
              [evaluation.model for evaluation in evaluations])  # fmt: skip
    left.set_ylabel("recall@k in per cent")
    if len(evaluations) > 1:
        left.legend(loc="lower right", frameon=False)
    shown = evaluations[0]
    about = f"{shown.images:,} pictures, {shown.texts:,} captions; bands: 95 % intervals"
    title = about if len(evaluations) > 1 else f"{shown.model}: {about}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise TwinlensError(f"{path} cannot be written: {error}") from error


def _draw(axes: Axes, sides: Sequence[Quality], names: Sequence[str]) -> None:
    colours = ("#b4541a", "#2b6ca3", "#3d8b57", "#8a4f9e", "#7a6a3a", "#444444")
    for number, (side, name) in enumerate(zip(sides, names, strict=True)):
        ks = [k for k in KS if k == 1 or k <= side.gallery]
        found = [side.recall[k] for k in ks]
        colour = colours[number % len(colours)]
        values = [100 * estimate.value for estimate in found]
        axes.fill_between(
            ks,
            [100 * estimate.low for estimate in found],
            [100 * estimate.high for estimate in found],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(ks, values, color=colour, marker="o", markersize=4, linewidth=1.8, label=name)
        if len(sides) == 1:
            for k, value in zip(ks, values, strict=True):
                if k in (1, 5, 10):
                    axes.annotate(
                        f"{value:.1f}",
                        (k, value),
                        xytext=(6, -13),
                        textcoords="offset points",
                        color=colour,
                    )
    axes.set_xscale("log")
    axes.set_xticks(KS, [str(k) for k in KS])
    axes.minorticks_off()
    axes.set_xlim(0.9, 110)
    axes.set_ylim(0, 102)
    axes.set_xlabel("k")
    axes.set_title(f"{sides[0].direction}, {sides[0].queries:,} queries", loc="left", fontsize=10)
    axes.grid(color="#e4e1db", linewidth=0.7)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)


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

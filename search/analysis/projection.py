"""A map of a collection: its pictures' embeddings brought down to two dimensions."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Rows

Points = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
#: Pictures of a larger collection that stand on its map.
MAX_POINTS = 20_000
#: Share of the points that say how large the map is; those farther out are drawn in.
INSIDE = 0.97
#: How suddenly: the higher, the less is changed within, and the more crowded is the rim.
BEND = 3.0
#: Neighbours on the map that say where another picture belongs.
NEIGHBOURS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A map.

    Attributes:
        method: how it was made.
        ids: the pictures that stand on it.
        points: where, float32 ``[len(ids), 2]`` from -1 to 1.
        total: how many pictures there are; more than ``ids`` where a sample stands for them.
    """

    method: Method
    ids: tuple[str, ...]
    points: Points
    total: int
    _place: Callable[[Rows], Points] = field(repr=False)

    def place(self, vectors: Rows) -> Points:
        """Where pictures belong that are not on the map.

        Args:
            vectors: float32 unit rows ``[n, dim]``.

        Returns:
            float32 ``[n, 2]`` from -1 to 1.
        """
        if not len(vectors):
            return np.empty((0, 2), dtype=np.float32)
        return self._place(np.asarray(vectors, dtype=np.float32))


def project(collection: Collection, method: Method = "pca", limit: int = MAX_POINTS) -> Projection:
    """Read every picture's embedding once, and draw the map of at most ``limit`` of them.

    Which ones, a hash of their ids decides: evenly, and the same ones each time. Memory holds two
    batches, the sample, and for PCA a matrix ``[dim, dim]``.

    Raises:
        UsageError: UMAP is not installed.
    """
    if method == "umap" and not has_umap():
        raise UsageError("UMAP needs an extra package: pip install 'twinlens[map]'")
    dim = collection.fingerprint.dim
    sample = Sample(dim, limit)
    moments = Moments(dim)
    for rows in collection.scan("images", ["id", "vector"]):
        vectors = np.array([row["vector"] for row in rows], dtype=np.float32).reshape(-1, dim)
        sample.add([row["id"] for row in rows], vectors)
        if method == "pca":
            moments.add(vectors)
    ids, vectors = sample.chosen()
    if method == "umap" and len(ids) > NEIGHBOURS:
        return _by_umap(ids, vectors, sample.seen)
    return _by_pca(ids, vectors, sample.seen, moments if moments.count else _moments_of(vectors))


def methods() -> tuple[Method, ...]:
    """The methods that can be used here."""
    return tuple(method for method in METHODS if method != "umap" or has_umap())


def has_umap() -> bool:
    """Whether UMAP is installed."""
    return importlib.util.find_spec("umap") is not None


class Moments:
    """The mean and the covariance of rows that come batch by batch."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum = np.zeros(dim, dtype=np.float64)
        self._products = np.zeros((dim, dim), dtype=np.float64)

    def add(self, rows: Rows) -> None:
        """Take ``[n, dim]`` rows in."""
        exact = rows.astype(np.float64)
        self.count += len(rows)
        self._sum += exact.sum(axis=0)
        self._products += exact.T @ exact

    def axes(self, number: int = 2) -> tuple[Doubles, Doubles]:
        """The mean ``[dim]``, and the directions of most variance ``[dim, number]``, unit columns.

        The sign of each is such that its largest component is positive. Unit rows of up to a few
        thousand dimensions lose nothing worth having by subtracting the mean's products last.
        """
        mean = self._sum / max(1, self.count)
        covariance = self._products / max(1, self.count) - np.outer(mean, mean)
        _, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, :number]
        if axes.shape[1] < number:
            axes = np.pad(axes, ((0, 0), (0, number - axes.shape[1])))
        largest = axes[np.abs(axes).argmax(axis=0), np.arange(number)]
        return mean, axes * np.where(largest < 0, -1.0, 1.0)


class Sample:
    """At most ``limit`` rows of any number, chosen by a hash of their ids."""

    def __init__(self, dim: int, limit: int) -> None:
        self.seen = 0
        self._limit = limit
        self._ids: list[str] = []
        self._hashes = np.empty(0, dtype=np.uint64)
        self._vectors: Rows = np.empty((0, dim), dtype=np.float32)
        self._waiting: list[tuple[list[str], npt.NDArray[np.uint64], Rows]] = []
        self._waiting_rows = 0
        self._bar = np.uint64(2**64 - 1)

    def add(self, ids: Sequence[str], vectors: Rows) -> None:
        """Take rows ``[n, dim]`` in, as far as they are chosen."""
        self.seen += len(ids)
        hashes = np.array([_hash(one) for one in ids], dtype=np.uint64)
        near = np.flatnonzero(hashes <= self._bar)
        if len(near):
            chosen = [ids[n] for n in near.tolist()]
            self._waiting.append((chosen, hashes[near], vectors[near]))
            self._waiting_rows += len(near)
        if self._waiting_rows > max(4_096, self._limit // 4):
            self._settle()

    def chosen(self) -> tuple[tuple[str, ...], Rows]:
        """The ids, in the order of their hashes, and their rows."""
        self._settle()
        order = np.argsort(self._hashes, kind="stable")
        return tuple(self._ids[n] for n in order), self._vectors[order]

    def _settle(self) -> None:
        ids = [*self._ids, *(one for some, _, _ in self._waiting for one in some)]
        hashes = np.concatenate([self._hashes, *(some for _, some, _ in self._waiting)])
        vectors = np.concatenate([self._vectors, *(some for _, _, some in self._waiting)])
        self._waiting, self._waiting_rows = [], 0
        if len(ids) > self._limit:
            kept = np.argpartition(hashes, self._limit - 1)[: self._limit]
            ids, hashes, vectors = [ids[n] for n in kept.tolist()], hashes[kept], vectors[kept]
            self._bar = hashes.max()
        self._ids, self._hashes, self._vectors = ids, hashes, vectors


class Scale:
    """Fits points into the square from -1 to 1, whatever lies far out.

    Each axis is bent smoothly, in order: nearly straight in the middle, ever flatter outside.
    """

    def __init__(self, points: Doubles) -> None:
        edge = (1 - INSIDE) / 2
        low, high = np.zeros(2), np.zeros(2)
        if len(points):
            low, high = np.quantile(points, [edge, 1 - edge], axis=0)
        self._middle = (low + high) / 2
        half = (high - low) / 2
        self._half = np.where(half > 1e-9, half, 1.0)

    def apply(self, points: Doubles) -> Points:
        """``[n, 2]`` of any size → float32 ``[n, 2]`` from -1 to 1."""
        scaled = (points - self._middle) / self._half
        fitted = scaled / (1 + np.abs(scaled) ** BEND) ** (1 / BEND)
        return cast(Points, fitted.astype(np.float32))


def _by_pca(ids: tuple[str, ...], vectors: Rows, total: int, moments: Moments) -> Projection:
    mean, axes = moments.axes()
    scale = Scale((vectors - mean) @ axes)

    def place(rows: Rows) -> Points:
        return scale.apply((rows - mean) @ axes)

    return Projection("pca", ids, place(vectors), total, place)


def _moments_of(vectors: Rows) -> Moments:
    moments = Moments(vectors.shape[1])
    moments.add(vectors)
    return moments


def _by_umap(ids: tuple[str, ...], vectors: Rows, total: int) -> Projection:
    raw = _umap(vectors)
    points = Scale(raw).apply(raw)
    # Half as large in memory; three neighbours are found all the same.
    kept = vectors.astype(np.float16) if total > len(ids) else vectors[:0].astype(np.float16)
    known = points if len(kept) else points[:0]

    def place(rows: Rows) -> Points:
        if not len(kept):  # everything is on the map
            return np.zeros((len(rows), 2), dtype=np.float32)
        cosines = rows @ kept.astype(np.float32).T
        near = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        weights = np.exp(20 * np.take_along_axis(cosines, near, axis=1))
        weights /= weights.sum(axis=1, keepdims=True)
        placed: Points = (known[near] * weights[:, :, None]).sum(axis=1).astype(np.float32)
        return placed

    return Projection("umap", ids, points, total, place)


def _umap(vectors: Rows) -> Doubles:
    """UMAP (https://arxiv.org/abs/1802.03426) of unit rows, the same each time."""
    umap: Any = importlib.import_module("umap")
    model = umap.UMAP(
        n_neighbors=min(15, len(vectors) - 1),
        min_dist=0.1,
        metric="cosine",
        init="pca" if len(vectors) < 50 else "spectral",
        random_state=0,
        n_jobs=1,  # the same each time costs threads
    )
    raw: Doubles = np.asarray(model.fit_transform(vectors), dtype=np.float64)
    return np.nan_to_num(raw)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")

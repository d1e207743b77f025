"""Project the embeddings of a collection's images to two dimensions, for the map."""

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
from twinlens.search.query.calibration import Reals

Points = npt.NDArray[np.float32]
Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
#: The most images on a map; of a larger collection, a sample.
MAX_POINTS = 20_000
#: The share of points, per axis, that sets the scale of the map; outliers are pulled in.
CORE = 0.97
#: How sharply: higher values change the middle less and crowd the edge more.
SHARPNESS = 3.0
#: Nearest images on the map that place an image outside the sample.
NEIGHBOURS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A map of a collection.

    Attributes:
        method: how it was made.
        ids: of the images on it.
        points: their positions, float32 ``[len(ids), 2]`` from -1 to 1.
        total: images in the collection; more than ``ids`` if they are a sample.
    """

    method: Method
    ids: tuple[str, ...]
    points: Points
    total: int
    _place: Callable[[Rows], Points] = field(repr=False)

    def place(self, vectors: Rows) -> Points:
        """Positions for images that are not on the map.

        Args:
            vectors: float32 unit rows ``[n, dim]``.

        Returns:
            float32 ``[n, 2]`` from -1 to 1.
        """
        if not len(vectors):
            return np.empty((0, 2), dtype=np.float32)
        return self._place(np.asarray(vectors, dtype=np.float32))


def project(
    collection: Collection,
    method: Method = "pca",
    limit: int = MAX_POINTS,
    expression: str = "",
) -> Projection:
    """Read the embeddings of all images once, and project a sample of at most ``limit``.

    Only images that match a Milvus expression are projected.

    The sample is chosen by a hash of the ids: uniform, and the same each time. Memory holds two
    batches, the sample, and for PCA a matrix ``[dim, dim]``.

    Raises:
        UsageError: UMAP is not installed.
    """
    if method == "umap" and not has_umap():
        raise UsageError("UMAP needs an extra package: pip install 'twinlens[map]'")
    dim = collection.fingerprint.dim
    sample = HashSample(dim, limit)
    covariance = RunningCovariance(dim)
    for rows in collection.scan("images", ["id", "vector"], expression):
        vectors = np.array([row["vector"] for row in rows], dtype=np.float32).reshape(-1, dim)
        sample.add([row["id"] for row in rows], vectors)
        if method == "pca":
            covariance.add(vectors)
    ids, vectors = sample.chosen()
    if method == "umap" and len(ids) > NEIGHBOURS:
        return _by_umap(ids, vectors, sample.seen)
    return _by_pca(
        ids, vectors, sample.seen, covariance if covariance.count else _covariance_of(vectors)
    )


def methods() -> tuple[Method, ...]:
    """The methods available in this installation."""
    return tuple(method for method in METHODS if method != "umap" or has_umap())


def has_umap() -> bool:
    """Whether UMAP is installed."""
    return importlib.util.find_spec("umap") is not None


class RunningCovariance:
    """Compute the mean and covariance of rows that arrive in batches."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._sum = np.zeros(dim, dtype=np.float64)
        self._products = np.zeros((dim, dim), dtype=np.float64)

    def add(self, rows: Rows) -> None:
        """Add rows ``[n, dim]``."""
        exact = rows.astype(np.float64)
        self.count += len(rows)
        self._sum += exact.sum(axis=0)
        self._products += exact.T @ exact

    def axes(self, number: int = 2) -> tuple[Reals, Reals]:
        """The mean ``[dim]`` and the principal axes ``[dim, number]``, as unit columns.

        The largest component of each axis is positive. Subtracting the products of the mean last
        costs no precision that matters for unit rows of a few thousand dimensions.
        """
        mean = self._sum / max(1, self.count)
        spread = self._products / max(1, self.count) - np.outer(mean, mean)
        _, vectors = np.linalg.eigh(spread)
        axes = vectors[:, ::-1][:, :number]
        if axes.shape[1] < number:
            axes = np.pad(axes, ((0, 0), (0, number - axes.shape[1])))
        largest = axes[np.abs(axes).argmax(axis=0), np.arange(number)]
        return mean, axes * np.where(largest < 0, -1.0, 1.0)


class HashSample:
    """Sample at most ``limit`` rows of a stream, by the smallest hashes of their ids."""

    def __init__(self, dim: int, limit: int) -> None:
        self.seen = 0
        self._limit = limit
        self._ids: list[str] = []
        self._hashes = np.empty(0, dtype=np.uint64)
        self._vectors: Rows = np.empty((0, dim), dtype=np.float32)
        self._pending: list[tuple[list[str], npt.NDArray[np.uint64], Rows]] = []
        self._pending_rows = 0
        self._largest_hash = np.uint64(2**64 - 1)

    def add(self, ids: Sequence[str], vectors: Rows) -> None:
        """Add rows ``[n, dim]``; those with too large a hash are dropped."""
        self.seen += len(ids)
        hashes = np.array([_hash(one) for one in ids], dtype=np.uint64)
        near = np.flatnonzero(hashes <= self._largest_hash)
        if len(near):
            chosen = [ids[n] for n in near.tolist()]
            self._pending.append((chosen, hashes[near], vectors[near]))
            self._pending_rows += len(near)
        if self._pending_rows > max(4_096, self._limit // 4):
            self._shrink()

    def chosen(self) -> tuple[tuple[str, ...], Rows]:
        """The sampled ids, in the order of their hashes, and their rows."""
        self._shrink()
        order = np.argsort(self._hashes, kind="stable")
        return tuple(self._ids[n] for n in order), self._vectors[order]

    def _shrink(self) -> None:
        ids = [*self._ids, *(one for some, _, _ in self._pending for one in some)]
        hashes = np.concatenate([self._hashes, *(some for _, some, _ in self._pending)])
        vectors = np.concatenate([self._vectors, *(some for _, _, some in self._pending)])
        self._pending, self._pending_rows = [], 0
        if len(ids) > self._limit:
            kept = np.argpartition(hashes, self._limit - 1)[: self._limit]
            ids, hashes, vectors = [ids[n] for n in kept.tolist()], hashes[kept], vectors[kept]
            self._largest_hash = hashes.max()
        self._ids, self._hashes, self._vectors = ids, hashes, vectors


class MapScale:
    """Scale points to the square from -1 to 1, with outliers pulled in.

    Each axis is compressed smoothly and keeps its order: nearly linear in the middle, flatter
    outside.
    """

    def __init__(self, points: Reals) -> None:
        edge = (1 - CORE) / 2
        low, high = np.zeros(2), np.zeros(2)
        if len(points):
            low, high = np.quantile(points, [edge, 1 - edge], axis=0)
        self._middle = (low + high) / 2
        half = (high - low) / 2
        self._half = np.where(half > 1e-9, half, 1.0)

    def apply(self, points: Reals) -> Points:
        """Scale points ``[n, 2]`` to float32 ``[n, 2]`` from -1 to 1."""
        scaled = (points - self._middle) / self._half
        fitted = scaled / (1 + np.abs(scaled) ** SHARPNESS) ** (1 / SHARPNESS)
        return cast(Points, fitted.astype(np.float32))


def _by_pca(
    ids: tuple[str, ...], vectors: Rows, total: int, covariance: RunningCovariance
) -> Projection:
    mean, axes = covariance.axes()
    scale = MapScale((vectors - mean) @ axes)

    def place(rows: Rows) -> Points:
        return scale.apply((rows - mean) @ axes)

    return Projection("pca", ids, place(vectors), total, place)


def _covariance_of(vectors: Rows) -> RunningCovariance:
    covariance = RunningCovariance(vectors.shape[1])
    covariance.add(vectors)
    return covariance


def _by_umap(ids: tuple[str, ...], vectors: Rows, total: int) -> Projection:
    raw = _umap(vectors)
    points = MapScale(raw).apply(raw)
    # float16 halves the memory; the nearest three are the same.
    kept = vectors.astype(np.float16) if total > len(ids) else vectors[:0].astype(np.float16)
    known = points if len(kept) else points[:0]

    def place(rows: Rows) -> Points:
        if not len(kept):  # all images are on the map
            return np.zeros((len(rows), 2), dtype=np.float32)
        cosines = rows @ kept.astype(np.float32).T
        near = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        weights = np.exp(20 * np.take_along_axis(cosines, near, axis=1))
        weights /= weights.sum(axis=1, keepdims=True)
        placed: Points = (known[near] * weights[:, :, None]).sum(axis=1).astype(np.float32)
        return placed

    return Projection("umap", ids, points, total, place)


def _umap(vectors: Rows) -> Reals:
    """Project unit rows with UMAP (https://arxiv.org/abs/1802.03426), reproducibly."""
    umap: Any = importlib.import_module("umap")
    model = umap.UMAP(
        n_neighbors=min(15, len(vectors) - 1),
        min_dist=0.1,
        metric="cosine",
        init="pca" if len(vectors) < 50 else "spectral",
        random_state=0,
        n_jobs=1,  # reproducible only with a single thread
    )
    raw: Reals = np.asarray(model.fit_transform(vectors), dtype=np.float64)
    return np.nan_to_num(raw)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")

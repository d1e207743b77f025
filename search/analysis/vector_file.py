"""``VectorFile``: vectors in a temporary file, each with a key, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.metrics import Numbers
from twinlens.search.models.base import Rows
from twinlens.search.records import ID_LENGTH

Keys = npt.NDArray[np.bytes_]


class VectorFile:
    """Float32 vectors on disk; memory holds 32 bytes for each key, and 8 more to look them up.

    Args:
        path: of the file, which is created.
        dim: numbers in a vector.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self._path = path
        self._dim = dim
        self._keys: list[Keys] = []
        self._sorted: tuple[Keys, Numbers] | None = None
        path.touch()

    def add(self, keys: Sequence[str] | Keys, vectors: Sequence[Any] | Rows) -> None:
        """Append vectors with their keys, ids or "", which may repeat."""
        if len(keys):
            self._keys.append(np.array(keys, dtype=f"S{ID_LENGTH}"))
            self._sorted = None
            with self._path.open("ab") as file:
                file.write(np.asarray(vectors, dtype=np.float32).tobytes())

    def keys(self) -> Keys:
        """All keys, in the order of the vectors."""
        self._keys = [np.concatenate([np.empty(0, dtype=f"S{ID_LENGTH}"), *self._keys])]
        return self._keys[0]

    def rows(self) -> Rows:
        """All vectors ``[n, dim]``, as a memory map."""
        count = sum(map(len, self._keys))
        if not count:
            return np.empty((0, self._dim), dtype=np.float32)
        return np.memmap(self._path, dtype=np.float32, mode="r", shape=(count, self._dim))

    def find(self, keys: Sequence[str] | Keys) -> Numbers:
        """The row number of each key, -1 if it is not there."""
        wanted = np.array(keys, dtype=f"S{ID_LENGTH}")
        if self._sorted is None:
            stored = self.keys()
            self._sorted = stored, np.argsort(stored)
        stored, order = self._sorted
        if not len(stored):
            return np.full(len(wanted), -1, dtype=np.int64)
        at = order[np.searchsorted(stored, wanted, sorter=order).clip(max=len(stored) - 1)]
        return np.where(stored[at] == wanted, at, -1)

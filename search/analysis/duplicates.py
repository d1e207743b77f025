"""Groups of pictures that are the same, or nearly: stored once under several paths, or alike."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import quote
from twinlens.search.models.base import Rows
from twinlens.search.options import is_number
from twinlens.search.records import Row

Numbers = npt.NDArray[np.int64]
#: Cosine from which two pictures count as nearly the same.
THRESHOLD = 0.95
#: Rows and columns of one block of cosines: 32 MB.
_ROWS, _COLUMNS = 1_024, 8_192
_FIELDS = ("id", "path", "relative_path", "width", "height", "bytes")
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Copy:
    """One picture of a group.

    Attributes:
        id: its id; equal bytes have equal ids.
        path: where it is; ``paths`` are all its paths, more than one where files are identical.
        width, height, bytes: its size, 0 where nobody knows it.
        similarity: cosine of its embedding with that of the group's first picture.
    """

    id: str
    path: str
    relative_path: str
    paths: tuple[str, ...]
    width: int
    height: int
    bytes: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures that are nearly the same, the largest first: the one to keep."""

    copies: tuple[Copy, ...]

    @property
    def files(self) -> int:
        """How many files there are of them."""
        return sum(len(copy.paths) for copy in self.copies)

    def to_dict(self) -> dict[str, Any]:
        """The group as plain types, for JSON."""
        copies = [asdict(copy) | {"paths": list(copy.paths)} for copy in self.copies]
        return {"files": self.files, "pictures": copies}


def duplicates(
    collection: Collection, threshold: float = THRESHOLD, expression: str = ""
) -> list[Group]:
    """Groups of nearly the same pictures, those of the most files first.

    Every cosine is computed, whatever the backend, so nothing is missed; vectors pass through a
    temporary file, and memory holds two blocks of them. The work grows with the square of the
    pictures. Groups are what is connected: if A is like B and B like C, all three are one group.

    Args:
        corpus: where the pictures are.
        threshold: the cosine from which two pictures count as the same, above 0, at most 1.
        expression: a Milvus expression that pictures must satisfy.

    Raises:
        UsageError: the threshold is out of range.
    """
    if not is_number(threshold) or not 0 < threshold <= 1:
        raise UsageError(f"the threshold is above 0 and at most 1, not {threshold!r}")
    dim = collection.fingerprint.dim
    with tempfile.TemporaryFile() as file:
        ids: list[str] = []
        several: set[str] = set()
        for rows in collection.scan("images", ["id", "paths", "vector"], expression):
            ids += [row["id"] for row in rows]
            several |= {row["id"] for row in rows if len(row["paths"]) > 1}
            file.write(np.array([row["vector"] for row in rows], dtype=np.float32).tobytes())
        if not ids:
            return []
        file.flush()
        vectors: Rows = np.memmap(file, np.float32, "r", shape=(len(ids), dim))
        members = [
            numbers
            for numbers in connected(vectors, threshold)
            if len(numbers) > 1 or ids[numbers[0]] in several
        ]
        groups = [
            Group(copies)
            for start in range(0, len(members), _BATCH)
            for copies in _described(collection, ids, members[start : start + _BATCH], vectors)
        ]
        del vectors  # the map must go before the file
    return sorted(groups, key=lambda group: (-group.files, group.copies[0].path))


def connected(vectors: Rows, threshold: float) -> list[Numbers]:
    """Which rows hang together by inner products of at least ``threshold``.

    Args:
        vectors: float32 unit rows ``[n, dim]``; it may be a memory map.
        threshold: from which two rows are neighbours.

    Returns:
        The numbers of the rows of each group, ascending; a row without neighbours is a group.
    """
    parent = np.arange(len(vectors), dtype=np.int64)
    # Equal rows must meet a threshold of 1, whatever float32 makes of their product.
    bar = np.float32(min(threshold, 1 - 1e-5))
    for first in range(0, len(vectors), _ROWS):
        block = np.asarray(vectors[first : first + _ROWS])
        for start in range(first, len(vectors), _COLUMNS):
            near = block @ vectors[start : start + _COLUMNS].T >= bar
            # Each row is its own neighbour in the first block.
            for row in np.flatnonzero(near.sum(axis=1) > (start == first)):
                _unite(parent, np.append(np.flatnonzero(near[row]) + start, first + row))
    roots = _roots(parent, np.arange(len(parent)))
    order = np.argsort(roots, kind="stable")
    ends = np.flatnonzero(np.diff(roots[order])) + 1
    return np.split(order, ends)


def _unite(parent: Numbers, rows: Numbers) -> None:
    roots = _roots(parent, rows)
    parent[roots] = roots.min()
    parent[rows] = roots.min()


def _roots(parent: Numbers, rows: Numbers) -> Numbers:
    found: Numbers = parent[rows]
    while not np.array_equal(above := parent[found], found):
        found = above
    return found


def _described(
    collection: Collection, ids: Sequence[str], members: Sequence[Numbers], vectors: Rows
) -> Iterator[tuple[Copy, ...]]:
    """Each group's pictures, the largest first."""
    wanted = [ids[number] for numbers in members for number in numbers]
    rows = {row["id"]: row for row in collection.get("images", wanted, _FIELDS)}
    paths = _paths(collection, wanted)
    for numbers in members:
        ordered = sorted(
            (number for number in numbers if ids[number] in rows),
            key=lambda number: _largest_first(rows[ids[number]]),
        )
        if ordered:
            kept = vectors[ordered[0]]
            yield tuple(
                _copy(rows[ids[number]], paths, float(vectors[number] @ kept)) for number in ordered
            )


def _largest_first(row: Row) -> tuple[int, int, str]:
    return -row["width"] * row["height"], -row["bytes"], row["path"]


def _copy(row: Row, paths: dict[str, list[str]], similarity: float) -> Copy:
    known = tuple(sorted(paths.get(row["id"], []))) or (row["path"],)
    return Copy(
        **{name: row[name] for name in _FIELDS}, paths=known, similarity=min(similarity, 1.0)
    )


def _paths(collection: Collection, ids: Sequence[str]) -> dict[str, list[str]]:
    """All paths of pictures; their own rows carry only the first."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(ids), _BATCH):
        quoted = ", ".join(map(quote, ids[start : start + _BATCH]))
        wanted = f'status == "ok" and image_id in [{quoted}]'
        for rows in collection.scan("files", ["path", "image_id"], wanted):
            for row in rows:
                found.setdefault(row["image_id"], []).append(row["path"])
    return found

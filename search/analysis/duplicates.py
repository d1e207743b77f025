"""Find groups of duplicate and near-duplicate images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twinlens.search.analysis.metrics import Numbers
from twinlens.search.errors import OptionError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import is_in
from twinlens.search.models.base import Rows
from twinlens.search.options import is_number
from twinlens.search.records import Row

#: The least cosine of two near-duplicates.
THRESHOLD = 0.95
#: Rows and columns of one block of cosines: 32 MB.
BLOCK = 1_024, 8_192
_FIELDS = ("id", "path", "relative_path", "width", "height", "bytes")
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Copy:
    """One image of a group.

    Attributes:
        id: its id; files with the same bytes have the same id.
        path, relative_path: of one of its files, absolute and below the ingested folder.
        paths: of all its files; several if there are exact duplicates.
        width, height, bytes: its size; 0 if unknown.
        similarity: cosine of its embedding with that of the group's first image.
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
    """A group of near-duplicate images, the largest first, which is the one to keep."""

    copies: tuple[Copy, ...]

    @property
    def files(self) -> int:
        """How many files the group has."""
        return sum(len(copy.paths) for copy in self.copies)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        copies = [asdict(copy) | {"paths": list(copy.paths)} for copy in self.copies]
        return {"files": self.files, "pictures": copies}


def duplicates(
    collection: Collection, threshold: float = THRESHOLD, expression: str = ""
) -> list[Group]:
    """Group near-duplicate images, groups with the most files first.

    All pairs are compared, whatever the backend, so none is missed. Vectors pass through a
    temporary file, and memory holds two blocks of them; the time grows with the square of the
    number of images. Groups are connected components: if A is similar to B and B to C, all three
    are one group.

    Args:
        collection: where the images are.
        threshold: the least cosine of two near-duplicates, above 0 and at most 1.
        expression: a Milvus expression that images must match.

    Raises:
        UsageError: the threshold is out of range.
    """
    if not is_number(threshold) or not 0 < threshold <= 1:
        raise OptionError(f"must be above 0 and at most 1, not {threshold!r}", "threshold")
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
            for copies in _describe(collection, ids, members[start : start + _BATCH], vectors)
        ]
        del vectors  # unmap before the file is closed
    # Of some, the other files may have been deleted meanwhile.
    groups = [group for group in groups if group.files > 1]
    return sorted(groups, key=lambda group: (-group.files, group.copies[0].path))


def connected(vectors: Rows, threshold: float, block: tuple[int, int] = BLOCK) -> list[Numbers]:
    """Find the connected components of the graph of near-duplicates.

    Args:
        vectors: float32 unit rows ``[n, dim]``; may be a memory map.
        threshold: the least inner product of two connected rows.
        block: rows and columns that are compared at once.

    Returns:
        The row numbers of each component, ascending; a row without neighbours is one, too.
    """
    height, width = block
    parent = np.arange(len(vectors), dtype=np.int64)
    # Equal rows must meet a threshold of 1 despite rounding in float32.
    bar = np.float32(min(threshold, 1 - 1e-5))
    for first in range(0, len(vectors), height):
        rows = np.asarray(vectors[first : first + height])
        for start in range(first, len(vectors), width):
            near = rows @ vectors[start : start + width].T >= bar
            # Each row is its own neighbour in the first block.
            for row in np.flatnonzero(near.sum(axis=1) > (start == first)):
                _unite(parent, np.append(np.flatnonzero(near[row]) + start, first + row))
    roots = _roots(parent, np.arange(len(parent)))
    order = np.argsort(roots, kind="stable")
    ends = np.flatnonzero(np.diff(roots[order])) + 1
    return np.split(order, ends)


def _unite(parent: Numbers, rows: Numbers) -> None:
    """Merge the components of rows in the union-find forest ``parent``."""
    roots = _roots(parent, rows)
    parent[roots] = roots.min()
    parent[rows] = roots.min()


def _roots(parent: Numbers, rows: Numbers) -> Numbers:
    found: Numbers = parent[rows]
    while not np.array_equal(above := parent[found], found):
        found = above
    return found


def _describe(
    collection: Collection, ids: Sequence[str], members: Sequence[Numbers], vectors: Rows
) -> Iterator[tuple[Copy, ...]]:
    """Read the images of each group, the largest first."""
    needed = [ids[number] for numbers in members for number in numbers]
    rows = {row["id"]: row for row in collection.get("images", needed, _FIELDS)}
    paths = paths_of(collection, needed)
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
    all_paths = tuple(sorted(paths.get(row["id"], []))) or (row["path"],)
    return Copy(
        **{name: row[name] for name in _FIELDS}, paths=all_paths, similarity=min(similarity, 1.0)
    )


def paths_of(collection: Collection, ids: Sequence[str]) -> dict[str, list[str]]:
    """All paths of images by id; an image's own row has only the first ones."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        wanted = f'status == "ok" and {is_in("image_id", batch)}'
        for rows in collection.scan("files", ["path", "image_id"], wanted):
            for row in rows:
                found.setdefault(row["image_id"], []).append(row["path"])
    return found

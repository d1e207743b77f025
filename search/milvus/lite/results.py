"""Make rows and hits of blocks' columns, as ``pymilvus`` returns them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twinlens.search.milvus.lite.arrays import SPARSE_TERM, int64_array, numpy_of
from twinlens.search.milvus.lite.blocks import Block, Mask
from twinlens.search.milvus.lite.ranking import Ranked
from twinlens.search.records import Row

#: A field that stands for the primary key, whatever its column is.
KEY = "$key"


class LiteHit(dict[str, Any]):
    """One result of a search: ``id``, ``distance`` and ``entity``."""

    @property
    def id(self) -> str:
        """The primary key."""
        return str(self["id"])


class LiteIterator:
    """Pages of rows, like ``pymilvus``' iterators."""

    def __init__(self, pages: Iterator[list[Row]]) -> None:
        self._pages = pages

    def next(self) -> list[Row]:
        """The next page; [] after the last one."""
        return next(self._pages, [])

    def close(self) -> None:
        """Let go of the rows."""
        self._pages = iter(())


def in_key_order(
    rows: Sequence[tuple[Block, Mask]], size: int, fields: Sequence[str]
) -> Iterator[list[Row]]:
    """Pages of the selected rows, in the order of their keys."""
    places = [np.flatnonzero(mask) for _, mask in rows]
    if not places:
        return
    keys = pa.chunked_array(
        [
            chunk
            for (block, _), some in zip(rows, places, strict=True)
            for chunk in block.keys.take(int64_array(some)).chunks
        ],
        type=pa.string(),
    )
    order = numpy_of(pc.sort_indices(keys))
    block_of = np.repeat(np.arange(len(places)), [len(some) for some in places])
    row_of = np.concatenate(places)
    for start in range(0, len(order), size):
        page = order[start : start + size]
        yield rows_at([block for block, _ in rows], block_of[page], row_of[page], fields)


def hits_of(
    blocks: Sequence[Block], rankings: Sequence[Sequence[Ranked]], fields: Sequence[str]
) -> list[list[LiteHit]]:
    """The hits of several rankings; their rows are read together."""
    flat = [one for ranking in rankings for one in ranking]
    block_of = np.array([block for block, _, _ in flat], dtype=np.int64)
    row_of = np.array([row for _, row, _ in flat], dtype=np.int64)
    rows = iter(rows_at(blocks, block_of, row_of, [KEY, *fields]))
    return [
        [
            LiteHit(id=row.pop(KEY), distance=score, entity=row)
            for (_, _, score), row in zip(ranking, rows, strict=False)
        ]
        for ranking in rankings
    ]


def rows_at(
    blocks: Sequence[Block],
    block_of: npt.NDArray[np.int64],
    row_of: npt.NDArray[np.int64],
    fields: Sequence[str],
) -> list[Row]:
    """Rows by their block and place, in order."""
    found: list[Row] = [{} for _ in block_of]
    for number in np.unique(block_of):
        (where,) = np.nonzero(block_of == number)
        rows = materialise(blocks[number], row_of[where], fields)
        for place, row in zip(where, rows, strict=True):
            found[place] = row
    return found


def materialise(block: Block, places: np.ndarray, fields: Sequence[str]) -> list[Row]:
    """Rows of a block with some fields, as ``pymilvus`` returns them."""
    names = block.schema.columns if "*" in fields else dict.fromkeys(fields)
    columns = [name for name in names if name in block.schema.columns and name != "vector"]
    dynamic = {name for name in fields if name not in block.schema.columns} - {KEY}
    with_meta = bool(dynamic) and "$meta" in block.table.column_names
    wanted = block.table.select([*columns, *(["$meta"] if with_meta else [])])
    rows: list[Row] = wanted.take(int64_array(places)).to_pylist()
    if not columns and not with_meta:
        rows = [{} for _ in places]
    if with_meta:
        every = bool(dynamic & {"*", "$meta"})
        for row in rows:
            _add_dynamic(row, row.pop("$meta"), None if every else dynamic)
    if KEY in fields:
        keys = block.keys.take(int64_array(places)).to_pylist()
        for row, key in zip(rows, keys, strict=True):
            row[KEY] = key
    if "vector" in names:
        for row, vector in zip(rows, block.vectors[places], strict=True):
            row["vector"] = vector
    if "sparse" in columns:
        for row in rows:
            row["sparse"] = _sparse(row["sparse"])
    return rows


def _add_dynamic(row: Row, text: str | None, names: set[str] | None) -> None:
    values: Mapping[str, Any] = json.loads(text) if text else {}
    for name, value in values.items():
        if (names is None or name in names) and name not in row:
            row[name] = value


def _sparse(data: bytes) -> dict[int, float]:
    return {int(term): float(count) for term, count in np.frombuffer(data, dtype=SPARSE_TERM)}

"""Compare the rows of two collections, and write to one what is missing or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twinlens.ingest.writer import WriterThread
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import FILE_FIELDS, IMAGE_FIELDS, TEXT_FIELDS, Kind, Row

#: All stored fields of a row except its vector.
FIELDS: Mapping[Kind, Sequence[str]] = {
    "images": (*IMAGE_FIELDS, "$meta"),
    "texts": (*TEXT_FIELDS, "$meta"),
    "files": FILE_FIELDS,
}
KEYS: Mapping[Kind, str] = {"images": "id", "texts": "id", "files": "path"}
#: The ledger comes last, so that every image and text it names is stored by then.
ORDER: tuple[Kind, ...] = ("images", "texts", "files")
#: Keys looked up in one request.
BATCH = 2_000


@dataclass(slots=True)
class RowChunk:
    """One page of source rows, compared with the target.

    Attributes:
        rows: the page.
        missing: rows that the target does not have.
        changed: rows that the target has with other values.
        retried: an earlier attempt to write this page failed half-way.
    """

    rows: list[Row]
    missing: list[Row] = field(default_factory=list)
    changed: list[Row] = field(default_factory=list)
    retried: bool = False


def tenant_pairs(source: Collection, target: Collection) -> list[tuple[Collection, Collection]]:
    """Pair each tenant's part of the source with that of the target; without tenants, the two."""
    return [
        (part, target.for_tenant(part.tenant) if part.tenant else target)
        for part in source.per_tenant()
    ]


def write_differences(
    source: Collection,
    target: Collection,
    kind: Kind,
    write: Callable[[RowChunk], None],
    *,
    page: int,
    vectors: bool,
    strong: bool = False,
) -> None:
    """Read the source page by page and call ``write`` with how each page differs from the target.

    A thread compares and writes while the next page is read.

    Args:
        source, target: the collections.
        kind: which of their rows.
        write: called in the thread; called again with the same chunk when Milvus was unreachable.
        page: rows to read at a time.
        vectors: read the vectors too.
        strong: wait for the writes of other processes.
    """
    fields = [*FIELDS[kind], "vector"] if vectors else FIELDS[kind]
    empty = not strong and target.count(kind) == 0

    def compare_and_write(chunk: RowChunk) -> None:
        chunk.missing, chunk.changed = chunk.rows, []
        if not empty or chunk.retried:
            chunk.missing, chunk.changed = compare(target, kind, chunk.rows)
        try:
            write(chunk)
        except BaseException:
            chunk.retried = True
            raise

    with WriterThread(compare_and_write) as writer:
        for rows in source.scan(kind, fields, batch=page, strong=strong):
            if vectors:
                # Lists of Python floats take eight times the memory while they wait.
                for row in rows:
                    row["vector"] = np.asarray(row["vector"], dtype=np.float32)
            writer.put(RowChunk(rows))


def compare(target: Collection, kind: Kind, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows that the target does not have, and those it has with other values.

    Vectors are not compared: an id stands for the content, and so for the vector.
    """
    key = KEYS[kind]
    stored = {row[key]: row for row in target.get(kind, [row[key] for row in rows], FIELDS[kind])}
    missing = [row for row in rows if row[key] not in stored]
    changed = [
        row
        for row in rows
        if row[key] in stored
        and stored[row[key]] != {name: value for name, value in row.items() if name != "vector"}
    ]
    return missing, changed


def delete_extra(source: Collection, target: Collection, kind: Kind) -> int:
    """Delete the target's rows that the source does not have; return how many."""
    key, deleted = KEYS[kind], 0
    for rows in target.scan(kind, [key], batch=BATCH):
        keys = [row[key] for row in rows]
        kept = {row[key] for row in source.get(kind, keys, [key])}
        extra = [one for one in keys if one not in kept]
        target.delete(kind, extra)
        deleted += len(extra)
    return deleted

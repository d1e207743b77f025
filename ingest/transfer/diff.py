"""Rows of one corpus against those of another that is to hold the same: missing, changed, gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twinlens.search.milvus.collection import Collection
from twinlens.search.records import FILE_FIELDS, IMAGE_FIELDS, TEXT_FIELDS, Kind, Row

#: Everything that is kept of a row, beside its vector.
FIELDS: Mapping[Kind, Sequence[str]] = {
    "images": (*IMAGE_FIELDS, "$meta"),
    "texts": (*TEXT_FIELDS, "$meta"),
    "files": FILE_FIELDS,
}
KEYS: Mapping[Kind, str] = {"images": "id", "texts": "id", "files": "path"}
#: Pictures and texts first: what the ledger names is stored by then.
ORDER: tuple[Kind, ...] = ("images", "texts", "files")
#: Rows whose keys are looked up together.
BATCH = 2_000


def compare(other: Collection, kind: Kind, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Of these rows, those that another corpus does not hold, and those that it holds otherwise.

    Vectors are not looked at: ids say what they are of.
    """
    key = KEYS[kind]
    there = {row[key]: row for row in other.get(kind, [row[key] for row in rows], FIELDS[kind])}
    missing = [row for row in rows if row[key] not in there]
    changed = [
        row
        for row in rows
        if row[key] in there
        and there[row[key]] != {name: value for name, value in row.items() if name != "vector"}
    ]
    return missing, changed


def clear(source: Collection, other: Collection, kind: Kind) -> int:
    """Delete what the source does not hold, or not any more; how many rows that were."""
    key, deleted = KEYS[kind], 0
    for rows in other.scan(kind, [key], batch=BATCH):
        keys = [row[key] for row in rows]
        there = {row[key] for row in source.get(kind, keys, [key])}
        gone = [one for one in keys if one not in there]
        other.delete(kind, gone)
        deleted += len(gone)
    return deleted

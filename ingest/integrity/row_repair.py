"""Repair the rows of a collection, so that ledger, pictures and texts agree again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice

from twinlens.ingest.integrity.rows import RowDamage
from twinlens.ingest.reconcile import delete_images
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import is_in
from twinlens.search.records import FILE_FIELDS, MAX_CAPTIONS, Row

_BATCH = 256
#: Characters between a container and its members, and what begins an address.
_MEMBER, _ADDRESS = ("!", "#"), "://"


def repair_rows(collection: Collection, found: RowDamage) -> list[str]:
    """Repair what ``check_rows`` found; see ``docs/operations/damage.md``.

    - Rows with unusable vectors are deleted, and then count as lost.
    - Paths whose picture is lost are forgotten, so that an ingest reads them again.
    - Of paths with lost captions, an ingest reads the captions again, but not the picture.
    - A picture that no path has gets back the path it was stored with, if that is free and there is
      a file; an ingest reads that again without encoding it. Otherwise it is deleted.
    - Texts that no path has are deleted.

    Safe to repeat after a failure half-way.

    Returns:
        The paths to ingest again, sorted.
    """
    again = {*found.lost, *found.incomplete}
    for ids in _batches(found.bad_images):
        for rows in collection.scan("files", ["path"], is_in("image_id", ids), strong=True):
            found.lost += [row["path"] for row in rows if row["path"] not in again]
            again |= {row["path"] for row in rows}
        delete_images(collection, ids)
    for ids in _batches(found.bad_texts):
        again |= set(_delete_texts(collection, ids))
    for paths in _batches(found.lost):
        rows = collection.get("files", paths, ["path", "image_id"])
        delete_images(collection, sorted({row["image_id"] for row in rows} - {""}))  # its captions
        collection.delete("files", paths)
    for paths in _batches(found.incomplete):
        outdate(collection, paths)
    for ids in _batches(found.stray_images):
        again |= set(_adopt(collection, ids))
    for ids in _batches(found.stray_texts):
        collection.delete("texts", ids)
    collection.check_writes()
    return sorted(again)


def outdate(collection: Collection, paths: Sequence[str]) -> None:
    """Let an ingest read the captions of some paths again; those that are lost are forgotten."""
    rows = collection.get("files", paths, [*FILE_FIELDS])
    named = sorted({text for row in rows for text in row["texts"]})
    stored = {row["id"] for row in collection.get("texts", named, ["id"])}
    for row in rows:
        row |= {"digest": "", "texts": [text for text in row["texts"] if text in stored]}
    collection.upsert("files", rows)


def outdate_all(collection: Collection) -> None:
    """Let an ingest read the captions of all paths again: rows may be older than the ledger."""
    for rows in collection.scan("files", [*FILE_FIELDS], 'status == "ok"'):
        collection.upsert("files", [row | {"digest": ""} for row in rows])


def _delete_texts(collection: Collection, ids: Sequence[str]) -> list[str]:
    """Delete texts, and outdate the paths that have them; return those paths."""
    images = {row["image_id"] for row in collection.get("texts", ids, ["id", "image_id"])}
    paths = [
        row["path"]
        for rows in collection.scan("files", ["path", "texts"], is_in("image_id", images))
        for row in rows
        if {*row["texts"]} & {*ids}
    ]
    collection.delete("texts", ids)
    for some in _batches(paths):
        outdate(collection, some)
    return paths


def _adopt(collection: Collection, ids: Sequence[str]) -> list[str]:
    """Give pictures their paths back, or delete them; return the paths."""
    rows = collection.get("images", ids, ["id", "path", "relative_path", "paths"])
    named = {path for row in rows for path in _paths(row)}
    taken = {row["path"] for row in collection.get("files", sorted(named), ["path"])}
    texts: dict[str, list[str]] = {}
    for page in collection.scan("texts", ["id", "image_id"], is_in("image_id", ids)):
        for text in page:
            texts.setdefault(text["image_id"], []).append(text["id"])
    adopted: dict[str, Row] = {}
    deleted = []
    for row in rows:
        free = [
            path for path in _paths(row)
            if path not in taken and path not in adopted and may_be_read(path)
        ]  # fmt: skip
        if not free:
            deleted.append(row["id"])
        for path in free:
            adopted[path] = _file_row(row, path, texts.get(row["id"], []))
    delete_images(collection, deleted)
    collection.upsert("files", list(adopted.values()))
    return list(adopted)


def _paths(row: Row) -> list[str]:
    return list(dict.fromkeys([row["path"], *row["paths"]]))


def _file_row(image: Row, path: str, texts: Sequence[str]) -> Row:
    """A row of the ledger whose file and captions count as changed."""
    relative = image["relative_path"]
    inside = path == image["path"] and path != relative and path.endswith(relative)
    return {
        "path": path,
        "image_id": image["id"],
        "texts": list(texts)[:MAX_CAPTIONS],
        "size": -1,
        "mtime_ns": -1,
        "digest": "",
        "status": "ok",
        "reason": "",
        "root": path.removesuffix(relative).rstrip("/!#") if inside else "",
    }


def may_be_read(path: str) -> bool:
    """Whether there is a file at a path, or an archive that may have it; True for an address."""
    if _ADDRESS in path:
        return True
    places = [path]
    for separator in _MEMBER:
        places += [path[:end] for end, char in enumerate(path) if char == separator]
    return any(map(os.path.exists, places))


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(list(items))
    while batch := list(islice(rest, _BATCH)):
        yield batch

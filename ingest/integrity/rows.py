"""Compare the ledger of a collection with its pictures and texts, row by row.

Ids are collected in a temporary SQLite table, which moves to disk when it grows, so that memory is
bounded. What seems wrong is looked up once more at the end: others may write meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice

import numpy as np

from twinlens.ingest.ledger import WRITING_STATUS
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import is_in
from twinlens.search.records import Row, Target

#: How far the length of a stored vector may be from 1: float16 has three digits.
TOLERANCE = 2e-3
BATCH = 256
_TABLES = (
    "CREATE TABLE file (path TEXT PRIMARY KEY, image_id TEXT) WITHOUT ROWID",
    "CREATE TABLE file_text (text_id TEXT, path TEXT, PRIMARY KEY (text_id, path)) WITHOUT ROWID",
    "CREATE TABLE expected (image_id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE images (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE texts (id TEXT PRIMARY KEY, image_id TEXT) WITHOUT ROWID",
)


@dataclass(slots=True)
class RowDamage:
    """What is wrong with the rows of a collection, or of one tenant.

    Attributes:
        lost: paths of the ledger whose picture is not stored, or unusable.
        incomplete: paths of the ledger with a caption that is not stored, or unusable.
        stray_images: ids of pictures that no path of the ledger has.
        stray_texts: ids of texts that no path of the ledger has.
        bad_images, bad_texts: ids of rows whose vectors are unusable: not finite, not of length 1.
    """

    lost: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    stray_images: list[str] = field(default_factory=list)
    stray_texts: list[str] = field(default_factory=list)
    bad_images: list[str] = field(default_factory=list)
    bad_texts: list[str] = field(default_factory=list)

    def both(self, later: RowDamage) -> RowDamage:
        """What was wrong before and is wrong later: not what a deletion is about to finish."""
        names = [one.name for one in fields(self)]
        pairs = {name: (getattr(self, name), set(getattr(later, name))) for name in names}
        return RowDamage(
            **{name: [one for one in old if one in new] for name, (old, new) in pairs.items()}
        )

    def __bool__(self) -> bool:
        return bool(
            self.lost or self.incomplete or self.stray_images or self.stray_texts
            or self.bad_images or self.bad_texts
        )  # fmt: skip


def check_rows(
    collection: Collection, progress: Callable[[int], object] = lambda count: None
) -> RowDamage:
    """Compare the rows of a collection; in one with tenants, those of one tenant.

    Args:
        collection: which.
        progress: called with the number of rows that were read.

    Raises:
        StoreError: rows cannot be read.
    """
    found = RowDamage()
    table = sqlite3.connect("")
    try:
        for statement in _TABLES:
            table.execute(statement)
        # The ledger first: every row that it names is stored by then.
        for rows in collection.scan("files", ["path", "image_id", "texts", "status"], strong=True):
            _add_files(table, rows)
            progress(len(rows))
        for kind, ids in (("images", found.bad_images), ("texts", found.bad_texts)):
            target: Target = "images" if kind == "images" else "texts"
            columns = ["id", "vector", *(["image_id"] if target == "texts" else [])]
            for rows in collection.scan(target, columns, batch=1_000, strong=True):
                _add_rows(table, target, rows)
                ids += bad_vectors(rows, collection.fingerprint.dim)
                progress(len(rows))
        _compare(table, collection, found)
    finally:
        table.close()
    return found


def bad_vectors(rows: Sequence[Row], dim: int) -> list[str]:
    """The ids of rows whose vector has another dimension, is not finite, or not of length 1."""
    bad = [row["id"] for row in rows if np.shape(row["vector"]) != (dim,)]
    sized = [row for row in rows if np.shape(row["vector"]) == (dim,)]
    if sized:
        vectors = np.array([row["vector"] for row in sized], dtype=np.float64)
        with np.errstate(all="ignore"):
            off = np.abs(np.linalg.norm(vectors, axis=1) - 1)
        # Not-a-number is not below anything.
        bad += [row["id"] for row, far in zip(sized, off, strict=True) if not far < TOLERANCE]
    return bad


def _add_files(table: sqlite3.Connection, rows: Iterable[Row]) -> None:
    for row in rows:
        if row["status"] == WRITING_STATUS:
            table.executemany(
                "INSERT OR IGNORE INTO expected VALUES (?)", [(one,) for one in row["texts"]]
            )
        elif row["status"] == "gone":
            table.execute("INSERT OR IGNORE INTO expected VALUES (?)", (row["image_id"],))
        elif row["status"] == "ok":
            table.execute("INSERT INTO file VALUES (?, ?)", (row["path"], row["image_id"]))
            table.execute("INSERT OR IGNORE INTO expected VALUES (?)", (row["image_id"],))
            table.executemany(
                "INSERT OR IGNORE INTO file_text VALUES (?, ?)",
                [(text, row["path"]) for text in row["texts"]],
            )


def _add_rows(table: sqlite3.Connection, kind: Target, rows: Iterable[Row]) -> None:
    if kind == "images":
        table.executemany("INSERT OR IGNORE INTO images VALUES (?)", [(r["id"],) for r in rows])
    else:
        table.executemany(
            "INSERT OR IGNORE INTO texts VALUES (?, ?)", [(r["id"], r["image_id"]) for r in rows]
        )


def _compare(table: sqlite3.Connection, collection: Collection, found: RowDamage) -> None:
    def select(query: str) -> Iterator[list[tuple[str, ...]]]:
        rows = iter(table.execute(query))
        while page := list(islice(rows, BATCH)):
            yield page

    lost = "SELECT path, image_id FROM file WHERE image_id NOT IN (SELECT id FROM images)"
    for page in select(f"{lost} AND image_id != ''"):
        stored = _stored(collection, "images", {image for _, image in page})
        still = {row["path"]: row for row in collection.get("files", [p for p, _ in page],
                 ["path", "image_id", "status"])}  # fmt: skip
        found.lost += [
            path for path, image in page
            if image not in stored and still.get(path, {}).get("image_id") == image
        ]  # fmt: skip
    gone = set(found.lost)
    incomplete: dict[str, None] = {}
    for page in select(
        "SELECT path, text_id FROM file_text WHERE text_id NOT IN (SELECT id FROM texts)"
    ):
        stored = _stored(collection, "texts", {text for _, text in page})
        still = {row["path"]: row for row in collection.get("files", [p for p, _ in page],
                 ["path", "texts"])}  # fmt: skip
        incomplete |= {
            path: None for path, text in page
            if text not in stored and path not in gone
            and text in still.get(path, {}).get("texts", ())
        }  # fmt: skip
    found.incomplete += incomplete
    for page in select("SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM expected)"):
        ids = {one for (one,) in page}
        named = {
            row["image_id"]
            for rows in collection.scan("files", ["image_id"], is_in("image_id", ids), strong=True)
            for row in rows
        }
        noted = _noted(collection) if ids - named else set()
        found.stray_images += sorted(
            _stored(collection, "images", ids - named - noted) if ids - named - noted else ()
        )
    stray = set(found.stray_images)
    for text_page in select(
        "SELECT id, image_id FROM texts WHERE id NOT IN (SELECT text_id FROM file_text)"
        " AND id NOT IN (SELECT image_id FROM expected)"
    ):
        noted = _noted(collection)
        now = collection.get("texts", [text for text, _ in text_page], ["id", "image_id"])
        named = _named_texts(collection, {row["image_id"] for row in now})
        found.stray_texts += [
            row["id"] for row in now
            # Being written, or found with its picture, or named by now.
            if not {row["id"], row["image_id"]} & (noted | stray) and row["id"] not in named
        ]  # fmt: skip


def _stored(collection: Collection, kind: Target, ids: set[str]) -> set[str]:
    return {row["id"] for row in collection.get(kind, sorted(ids), ["id"])}


def _noted(collection: Collection) -> set[str]:
    """The ids of what runs are writing now."""
    pages = collection.scan("files", ["texts"], f'status == "{WRITING_STATUS}"', strong=True)
    return {one for rows in pages for row in rows for one in row["texts"]}


def _named_texts(collection: Collection, images: set[str]) -> set[str]:
    """The texts that the ledger has for some pictures now."""
    if not images:
        return set()
    pages = collection.scan("files", ["texts", "status"], is_in("image_id", images), strong=True)
    return {
        text for rows in pages for row in rows if row["status"] == "ok" for text in row["texts"]
    }

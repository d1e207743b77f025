"""``Ledger``: compare a corpus with what is stored: new, changed, unchanged, moved or missing.

The ledger is itself a Milvus collection (``NAME_files``: one row per path), so that it travels with
the collection and no second file can disagree with it. A run reads it once into a temporary SQLite
table, which spills to disk when large, or reads only the rows of the paths it is given.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections import abc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import ID_LENGTH, MAX_PATH_BYTES, MAX_SHOWN_BYTES, Row, cut_bytes

#: "changed": the file differs from the stored one. "seen": this run has judged the path already.
#: "left out": the option ``leave_out`` names it.
Verdict = Literal[
    "new", "changed", "unchanged", "failed before", "captions changed", "seen", "left out"
]

_log = logging.getLogger("twinlens")

#: Prefix of the path of a tombstone: a row that remembers the image that a file held before.
TOMBSTONE = "\x01was "
#: Prefix of the path, and the status, of a row that notes what a run is writing.
WRITING = "\x01writing "
WRITING_STATUS = "writing"
#: The status, only here, of a row whose image is not stored: its path is judged as new.
_LOST = "lost"
#: The rows that name an image, in SQL.
_WITH_IMAGE = "FROM file WHERE status = 'ok' AND image_id != ''"
#: Errors that mean there is no file at a path, or that there can be none.
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)
#: Characters between a container and its members: of a folder, an archive, a list.
SEPARATORS = "/!#"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One path as it is stored in the ledger."""

    uri: str
    image_id: str
    size: int
    mtime_ns: int
    digest: str
    status: str


class Ledger:
    """The stored paths of a collection as the run began, and which of them the run has seen.

    A context manager that deletes its temporary table at the end. Safe to use from several threads.

    A row whose image is not stored is not believed: its path is new, so that a run reads it again.
    Reading the whole ledger finds such rows if there are fewer images than it names; with ``only``,
    the images of all rows are looked up.

    Args:
        collection: the collection to read; ``None`` for an empty ledger.
        prune: a source without captions removes the stored ones; otherwise they are kept.
        only: read only these paths, and look up stored images by their ids instead of from all
            paths.
        images: with ``only``, the ids of the images to look up.
    """

    def __init__(
        self,
        collection: Collection | None,
        *,
        prune: bool = False,
        only: abc.Collection[str] | None = None,
        images: abc.Collection[str] = (),
    ) -> None:
        self._prune = prune
        self._has_stored = collection is not None
        self._lock = threading.Lock()
        self._table = sqlite3.connect("", check_same_thread=False)
        self._table.execute(
            "CREATE TABLE file (uri TEXT PRIMARY KEY, image_id TEXT, size INTEGER,"
            " mtime_ns INTEGER, digest TEXT, status TEXT, root TEXT, seen INTEGER) WITHOUT ROWID"
        )
        self._table.execute("CREATE TABLE stored (image_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("CREATE TABLE container (uri TEXT PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("CREATE TABLE missing (uri TEXT PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("CREATE TABLE unwanted (uri TEXT PRIMARY KEY) WITHOUT ROWID")
        fields = ["path", "image_id", "size", "mtime_ns", "digest", "status", "root"]
        read: Iterable[list[Row]] = ()
        if collection is not None and only is None:
            read = collection.scan("files", fields)
        elif collection is not None and only is not None:
            read = [collection.get("files", sorted(set(only)), fields)]
        for rows in read:
            values = [tuple(row[field] for field in fields) for row in rows]
            self._table.executemany("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?, 0)", values)
        if collection is not None and only is not None:
            ids = [image for (image,) in self._table.execute(f"SELECT image_id {_WITH_IMAGE}")]
            stored = collection.get("images", sorted({*ids, *images}), ["id"])
            self._table.executemany(
                "INSERT OR IGNORE INTO stored VALUES (?)", [(row["id"],) for row in stored]
            )
            self._mark_lost("stored")
        elif collection is not None:
            self._find_lost(collection)
            self._table.execute(
                "INSERT OR IGNORE INTO stored"
                " SELECT image_id FROM file WHERE status IN ('ok', 'gone')"
            )

    def _find_lost(self, collection: Collection) -> None:
        """Find rows whose image is not stored, where there are fewer images than rows name."""
        (named,) = self._table.execute(f"SELECT count(DISTINCT image_id) {_WITH_IMAGE}").fetchone()
        if not named or collection.count("images") >= named:
            return
        self._table.execute("CREATE TABLE found (image_id TEXT PRIMARY KEY) WITHOUT ROWID")
        for rows in collection.scan("images", ["id"], strong=True):
            self._table.executemany(
                "INSERT OR IGNORE INTO found VALUES (?)", [(row["id"],) for row in rows]
            )
        lost = self._mark_lost("found")
        self._table.execute("DROP TABLE found")
        if lost:
            _log.warning(
                "%s: the pictures of %s in the ledger are not stored: they are read again where "
                "this run finds them",
                collection.name,
                f"{lost:,} path" + "s" * (lost > 1),
            )

    def _mark_lost(self, stored: Literal["stored", "found"]) -> int:
        """Mark the rows whose image is not in a table; return how many."""
        return self._table.execute(
            f"UPDATE file SET status = '{_LOST}' WHERE status = 'ok' AND image_id != ''"  # noqa: S608
            f" AND image_id NOT IN (SELECT image_id FROM {stored})"
        ).rowcount

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary table."""
        self._table.close()

    def judge_all(
        self, items: Iterable[Item], roots: set[str]
    ) -> Iterator[tuple[Item, Verdict | Literal["failed"], LedgerEntry | None]]:
        """Judge items one by one, each path once, and mark all as seen.

        Args:
            items: failures among them are "failed".
            roots: the roots of the samples are added to it.
        """
        for item in items:
            if isinstance(item, Failure):
                self.mark_seen(item.uri)
                yield item, "failed", None
                continue
            roots.add(item.root)
            verdict, entry = self.judge(item)
            if verdict != "seen":
                yield item, verdict, entry

    def judge(self, sample: Sample) -> tuple[Verdict, LedgerEntry | None]:
        """Compare a sample with the entry of its path, and mark the path as seen."""
        with self._lock:
            judged = self._judge(sample)
            # An empty ledger does not know what is stored.
            if judged[0] == "left out" and (judged[1] or not self._has_stored):
                self._table.execute("INSERT OR IGNORE INTO unwanted VALUES (?)", (sample.uri,))
            self._table.execute(
                "INSERT INTO file VALUES (?, '', -1, -1, '', '', '', 1)"
                " ON CONFLICT (uri) DO UPDATE SET seen = 1",
                (sample.uri,),
            )
        return judged

    def peek(self, sample: Sample) -> Verdict:
        """The verdict of ``judge``, without marking the path as seen."""
        with self._lock:
            return self._judge(sample)[0]

    def _judge(self, sample: Sample) -> tuple[Verdict, LedgerEntry | None]:
        row = self._table.execute(
            "SELECT uri, image_id, size, mtime_ns, digest, status, seen FROM file WHERE uri = ?",
            (sample.uri,),
        ).fetchone()
        if row is None:
            return ("left out" if sample.unwanted else "new"), None
        *columns, seen = row
        if seen:
            return "seen", None
        entry = LedgerEntry(*columns)
        if sample.unwanted:
            return "left out", entry
        if entry.status == _LOST:
            return "new", None
        same_file = (entry.size, entry.mtime_ns) == (sample.size, sample.mtime_ns)
        may_differ = not same_file or sample.mtime_ns < 0
        if sample.has_image and may_differ and not sample.fixed:
            return "changed", entry
        if entry.status == "failed":
            return "failed before", entry
        same_captions = entry.digest == sample.digest or (sample.silent and not self._prune)
        return ("unchanged" if same_captions else "captions changed"), entry

    def mark_seen(self, uri: str) -> None:
        """Mark a path without a sample, and everything below it, as seen: none of it is missing."""
        with self._lock:
            self._table.execute("INSERT OR IGNORE INTO container VALUES (?)", (uri,))
            self._mark_seen(uri)

    def add_paths(self, paths: Iterable[str], root: str) -> None:
        """Add stored paths of a root that were listed only after the samples were judged."""
        rows = [(path, root) for path in paths]
        with self._lock:
            self._table.executemany(
                "INSERT OR IGNORE INTO file VALUES (?, '', -1, -1, '', 'ok', ?, 0)", rows
            )

    def _mark_seen(self, uri: str) -> None:
        self._table.execute("UPDATE file SET seen = 1 WHERE uri = ?", (uri,))
        for sep in SEPARATORS:
            self._table.execute(
                "UPDATE file SET seen = 1 WHERE uri > ? AND uri < ?",
                (uri + sep, uri + chr(ord(sep) + 1)),
            )

    def has_image(self, image_id: str) -> bool:
        """Whether the image is stored already, or claimed in this run."""
        with self._lock:
            found = self._table.execute("SELECT 1 FROM stored WHERE image_id = ?", (image_id,))
            return found.fetchone() is not None

    def stored_images(self) -> npt.NDArray[np.bytes_]:
        """The ids that ``has_image`` knows, as a sorted array of bytes for a binary search."""
        with self._lock:
            stored = "FROM stored WHERE image_id != ''"
            (count,) = self._table.execute(f"SELECT count(*) {stored}").fetchone()
            rows = self._table.execute(f"SELECT image_id {stored} ORDER BY image_id")
            return np.fromiter((bytes.fromhex(row[0]) for row in rows), f"S{ID_LENGTH // 2}", count)

    def has_tombstones(self) -> bool:
        """Whether there were tombstones when the ledger was read."""
        with self._lock:
            found = self._table.execute("SELECT 1 FROM file WHERE status = 'gone' LIMIT 1")
            return found.fetchone() is not None

    def has_unfinished(self) -> bool:
        """Whether any run had not finished writing when the ledger was read."""
        with self._lock:
            found = self._table.execute(
                "SELECT 1 FROM file WHERE status = ? LIMIT 1", (WRITING_STATUS,)
            )
            return found.fetchone() is not None

    def claim(self, image_id: str) -> bool:
        """Reserve an image for this run; False when it is stored or claimed already."""
        with self._lock:
            cursor = self._table.execute("INSERT OR IGNORE INTO stored VALUES (?)", (image_id,))
            return cursor.rowcount == 1

    def find_missing(self, roots: Iterable[str]) -> None:
        """Find the paths below the roots that this run has not seen and that no longer exist."""
        with self._lock:
            for (uri,) in self._table.execute("SELECT uri FROM container").fetchall():
                self._mark_seen(uri)
            for root in sorted(set(roots)):
                # "0" is the character after "/", so the range holds what begins with "root/".
                rows = self._table.execute(
                    "SELECT uri FROM file WHERE seen = 0 AND status NOT IN ('gone', 'writing')"
                    " AND (root = ?1 OR uri > ?1||'/' AND uri < ?1||'0')",
                    (root,),
                )
                missing = [(uri,) for (uri,) in rows if not _may_exist(uri)]
                self._table.executemany("INSERT OR IGNORE INTO missing VALUES (?)", missing)

    def missing(self, batch: int) -> Iterator[list[str]]:
        """The paths that ``find_missing`` found, ``batch`` at a time."""
        return self._listed("missing", batch)

    def unwanted(self, batch: int) -> Iterator[list[str]]:
        """The paths to leave out that may be stored, ``batch`` at a time."""
        return self._listed("unwanted", batch)

    def _listed(self, table: Literal["missing", "unwanted"], batch: int) -> Iterator[list[str]]:
        last = ""
        while True:
            with self._lock:
                rows = self._table.execute(
                    f"SELECT uri FROM {table} WHERE uri > ? ORDER BY uri LIMIT ?",  # noqa: S608
                    (last, batch),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [uri for (uri,) in rows]

    def is_missing(self, uri: str) -> bool:
        """Whether ``find_missing`` found the path."""
        with self._lock:
            found = self._table.execute("SELECT 1 FROM missing WHERE uri = ?", (uri,))
            return found.fetchone() is not None


def _may_exist(uri: str) -> bool:
    """Whether a file may exist: also where the disk fails or denies access."""
    try:
        os.lstat(uri)
    except OSError as error:
        return error.errno not in _NOTHING_THERE
    except ValueError:  # not a path
        return False
    return True


def file_row(sample: Sample, image_id: str, texts: Iterable[str]) -> Row:
    """The ledger row of a stored sample.

    Args:
        sample: what was stored.
        image_id: "" for a text without an image.
        texts: the ids of its captions.
    """
    return _row(
        sample.uri, sample, image_id=image_id, texts=list(texts), status="ok", root=sample.root
    )


def failed_row(failure: Failure, sample: Sample | None) -> Row:
    """The ledger row of an item that could not be stored."""
    return _row(
        failure.uri,
        sample,
        status="failed",
        reason=cut_bytes(failure.reason, MAX_SHOWN_BYTES),
        root=sample.root if sample else failure.root,
    )


def tombstone_row(entry: LedgerEntry, texts: Iterable[str] = ()) -> Row:
    """A row that remembers the image a file held before, until that image is deleted.

    Args:
        entry: of the file.
        texts: the ids of the image's captions that the file gave, for other paths to inherit.
    """
    path = cut_bytes(f"{TOMBSTONE}{entry.image_id} {entry.uri}", MAX_PATH_BYTES)
    return _row(
        path,
        None,
        image_id=entry.image_id,
        texts=list(texts),
        size=0,
        mtime_ns=0,
        digest=entry.digest,
        status="gone",
    )


def note_row(path: str, ids: Iterable[str], writer: str) -> Row:
    """A row that notes the ids of what a run is writing; see ``twinlens.ingest.unfinished``."""
    texts, now = list(ids), time.time_ns()
    return _row(path, None, texts=texts, mtime_ns=now, status=WRITING_STATUS, reason=writer)


def _row(path: str, sample: Sample | None, **columns: object) -> Row:
    row: Row = {
        "path": path,
        "image_id": "",
        "texts": [],
        "size": sample.size if sample else -1,
        "mtime_ns": sample.mtime_ns if sample else -1,
        "digest": sample.digest if sample else "",
        "status": "",
        "reason": "",
        "root": "",
    }
    return row | columns

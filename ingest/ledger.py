"""What is new, changed, moved or gone since last time.

The ledger is a collection of the corpus itself (``NAME_files``: one row for each path), so that it
travels with the corpus and no second file can disagree with it. A run reads it once into a
temporary SQLite table, which spills to disk when large; or, of a part of a corpus, that part.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections import abc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from twinlens.ingest.sample import Failure, Sample
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import ID_LENGTH, MAX_PATH_BYTES, MAX_SHOWN_BYTES, Row, cut_bytes

Verdict = Literal["new", "unchanged", "failed before", "captions changed", "met"]

#: A row whose path begins so remembers a picture whose file now holds another one.
TOMBSTONE = "\x01was "
#: How the system says that there is nothing at a path, or that nothing can be.
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)
#: What stands between a container's name and what is in it: a folder, an archive, a list.
SEPARATORS = "/!#"


@dataclass(frozen=True, slots=True)
class Known:
    """One path as the ledger has it."""

    uri: str
    image_id: str
    size: int
    mtime_ns: int
    digest: str
    status: str


class Ledger:
    """The paths of a corpus (of none, if None) as they were when the run began, and which it met.

    A context manager: what it has on disk is let go of at the end. Safe to use from several
    threads. A source that says nothing about a picture takes none of its captions away, unless
    ``prune`` asks for that.

    Args:
        corpus: whose paths.
        prune: see above.
        only: the only paths that will come, where they are known: then no others are read, and
            whether a picture is stored is looked up, not learnt from all paths.
        images: with ``only``, the ids of the pictures that may come.
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
        self._lock = threading.Lock()
        self._table = sqlite3.connect("", check_same_thread=False)
        self._table.execute(
            "CREATE TABLE file (uri TEXT PRIMARY KEY, image_id TEXT, size INTEGER,"
            " mtime_ns INTEGER, digest TEXT, status TEXT, root TEXT, seen INTEGER) WITHOUT ROWID"
        )
        self._table.execute("CREATE TABLE done (image_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("CREATE TABLE held (uri TEXT PRIMARY KEY) WITHOUT ROWID")
        self._table.execute("CREATE TABLE gone (uri TEXT PRIMARY KEY) WITHOUT ROWID")
        fields = ["path", "image_id", "size", "mtime_ns", "digest", "status", "root"]
        read: Iterable[list[Row]] = ()
        if collection is not None and only is None:
            read = collection.scan("files", fields)
        elif collection is not None and only is not None:
            read = [collection.get("files", sorted(set(only)), fields)]
            stored = collection.get("images", sorted(set(images)), ["id"])
            ids = [(row["id"],) for row in stored]
            self._table.executemany("INSERT OR IGNORE INTO done VALUES (?)", ids)
        for rows in read:
            values = [tuple(row[field] for field in fields) for row in rows]
            self._table.executemany("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?, 0)", values)
        if only is None:
            self._table.execute(
                "INSERT OR IGNORE INTO done"
                " SELECT image_id FROM file WHERE status IN ('ok', 'gone')"
            )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the table; nobody may be asking any more."""
        self._table.close()

    def judge(self, sample: Sample) -> tuple[Verdict, Known | None]:
        """Whether a sample needs work, and what was known of its path; marks the path as met."""
        with self._lock:
            judged = self._judge(sample)
            self._table.execute(
                "INSERT INTO file VALUES (?, '', -1, -1, '', 'met', '', 1)"
                " ON CONFLICT (uri) DO UPDATE SET seen = 1",
                (sample.uri,),
            )
        return judged

    def foresee(self, sample: Sample) -> Verdict:
        """What ``judge`` would say; the path stays as it is."""
        with self._lock:
            return self._judge(sample)[0]

    def _judge(self, sample: Sample) -> tuple[Verdict, Known | None]:
        row = self._table.execute(
            "SELECT uri, image_id, size, mtime_ns, digest, status, seen FROM file WHERE uri = ?",
            (sample.uri,),
        ).fetchone()
        if row is None:
            return "new", None
        *columns, seen = row
        if seen:
            return "met", None
        known = Known(*columns)
        same_file = (known.size, known.mtime_ns) == (sample.size, sample.mtime_ns)
        may_differ = not same_file or sample.mtime_ns < 0
        if sample.has_image and may_differ and not sample.fixed:
            return "new", known
        if known.status == "failed":
            return "failed before", known
        same_words = known.digest == sample.digest or (sample.silent and not self._prune)
        return ("unchanged" if same_words else "captions changed"), known

    def meet(self, uri: str) -> None:
        """Mark a path as met that has no sample, and all below it: what holds them was there."""
        with self._lock:
            self._table.execute("INSERT OR IGNORE INTO held VALUES (?)", (uri,))
            self._meet(uri)

    def learn(self, paths: Iterable[str], root: str) -> None:
        """Paths below a root that are stored, where that is learnt after what there is was met."""
        rows = [(path, root) for path in paths]
        with self._lock:
            self._table.executemany(
                "INSERT OR IGNORE INTO file VALUES (?, '', -1, -1, '', 'ok', ?, 0)", rows
            )

    def _meet(self, uri: str) -> None:
        self._table.execute("UPDATE file SET seen = 1 WHERE uri = ?", (uri,))
        for sep in SEPARATORS:
            self._table.execute(
                "UPDATE file SET seen = 1 WHERE uri > ? AND uri < ?",
                (uri + sep, uri + chr(ord(sep) + 1)),
            )

    def has_image(self, image_id: str) -> bool:
        """Whether the picture is stored already, or on its way in this run."""
        with self._lock:
            found = self._table.execute("SELECT 1 FROM done WHERE image_id = ?", (image_id,))
            return found.fetchone() is not None

    def image_digests(self) -> npt.NDArray[np.bytes_]:
        """What ``has_image`` knows: the ids as bytes, sorted, to be looked up elsewhere."""
        with self._lock:
            kept = "FROM done WHERE image_id != ''"
            (count,) = self._table.execute(f"SELECT count(*) {kept}").fetchone()
            rows = self._table.execute(f"SELECT image_id {kept} ORDER BY image_id")
            return np.fromiter((bytes.fromhex(row[0]) for row in rows), f"S{ID_LENGTH // 2}", count)

    def claim(self, image_id: str) -> bool:
        """Take a picture on for encoding; False when it is stored or taken already."""
        with self._lock:
            cursor = self._table.execute("INSERT OR IGNORE INTO done VALUES (?)", (image_id,))
            return cursor.rowcount == 1

    def mark_gone(self, roots: Iterable[str]) -> None:
        """Find the paths below the roots that this run did not meet and that no longer exist."""
        with self._lock:
            for (uri,) in self._table.execute("SELECT uri FROM held").fetchall():
                self._meet(uri)
            for root in sorted(set(roots)):
                # "0" is the character after "/", so the range holds what begins with "root/".
                rows = self._table.execute(
                    "SELECT uri FROM file WHERE seen = 0 AND status != 'gone'"
                    " AND (root = ?1 OR uri > ?1||'/' AND uri < ?1||'0')",
                    (root,),
                )
                gone = ((uri,) for (uri,) in rows if _is_gone(uri))
                self._table.executemany("INSERT OR IGNORE INTO gone VALUES (?)", list(gone))

    def gone(self, batch: int) -> Iterator[list[str]]:
        """The paths found gone, ``batch`` at a time."""
        last = ""
        while True:
            with self._lock:
                rows = self._table.execute(
                    "SELECT uri FROM gone WHERE uri > ? ORDER BY uri LIMIT ?", (last, batch)
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [uri for (uri,) in rows]

    def is_gone(self, uri: str) -> bool:
        """Whether the path was found gone."""
        with self._lock:
            found = self._table.execute("SELECT 1 FROM gone WHERE uri = ?", (uri,))
            return found.fetchone() is not None


def _is_gone(uri: str) -> bool:
    """Whether there is nothing at a path; a disk that fails, or keeps us out, does not say so."""
    try:
        os.lstat(uri)
    except OSError as error:
        return error.errno in _NOTHING_THERE
    except ValueError:  # no path at all
        return True
    return False


def file_row(sample: Sample, image_id: str, texts: Iterable[str]) -> Row:
    """The ledger's row of a stored sample."""
    return {
        "path": sample.uri,
        "image_id": image_id,
        "texts": list(texts),
        "size": sample.size,
        "mtime_ns": sample.mtime_ns,
        "digest": sample.digest,
        "status": "ok",
        "reason": "",
        "root": sample.root,
        "vector": np.zeros(2, dtype=np.float32),
    }


def failed_row(failure: Failure, sample: Sample | None) -> Row:
    """The ledger's row of an item that could not be stored."""
    return {
        "path": failure.uri,
        "image_id": "",
        "texts": [],
        "size": sample.size if sample else -1,
        "mtime_ns": sample.mtime_ns if sample else -1,
        "digest": sample.digest if sample else "",
        "status": "failed",
        "reason": cut_bytes(failure.reason, MAX_SHOWN_BYTES),
        "root": sample.root if sample else failure.root,
        "vector": np.zeros(2, dtype=np.float32),
    }


def tombstone_row(known: Known) -> Row:
    """Remembers that a file no longer holds the picture it held, until that picture is tidied."""
    return {
        "path": cut_bytes(f"{TOMBSTONE}{known.image_id} {known.uri}", MAX_PATH_BYTES),
        "image_id": known.image_id,
        "texts": [],
        "size": 0,
        "mtime_ns": 0,
        "digest": "",
        "status": "gone",
        "reason": "",
        "root": "",
        "vector": np.zeros(2, dtype=np.float32),
    }

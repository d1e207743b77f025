"""Note what is being written, so that a run that dies leaves no rows that the ledger lacks.

Rows of images and texts are stored before their ledger rows. If a run dies in between, and the file
is deleted, renamed or replaced before the next run, nothing else would lead to those rows again. So
each run keeps one ledger row of its own with the ids that it writes at the moment. Whoever finds
the note of a run that is no longer alive compares these ids with the ledger.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from twinlens.ingest.ledger import WRITING, WRITING_STATUS, note_row
from twinlens.ingest.reconcile import reconcile
from twinlens.search.milvus.collection import Collection
from twinlens.search.processes import is_running
from twinlens.search.records import Row

#: Seconds after which the note of a process on another machine, or in another container, is no
#: longer believed.
PATIENCE = 600.0
#: Seconds after which the note of a process on another machine is looked at once more: a process
#: that writes changes it every few seconds, and the clocks of two machines may differ.
SETTLE_SECONDS = 5.0
#: Ids of one row: the capacity of its column.
MAX_IDS = 4_096
#: The notes of runs of this process.
_alive: set[str] = set()


class WriteNote:
    """The note of one run; kept up to date by its only writing thread.

    Args:
        collection: where the run writes.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._token = secrets.token_hex(8)
        self._paths: set[str] = set()

    def begin(self, images: Sequence[str], texts: Sequence[str]) -> None:
        """Note ids before their rows are written; what was noted before is finished.

        Args:
            images: ids of images whose rows, or whose captions' rows, are written.
            texts: ids of texts without an image.
        """
        _alive.add(self._token)
        rows = []
        for kind, ids in (("images", images), ("texts", texts)):
            for start in range(0, len(ids), MAX_IDS):
                path = f"{WRITING}{self._token} {kind} {start}"
                rows.append(note_row(path, ids[start : start + MAX_IDS], self._writer(kind)))
        self._collection.upsert("files", rows)
        self._clear(self._paths - {row["path"] for row in rows})
        self._paths |= {row["path"] for row in rows}

    def end(self) -> None:
        """Delete the note: everything noted is in the ledger."""
        self._clear(set(self._paths))

    def release(self) -> None:
        """Let others finish what is noted: this run writes no more."""
        _alive.discard(self._token)

    def _clear(self, paths: set[str]) -> None:
        self._collection.delete("files", sorted(paths))
        self._paths -= paths

    def _writer(self, kind: str) -> str:
        return json.dumps({"kind": kind, "host": _host(), "pid": os.getpid(), "run": self._token})


def finish_writes(collection: Collection) -> frozenset[str]:
    """Delete what runs that died have stored without a ledger row.

    Safe to repeat after a failure half-way.

    Returns:
        The ids of the deleted images.
    """
    deleted: set[str] = set()
    for row in _left(collection):
        if _writer_of(row).get("kind") == "texts":
            _delete_unlisted(collection, row["texts"])
        else:
            deleted |= reconcile(collection, row["texts"]).deleted
        collection.delete("files", [row["path"]])
    return frozenset(deleted)


def _left(collection: Collection) -> list[Row]:
    """The notes of runs that died."""
    alone = collection.capabilities.lite
    left = [
        row
        for row in _notes(collection)
        if not _is_alive(_writer_of(row), row["mtime_ns"], alone=alone)
    ]
    if alone or all(_is_of_this_host(row) for row in left):
        return left
    # The clock of this machine may be ahead of the writer's, or may have jumped.
    time.sleep(SETTLE_SECONDS)
    now = {row["path"]: row["mtime_ns"] for row in _notes(collection)}
    return [row for row in left if _is_of_this_host(row) or now.get(row["path"]) == row["mtime_ns"]]


def _notes(collection: Collection) -> list[Row]:
    fields = ["path", "texts", "reason", "mtime_ns"]
    found = collection.scan("files", fields, f'status == "{WRITING_STATUS}"', strong=True)
    return [row for rows in found for row in rows]


def _delete_unlisted(collection: Collection, ids: Sequence[str]) -> None:
    """Delete texts without an image that no ledger row has."""
    listed: set[str] = set()
    for rows in collection.scan("files", ["texts"], 'image_id == "" and status == "ok"'):
        for row in rows:
            listed |= {*row["texts"]} & {*ids}
    rows = collection.get("texts", ids, ["id", "image_id"])
    alone = [row["id"] for row in rows if not row["image_id"] and row["id"] not in listed]
    collection.delete("texts", alone)


def _writer_of(row: Row) -> dict[str, object]:
    with suppress(ValueError):
        writer = json.loads(row["reason"])
        if isinstance(writer, dict):
            return writer
    return {}


def _is_of_this_host(row: Row) -> bool:
    return _writer_of(row).get("host") == _host()


def _host() -> str:
    """Where the number of a process stands for it: a machine since it was started, or a container.

    The name alone does not tell: two machines, or containers, may have the same.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as file:
            parts.append(file.read().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _is_alive(writer: dict[str, object], noted_ns: int, *, alone: bool) -> bool:
    """Whether the process that wrote a note may still be writing.

    Args:
        writer: what the note says of it.
        noted_ns: when, in nanoseconds since 1970.
        alone: only one process at a time can write. If another one does, the first deletion fails.
    """
    same_host = writer.get("host") == _host()
    pid = writer.get("pid")
    if same_host and pid == os.getpid():
        return writer.get("run") in _alive
    if alone:
        return False
    if not same_host:
        return time.time() - noted_ns / 1e9 < PATIENCE
    return isinstance(pid, int) and is_running(pid)

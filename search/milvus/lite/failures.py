"""Keep what was confirmed when Milvus Lite fails to write, such as on a full disk.

Milvus Lite goes on after a failure as if nothing had happened. What it then appends to its log
stands behind half a batch, where nobody can read it; and after a flush that failed, the next one
that succeeds deletes the log of the first. So a collection is let go after any failure, as if the
process had been killed: the next write opens it again, from its files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.search.errors import StoreError, first_line
from twinlens.search.milvus.lite.folder import LiteFolder, UnknownFormatError
from twinlens.search.milvus.lite.recorder import array_of

#: Errors that mean that there is no room.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def letting_go(path: Path, collection: str) -> Iterator[None]:
    """Let a collection of Milvus Lite go if writing to it fails.

    Args:
        path: of the database, which is open in this process.
        collection: its name.

    Raises:
        StoreError: in place of an ``OSError``, or if another thread's write has just failed.
    """
    logs = [one._wal for one in _open_collections(path, collection).values()]
    try:
        yield
    except (ValueError, TypeError):
        raise  # a row is not valid; nothing was written
    except BaseException as error:
        _let_go(path, collection, logs)
        if isinstance(error, OSError):
            raise StoreError(write_failure(path, error)) from error
        if isinstance(error, AssertionError):  # Milvus Lite's, of a log that was let go meanwhile
            raise StoreError(f"{path}: another write has just failed: run this again") from error
        raise


def write_failure(path: Path, error: OSError) -> str:
    """What to say when a database cannot be written."""
    reason = error.strerror or first_line(error)
    if error.errno in _FULL:
        return (
            f"{path} cannot be written: {reason}; what was stored before is kept: make room, and "
            "run this again to resume"
        )
    return f"{path} cannot be written: {reason}; what was stored before is kept"


def read_only_reason(path: Path) -> str:
    """Why a database cannot be written to; "" if it can, as far as its folders tell."""
    places = [path, path / "collections", path / "LOCK"]
    with suppress(OSError):
        places += [path / "collections" / name for name in os.listdir(path / "collections")]
    for place in places:
        if place.exists() and not os.access(place, os.W_OK):
            return f"{path} is read-only: it can be searched, but {place} cannot be written to"
    return ""


def before_writing(folder: LiteFolder) -> None:
    """Check and prepare the files of a database that Milvus Lite is about to open.

    Milvus Lite would take the manifest before a damaged one, and delete the data files that it
    lacks. Files of vectors that a full disk has cut off are deleted: Milvus Lite makes them anew.

    Raises:
        StoreError: a manifest is damaged.
    """
    for name in folder.collections():
        with suppress(UnknownFormatError):
            root = folder.folder_of(name)
            for data in folder.manifest(name).data:
                path = array_of(root / data)
                with suppress(OSError):
                    if path.exists() and not is_whole_array(path):
                        path.unlink()


def is_whole_array(path: Path) -> bool:
    """Whether a NumPy file has the size that its beginning says: it is written from the start."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                return True
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            wanted = file.tell() + int(np.prod(shape)) * dtype.itemsize
            return os.fstat(file.fileno()).st_size == wanted
    except ValueError:
        return False


def is_open(path: Path) -> bool:
    """Whether Milvus Lite has a database open in this process."""
    from milvus_lite.server_manager import server_manager_instance

    return os.path.abspath(path) in server_manager_instance._servers


def _open_collections(path: Path, name: str) -> dict[Any, Any]:
    """The collection in Milvus Lite's engine, by its key there; {} if it is not open."""
    from milvus_lite.server_manager import server_manager_instance

    found = server_manager_instance._servers.get(os.path.abspath(path))
    opened = found[1]._collections if found is not None else {}
    return {key: one for key, one in opened.items() if key[1] == name}


def _let_go(path: Path, name: str, logs: Sequence[Any]) -> None:
    """Forget a collection as it is in memory.

    Args:
        path, name: of the database and the collection.
        logs: its logs, which a flush that failed has replaced.
    """
    from milvus_lite.server_manager import server_manager_instance

    for key, collection in _open_collections(path, name).items():
        server_manager_instance._servers[os.path.abspath(path)][1]._collections.pop(key, None)
        collection._bg_closed = True
        collection._bg_executor.shutdown(wait=True)
        for log in {*logs, collection._wal}:
            log._closed = True  # whoever waits to write to it fails
            for file in (log._data_sink, log._delta_sink):
                if file is not None:
                    file.raw.close()  # what it has buffered was not confirmed

"""A stored picture's own bytes, from wherever they still are; never another picture's."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from twinlens.search.errors import ImageError, TwinlensError
from twinlens.search.images.decode import MAX_BYTES
from twinlens.search.records import Row, image_id

#: Gets the bytes behind a stored path; raises ``ImageError`` or ``OSError`` where it cannot.
Read = Callable[[str], bytes]
#: Paths of one picture that are tried.
MAX_TRIES = 8


class GoneError(TwinlensError):
    """None of a picture's paths holds its bytes any more."""


def read_file(path: str) -> bytes:
    """The bytes of a regular file, named by its absolute path.

    Raises:
        ImageError: it is something else, or larger than ``twinlens.search.images.decode.MAX_BYTES``.
        OSError: it cannot be read.
    """
    if not os.path.isabs(path) or "\0" in path:
        raise ImageError("is not a file of this machine")
    # Looked at before it is opened: opening some devices does something, a FIFO would wait.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ImageError("is not a regular file")
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())  # of what was opened, which may be another one by now
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is not a regular file")
        data = file.read(MAX_BYTES + 1) if status.st_size <= MAX_BYTES else b""
    if status.st_size > MAX_BYTES or len(data) > MAX_BYTES:
        raise ImageError(f"is larger than {MAX_BYTES >> 20} MB")
    return data


def read_original(row: Row, read: Read = read_file) -> bytes:
    """The bytes that a picture was made of: those whose hash is its id.

    Args:
        row: the picture's ``id``, ``path`` and ``paths``.
        read: gets the bytes behind a path.

    Raises:
        GoneError: no path holds them any more.
    """
    reason = "its file is not there any more"
    for path in list(dict.fromkeys([row["path"], *row.get("paths", ())]))[:MAX_TRIES]:
        try:
            data = read(path)
        except (ImageError, OSError):
            continue
        if image_id(data) == row["id"]:
            return data
        reason = "its file has changed since it was ingested"
    raise GoneError(f"the picture cannot be shown: {reason}")

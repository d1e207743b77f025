"""Read the original file of a stored image, and make thumbnails."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from typing import Literal

from twinlens.search.errors import ImageError, TwinlensError
from twinlens.search.images.decode import MAX_BYTES, MAX_PIXELS, decode
from twinlens.search.records import Row, image_id

#: Read the bytes of a stored path; raises ``ImageError`` or ``OSError`` on failure.
Read = Callable[[str], bytes]
#: How many paths of one image to try.
MAX_TRIES = 8
#: Pixels of a thumbnail's longer side.
THUMBNAIL_SIDE = 320
ThumbnailFormat = Literal["JPEG", "WEBP"]


class GoneError(TwinlensError):
    """The original of an image is no longer at any of its paths."""


def read_file(path: str) -> bytes:
    """Read a regular file, named by its absolute path.

    Raises:
        ImageError: it is not a regular file, or larger than ``decode.MAX_BYTES``.
        OSError: it cannot be read.
    """
    if not os.path.isabs(path) or "\0" in path:
        raise ImageError("is not a file on this machine")
    # Checked before opening: opening some devices has effects, and a FIFO would block.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ImageError("is not a regular file")
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())  # of the open file: the path may lead to another by now
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"larger than {MAX_BYTES >> 20} MB")
        data = file.read(status.st_size + 1)  # memory for as much is taken, whatever is there
        if len(data) > status.st_size:  # it has grown
            data += file.read(MAX_BYTES + 1 - len(data))
    if len(data) > MAX_BYTES:
        raise ImageError(f"larger than {MAX_BYTES >> 20} MB")
    return data


def read_original(row: Row, read: Read = read_file) -> bytes:
    """Read the file that an image was ingested from: the one whose hash is its id.

    Args:
        row: the image's ``id``, ``path`` and ``paths``.
        read: reads the bytes of a path.

    Raises:
        GoneError: the file was deleted, moved or changed.
    """
    reason = "its file is no longer there"
    for path in list(dict.fromkeys([row["path"], *row.get("paths", ())]))[:MAX_TRIES]:
        try:
            data = read(path)
        except (ImageError, OSError):
            continue
        if image_id(data) == row["id"]:
            return data
        reason = "its file has changed since it was ingested"
    raise GoneError(f"the image cannot be shown: {reason}")


def thumbnail(
    data: bytes,
    side: int = THUMBNAIL_SIDE,
    encoding: ThumbnailFormat = "JPEG",
    *,
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """Scale an image file down: upright, sRGB, without metadata.

    Args:
        data: an image file, in any format that ``decode`` reads.
        side: pixels of the longer side, at most; a smaller image keeps its size.
        encoding: the format of the result.
        max_pixels: of the image file; more are rejected.

    Raises:
        ImageError: the image cannot be decoded.
    """
    image = decode(data, target=max(1, side // 2), max_pixels=max_pixels).image
    image.thumbnail((side, side))
    image.info.clear()  # or WebP and JPEG would write its profile and comment
    buffer = io.BytesIO()
    if encoding == "WEBP":
        image.save(buffer, format="WEBP", quality=80, method=3)
    else:
        image.save(buffer, format="JPEG", quality=82, progressive=True)
    return buffer.getvalue()

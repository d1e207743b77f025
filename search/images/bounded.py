"""Bound the work and memory that reading a file's headers and tags takes."""

from __future__ import annotations

import struct
from io import BytesIO

from twinlens.search.errors import ImageError

#: Reads of one file by a decoder: each part of a header takes a few of them.
MAX_READS = 1_000_000
#: Numbers in the tags of a TIFF file or EXIF block, which become Python objects. A picture of
#: 200 megapixels in tiles of 16x16 has 1.6 million.
MAX_NUMBERS = 4_000_000
#: Of the EXIF of an image; a JPEG's is below 64 KB.
MAX_EXIF_BYTES = 4 << 20

#: Tags that point to directories: EXIF, GPS, Interoperability.
_POINTERS = (0x8769, 0x8825, 0xA005)
# Bytes of the types of tags (TIFF 6.0, section 2, and BigTIFF), and those that stay bytes.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
          17: 8, 18: 8}  # fmt: skip
_BYTES = (1, 2, 7)


class BoundedFile(BytesIO):
    """A file in memory that stops a decoder after ``MAX_READS`` reads.

    Decoders read headers in Python, part by part, so that a file of a hundred million tiny parts
    would take minutes.
    """

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            ImageError: there were too many reads.
        """
        self._reads += 1
        if self._reads > MAX_READS:
            raise ImageError(f"more than {MAX_READS:,} parts in its header")
        return super().read(size)


def check_tags(data: bytes) -> None:
    """Check how many numbers the tags of a TIFF file or an EXIF block hold.

    Args:
        data: begins with a TIFF header; anything else is left to the decoder.

    Raises:
        ImageError: they would take too much memory.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    big = data[2:4] in (b"+\0", b"\0+")
    count, entry, pointer = ("Q", "HHQ8s", "Q") if big else ("H", "HHL4s", "L")
    (first,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    directories, numbers = [first], 0
    for start in directories:
        at = start + struct.calcsize(count)
        if at > len(data):
            continue
        (length,) = struct.unpack_from(order + count, data, start)
        width = struct.calcsize(order + entry)
        length = min(length, (len(data) - at) // width)
        numbers += length
        if numbers <= MAX_NUMBERS:
            entries = memoryview(data)[at : at + length * width]
            for tag, kind, values, value in struct.iter_unpack(order + entry, entries):
                size = values * _SIZES.get(kind, 0)
                if kind not in _BYTES and size <= len(data):  # a longer one is not read
                    numbers += values
                if tag in _POINTERS and len(directories) < 8:
                    directories += struct.unpack_from(order + pointer, value)
        if numbers > MAX_NUMBERS:
            raise ImageError(f"more than {MAX_NUMBERS:,} numbers in its tags")


def has_sane_exif(exif: bytes) -> bool:
    """Whether an EXIF block is small enough to be read."""
    try:
        check_tags(exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0"))
    except ImageError:
        return False
    return len(exif) <= MAX_EXIF_BYTES

"""What an encoded picture's header tells before any pixel is decoded, and Pillow does not ask."""

from __future__ import annotations

import re
from io import BytesIO

from twinlens.search.errors import ImageError

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")


def check_scans(data: bytes, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse a JPEG that goes over its pixels again and again: 140 bytes buy a whole pass."""
    most = 20 * max_pixels // (size[0] * size[1])  # progressive ones have about ten
    if data.count(_SCAN) <= most:
        return
    scans, at = 0, 2
    while (marker := _MARKER.search(data, at)) and marker[0] != _END:  # a video may follow the end
        scans += marker[0] == _SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    if scans > most:
        raise ImageError(f"a JPEG of {size[0]}x{size[1]} pixels in {scans} scans is over the cap")


def jxl_size(data: bytes) -> tuple[int, int]:
    """Read the SizeHeader of ISO/IEC 18181-1, past the container's boxes if there are any."""
    start, at = 0, 0
    while data[0] == 0 and at + 8 <= len(data):
        length, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            break
        if length < head:
            break
        at += length
    if data[start : start + 2] != b"\xff\x0a":
        raise ImageError("damaged JXL: no codestream")
    bits = int.from_bytes(data[start + 2 : start + 14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * across // down, height


def is_raw_tiff(data: bytes) -> bool:
    """Tell a TIFF from a raw file in its clothes, whose first image is a thumbnail."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if data[2:4] not in (b"*\0", b"\0*"):
        return False
    directory = ImageFileDirectory_v2(data[:8])
    stream = BytesIO(data)
    stream.seek(directory.next or 8)
    directory.load(stream)
    dng_version, subfile_type, subfiles = 50706, 254, 330
    return dng_version in directory or (directory.get(subfile_type) == 1 and subfiles in directory)

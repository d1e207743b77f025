"""Read from headers what decides how much memory and time decoding takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from twinlens.search.errors import ImageError
from twinlens.search.images.bounded import MAX_EXIF_BYTES

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
#: Segments of a JPEG before its first scan; a colour profile of 500 MB has 8,000.
MAX_SEGMENTS = 100_000
#: Bytes between segments of a JPEG, which Pillow reads one by one.
MAX_JUNK = 1_000_000
#: Boxes of a file before its codestream.
MAX_BOXES = 10_000


def check_scans(data: bytes, size: tuple[int, int], max_pixels: int) -> None:
    """Reject a JPEG with too many scans: each costs 140 bytes and a pass over all pixels.

    Raises:
        ImageError: there are more scans than decoding `max_pixels` should cost.
    """
    most = 20 * max_pixels // (size[0] * size[1])  # progressive JPEGs have about ten
    if data.count(_SCAN) <= most:
        return
    scans, at = 0, 2
    while (marker := _MARKER.search(data, at)) and marker[0] != _END:  # a video may follow
        scans += marker[0] == _SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    if scans > most:
        raise ImageError(f"a JPEG of {size[0]}x{size[1]} pixels in {scans} scans is over the limit")


def jpeg_coefficients(data: bytes) -> float:
    """Bytes per pixel of the coefficients that decoding a JPEG keeps (ITU-T T.81).

    They are those of the whole picture if its components come in several scans, otherwise none.

    Raises:
        ImageError: the header is too long to be read.
    """
    kept, components, exif, junk, last = 0.0, 0, 0, 0, 2
    for number, (marker, start, end) in enumerate(_segments(data)):
        junk, last = junk + start - 4 - last, end
        if number > MAX_SEGMENTS:
            raise ImageError(f"damaged JPEG: more than {MAX_SEGMENTS:,} segments")
        if junk > MAX_JUNK:
            raise ImageError(f"damaged JPEG: more than {MAX_JUNK:,} bytes between segments")
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            exif += end - start
            if exif > MAX_EXIF_BYTES:  # Pillow joins the segments one by one
                raise ImageError(f"damaged JPEG: more than {MAX_EXIF_BYTES >> 20} MB of EXIF")
        elif marker in _FRAMES:
            components = data[start + 5] if start + 5 < end else 0
            sampling = data[start + 7 : start + 6 + 3 * components : 3]
            areas = [(part >> 4) * (part & 15) for part in sampling]
            across = max((part >> 4 for part in sampling), default=1)
            down = max((part & 15 for part in sampling), default=1)
            kept = 2 * sum(areas) / max(1, across * down)
            if marker in _PROGRESSIVE:
                return kept
        elif marker == _SCAN[1]:
            return kept if start < end and data[start] < components else 0.0
    return kept


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of a JPEG, to the first scan."""
    at = 2
    while marker := _MARKER.search(data, at):
        start = marker.end() + 2
        at = marker.end() + max(2, int.from_bytes(data[marker.end() : start], "big"))
        yield marker[0][1], start, min(at, len(data))
        if marker[0] == _SCAN:
            return


@dataclass(frozen=True, slots=True)
class Jpeg2000Header:
    """What decides how much memory decoding a JPEG 2000 image takes (ISO/IEC 15444-1)."""

    components: int
    tile_pixels: int
    levels: int
    """How many times the decoder can halve its sides."""


def jpeg2000_header(data: bytes, size: tuple[int, int]) -> Jpeg2000Header:
    """Read the header of the codestream; one tile and no levels if it is damaged."""
    pixels = size[0] * size[1]
    at = _codestream(data)
    tile = [int.from_bytes(data[at + 24 + 4 * i : at + 28 + 4 * i], "big") for i in (0, 1)]
    header = Jpeg2000Header(
        int.from_bytes(data[at + 40 : at + 42], "big"), min(pixels, tile[0] * tile[1]) or pixels, 0
    )
    at += 2
    for _ in range(100):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == b"\xff\x52" and at + 9 < len(data):
            return Jpeg2000Header(header.components, header.tile_pixels, min(data[at + 9], 32))
        if marker == b"\xff\x90" or length < 2:
            break
        at += 2 + length
    return header


def _codestream(data: bytes) -> int:
    """Where the codestream starts: at the beginning, or in the first box of its kind."""
    if data.startswith(b"\xff\x4f"):
        return 0
    boxes = _boxes(data)
    return next((start for kind, start in boxes if kind == b"jp2c"), len(data))


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Kind and start of the contents of each box of a file (ISO/IEC 14496-12)."""
    at = 0
    for _ in range(MAX_BOXES):
        length, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        yield kind, at + head
        if length < head or at + length + 8 > len(data):
            return
        at += length


def webp_size(data: bytes) -> tuple[int, int]:
    """Read width and height of a WebP image (RFC 9649).

    Raises:
        ImageError: there is no image.
    """
    kind, body = data[12:16], data[20:30]
    if len(body) == 10:
        if kind == b"VP8X":
            return (
                1 + int.from_bytes(body[4:7], "little"),
                1 + int.from_bytes(body[7:10], "little"),
            )
        if kind == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if kind == b"VP8 ":
            return (
                int.from_bytes(body[6:8], "little") & 0x3FFF,
                int.from_bytes(body[8:10], "little") & 0x3FFF,
            )
    raise ImageError("damaged WEBP: no image")


def jxl_size(data: bytes) -> tuple[int, int]:
    """Read width and height of a JPEG XL image, with or without a container (ISO/IEC 18181-1).

    Raises:
        ImageError: there is no codestream.
    """
    # Of a part of a codestream, the first four bytes are its number.
    starts = {b"jxlc": 0, b"jxlp": 4}
    boxes = _boxes(data) if data[0] == 0 else iter(())
    start = next((at + starts[kind] for kind, at in boxes if kind in starts), 0)
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

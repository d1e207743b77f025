"""Estimate how much memory decoding an image takes, and refuse what takes too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinlens.search.errors import ImageError
from twinlens.search.images.bounded import MAX_EXIF_BYTES, check_tags
from twinlens.search.images.colour import BAND, WHOLE
from twinlens.search.images.headers import jpeg2000_header, jpeg_coefficients

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

#: What decoding may take, in bytes for each pixel of the limit of pixels: three times the image as
#: 8-bit RGB. It is 1.8 GB at 200 megapixels.
BYTES_PER_PIXEL = 9
#: Formats whose decoders hold the whole image several times, and the bytes per pixel they take at
#: worst (10 or 16 bits, transparency), as ``benchmarks/decode_memory.py`` measures them.
ALL_AT_ONCE = {"WEBP": 18, "AVIF": 18, "JXL": 12}
#: Of HEIF, with 8 bits per sample and with more.
HEIF, HEIF_DEEP = 9, 16
#: Of a camera raw file that is developed, and at half its sides.
RAW, RAW_HALF = 20, 6
#: Bytes per pixel of a tile of JPEG 2000, for each component.
JPEG2000 = 6
#: Of an AVIF file: Pillow reads all of its EXIF when it opens one.
MAX_AVIF_BYTES = 128 << 20
#: Pixels of a JPEG whose header is not worth being read for the estimate, and the bytes per pixel
#: of the coefficients that are then assumed: those of a usual progressive one.
SMALL_JPEG, COEFFICIENTS = 1 << 20, 3.0
#: Pixels of a format that Pillow decodes in Python, byte by byte.
MAX_SLOW_PIXELS = 25_000_000


def check_cost(name: str, size: tuple[int, int], cost: float, max_pixels: int) -> None:
    """Refuse an image whose decoding takes more than the limit.

    Raises:
        ImageError: the message says how much it would take.
    """
    most = BYTES_PER_PIXEL * max_pixels
    if cost > most:
        raise ImageError(
            f"{size[0]}x{size[1]} pixels as {name} take {cost / 1e6:,.0f} MB of memory to decode, "
            f"over the limit of {most / 1e6:,.0f} MB: save it as a PNG, or a JPEG that is not "
            "progressive"
        )


def check_speed(name: str, image: ImageFile) -> None:
    """Refuse an image of a kind that Pillow decodes in Python if that would take minutes.

    Raises:
        ImageError: it has more pixels than ``MAX_SLOW_PIXELS``.
    """
    pixels = image.size[0] * image.size[1]
    slow = image.tile and image.tile[0][0] == "bmp_rle"
    if slow and pixels > MAX_SLOW_PIXELS:
        raise ImageError(
            f"{image.size[0]}x{image.size[1]} pixels is over the limit of {MAX_SLOW_PIXELS:,} "
            f"for a {name} in run-length encoding, which is slow to decode"
        )


def check_header(name: str, data: bytes) -> None:
    """Refuse a file whose metadata takes minutes to open, or many times its size.

    Raises:
        ImageError: the message says what there is too much of.
    """
    if name == "AVIF" and len(data) > MAX_AVIF_BYTES:
        raise ImageError(f"an AVIF of more than {MAX_AVIF_BYTES >> 20} MB")
    if name == "JPEG" and len(data) > MAX_EXIF_BYTES:
        jpeg_coefficients(data)
    elif name == "TIFF":
        check_tags(data)


def decoder_bytes(
    name: str, data: bytes, image: ImageFile, size: tuple[int, int], decoded: tuple[int, int]
) -> float:
    """Bytes at the peak of decoding, with the decoded image.

    Args:
        name: the format.
        data: the whole file.
        image: opened.
        size: of the whole image in pixels.
        decoded: the size at which it will be decoded.
    """
    pixels = decoded[0] * decoded[1]
    native = pixels * _pixel_bytes(image.mode)
    if name in ALL_AT_ONCE:
        return pixels * ALL_AT_ONCE[name]
    if name == "HEIF":
        deep = image.info.get("bit_depth", 8) > 8
        return float(pixels * (HEIF_DEEP if deep else HEIF))
    if name == "JPEG":
        whole = size[0] * size[1]
        kept = jpeg_coefficients(data) if whole > SMALL_JPEG else COEFFICIENTS
        return native + whole * kept
    if name == "JPEG2000":
        header = jpeg2000_header(data, size)
        tile = header.tile_pixels * pixels / (size[0] * size[1])
        return native + JPEG2000 * header.components * tile
    if name == "TIFF":
        # Pillow turns it with a copy.
        turned = getattr(image, "tag_v2", {}).get(0x0112, 1) != 1
        return max(native + _strip_bytes(image), 2 * native if turned else 0)
    return native


def conversion_bytes(mode: str, size: tuple[int, int], shorter: int | None) -> float:
    """Bytes at the peak of converting a decoded image to upright RGB, with both.

    Args:
        mode, size: of the decoded image, in pixels.
        shorter: see ``to_rgb``.
    """
    pixels = size[0] * size[1]
    factor = max(1, min(size) // shorter if shorter else 1)
    result = 4 * pixels / factor**2
    band = pixels if pixels <= WHOLE else BAND
    return max(pixels * _pixel_bytes(mode) + result + 12 * band, 2 * result)


def _pixel_bytes(mode: str) -> int:
    if mode.startswith("I;16"):
        return 2
    return 1 if mode in ("1", "L", "P") else 4


def _strip_bytes(image: Any) -> int:
    """Bytes of one strip or tile of a compressed TIFF, which libtiff decodes at once."""
    if not image.tile or image.tile[0][0] != "libtiff":
        return 0
    tags = image.tag_v2
    width, height = image.size
    if 322 in tags:  # TileWidth, TileLength
        pixels = int(tags[322]) * int(tags.get(323, height))
    else:  # RowsPerStrip
        pixels = width * min(height, int(tags.get(278, height)))
    bits = tags.get(258, (1,))
    planar = tags.get(284, 1) == 2
    depth = int(max(bits)) * (1 if planar else int(tags.get(277, 1)))
    # A JPEG inside is converted to RGBA.
    return pixels * max(depth // 8, 4 if tags.get(259) in (6, 7) else 1)

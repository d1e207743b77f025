"""Decode image files to upright sRGB, in the same way for ingest and for queries."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from twinlens.search.errors import ImageError
from twinlens.search.images.bounded import BoundedFile, check_tags, has_sane_exif
from twinlens.search.images.budget import decoding_budget
from twinlens.search.images.colour import WHOLE, to_rgb
from twinlens.search.images.cost import (
    ALL_AT_ONCE,
    RAW,
    RAW_HALF,
    check_cost,
    check_header,
    check_speed,
    conversion_bytes,
    decoder_bytes,
)
from twinlens.search.images.exif import read_exif
from twinlens.search.images.formats import import_decoder, is_raw_tiff, sniff
from twinlens.search.images.headers import check_scans, jpeg2000_header, jxl_size, webp_size
from twinlens.search.images.ppm import read_levels

if TYPE_CHECKING:  # importing PIL takes 40 ms
    from PIL.Image import Exif, Image
    from PIL.ImageFile import ImageFile

#: Of one image. Decoding takes up to 9 bytes per pixel (1.8 GB): a format that would take more has
#: a lower limit, see ``cost.py``. All threads share the memory in ``budget.py``.
MAX_PIXELS = 200_000_000
#: Of one image file.
MAX_BYTES = 1 << 29


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """The image in a file, decoded, with the metadata to store."""

    image: Image
    """Mode RGB, upright, sRGB; possibly scaled down to what `target` needs."""
    width: int
    height: int
    """Of the whole upright image, in pixels."""
    format: str
    """Pillow's name of it: JPEG, PNG, HEIF …; RAW for a camera raw file."""
    exif: Mapping[str, str | float | int] = field(default_factory=dict)
    """See `read_exif`."""


def decode(
    data: bytes,
    *,
    target: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> DecodedFile:
    """Decode the first frame of an image file to upright sRGB, with transparency on white.

    Args:
        data: the whole file.
        target: pixels; the side of the model's images. A larger image may then be scaled down, to
            a shorter side of at least twice that: a JPEG is decoded several times faster at a
            fraction of its size. Images are never scaled up.
        max_pixels: of the image; checked in the header, before any pixel is decoded.
        max_bytes: of the file.

    Raises:
        ImageError: the file is no image, damaged, or too large; the message is one line.
    """
    if not data:
        raise ImageError("empty file")
    if len(data) > max_bytes:
        raise ImageError(f"{len(data):,} bytes is over the limit of {max_bytes:,}")
    name = sniff(data)
    if name is None:
        is_markup = data[:64].lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"<")
        what = "a web page or XML, not" if is_markup else "not"
        raise ImageError(f"{what} an image in a format that can be read here")
    try:
        with _without_warnings():
            check_header(name, data)
            if name == "RAW" or (name == "TIFF" and is_raw_tiff(data)):
                return _decode_raw(data, target, max_pixels)
            return _decode(name, data, target, max_pixels)
    except ImageError:
        raise
    except Exception as error:  # on damaged files Pillow raises nearly anything
        raise ImageError(_reason(name, error)) from error


def _decode(name: str, data: bytes, target: int | None, max_pixels: int) -> DecodedFile:
    shorter = 2 * target if target else None
    module, opener = import_decoder(name)
    with ExitStack() as reserved:
        if name in _SIZES:  # the decoder allocates memory, or decodes all pixels, on opening
            size = _SIZES[name](data)
            _check_size(size, max_pixels)
            cost = float(ALL_AT_ONCE[name] * size[0] * size[1])
            check_cost(name, size, cost, max_pixels)
            reserved.enter_context(_reserve(data, cost))
        # The format's class, not Image.open, which has its own limit of pixels for the process.
        file = BytesIO(data) if name in ("BMP", "JPEG") else BoundedFile(data)
        image: ImageFile = getattr(module, opener)(file)
        size = image.size
        _check_size(size, max_pixels)
        if name == "JPEG":
            check_scans(data, size, max_pixels)
        check_speed(name, image)
        decoded_size = _scale(name, data, image, shorter)
        cost = decoder_bytes(name, data, image, size, decoded_size)
        check_cost(name, size, cost, max_pixels)
        cost = max(cost, conversion_bytes(image.mode, decoded_size, shorter))
        reserved.enter_context(_reserve(data, cost))
        return _upright(name, data, image, size, shorter)


def _reserve(data: bytes, cost: float) -> AbstractContextManager[None]:
    """Wait until the memory to decode a file is free, unless this thread has reserved it."""
    # Decoders and metadata hold parts of the file once more.
    return decoding_budget().reserve(int(cost) + len(data))


def _scale(name: str, data: bytes, image: ImageFile, shorter: int | None) -> tuple[int, int]:
    """Let the decoder scale an image down, to no less than `shorter`, where it can.

    Returns:
        The size to be decoded, in pixels.
    """
    if name == "JPEG" and shorter:
        image.draft(None, (shorter, shorter))
    # Smaller images are the same without.
    if name == "JPEG2000" and shorter and image.size[0] * image.size[1] > WHOLE:
        halvings = (min(image.size) // shorter).bit_length() - 1
        halvings = max(0, min(halvings, jpeg2000_header(data, image.size).levels))
        cast(Any, image).reduce = halvings
        return image.size[0] >> halvings, image.size[1] >> halvings
    return image.size


def _upright(
    name: str, data: bytes, image: ImageFile, size: tuple[int, int], shorter: int | None
) -> DecodedFile:
    """Decode an opened image and convert it."""
    pixels: Image | None = read_levels(data, image) if name == "PPM" else None
    if pixels is None:
        image.load()
        pixels = image
    if name not in ("JPEG", "JPEG2000"):
        size = image.size  # Pillow has rotated a TIFF and may have cropped a HEIF
    exif = _exif_of(image)
    orientation = exif.get(0x0112, 1) if exif else 1
    if name == "JXL" and not getattr(image, "jpeg", False):
        orientation = 1  # the decoder has applied the orientation in the codestream
    read = read_exif(exif) if exif else {}
    upright = to_rgb(pixels, shorter)
    if upright is not pixels:
        pixels.close()  # its memory is not needed any more
    if orientation in _TRANSPOSE:
        upright = upright.transpose(cast(Any, _TRANSPOSE[orientation]))
        size = size if orientation < 5 else size[::-1]
    return DecodedFile(upright, *size, name, read)


def _exif_of(image: ImageFile) -> Exif | None:
    """EXIF of an image; damaged EXIF does not make the pixels unreadable."""
    block = image.info.get("exif")
    with suppress(Exception):
        if not isinstance(block, bytes) or has_sane_exif(block):
            return image.getexif()
    return None


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{width}x{height}: no pixels")
    if width * height > max_pixels:
        raise ImageError(f"{width}x{height} pixels is over the limit of {max_pixels:,}")


#: Formats whose size must be read before they are opened.
_SIZES = {"JXL": jxl_size, "WEBP": webp_size}
# EXIF orientation to Pillow's Transpose that makes the image upright.
_TRANSPOSE = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _decode_raw(data: bytes, target: int | None, max_pixels: int) -> DecodedFile:
    """Use the preview that the camera embedded if it is large enough, else develop the raw file."""
    import PIL.Image

    rawpy, _ = import_decoder("RAW")
    with rawpy.imread(BytesIO(data)) as raw:
        size = (raw.sizes.iwidth, raw.sizes.iheight)
        if raw.sizes.flip in (5, 6):  # a quarter turn
            size = size[::-1]
        _check_size(size, max_pixels)
        # Previews are often a few pixels smaller than the image.
        enough = min(2 * target, *size) if target else min(size) * 9 // 10
        with suppress(rawpy.LibRawError, ImageError):
            preview = raw.extract_thumb()
            if preview.format == rawpy.ThumbFormat.JPEG:  # LibRaw adds missing EXIF
                check_header("JPEG", preview.data)
                decoded = _decode("JPEG", preview.data, target, max_pixels)
                if min(decoded.image.size) >= enough:
                    return DecodedFile(decoded.image, *size, "RAW", decoded.exif)
        half = target is not None and 4 * target <= min(size)
        cost = size[0] * size[1] * (RAW_HALF if half else RAW)
        check_cost("RAW", size, cost, max_pixels)
        with _reserve(data, cost):
            pixels = raw.postprocess(use_camera_wb=True, half_size=half, output_bps=8)
            image = to_rgb(PIL.Image.fromarray(pixels), 2 * target if target else None)
    exif = PIL.Image.Exif()
    with suppress(Exception):  # most raw files are TIFF inside
        check_tags(data)
        exif.load(data)
    return DecodedFile(image, *size, "RAW", read_exif(exif))


class _DecodingThread(threading.local):
    """Stand in for a warning filter's pattern: match only in threads that are decoding."""

    active = False

    def match(self, _text: str) -> bool:
        return self.active


_decoding = _DecodingThread()
_FILTER: Any = ("ignore", None, Warning, _decoding, 0)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings in this thread: it raises as well, or they do not matter.

    `warnings.catch_warnings` is not thread-safe: it replaces the filters of the whole process.
    Instead, one filter whose pattern matches by thread is inserted first, and again if somebody
    has reset the filters.
    """
    filters = cast(list[Any], warnings.filters)
    if not filters or filters[0] is not _FILTER:
        with suppress(ValueError):
            filters.remove(_FILTER)
        filters.insert(0, _FILTER)
    before, _decoding.active = _decoding.active, True
    try:
        yield
    finally:
        _decoding.active = before


def _reason(name: str, error: Exception) -> str:
    """Describe a decoder's exception in one line."""
    detail = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory to decode this {name}"
    if type(error).__name__ == "DecompressionBombError":  # of a frame or tile
        return f"{name} with more pixels inside than its header says, or than Pillow allows"
    if isinstance(error, EOFError) or "truncated" in detail.lower():
        return f"truncated {name}"
    is_sentence = isinstance(error, OSError | SyntaxError | ValueError) and " " in detail
    return f"damaged {name}: {detail}" if is_sentence and len(detail) < 100 else f"damaged {name}"

"""Decode image files to upright sRGB, in the same way for ingest and for queries."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from twinlens.search.errors import ImageError
from twinlens.search.images.exif import read_exif
from twinlens.search.images.formats import (
    check_scans,
    import_decoder,
    is_raw_tiff,
    jxl_size,
    sniff,
)

if TYPE_CHECKING:  # importing PIL takes 40 ms
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform
    from PIL.ImageFile import ImageFile

#: Of one image; Pillow keeps 4 bytes per pixel: 0.8 GB.
MAX_PIXELS = 200_000_000
#: Of one image file.
MAX_BYTES = 1 << 29
#: Of a colour profile; the largest ones, for print, are near 3 MB.
MAX_PROFILE_BYTES = 4 << 20


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
            if name == "RAW" or (name == "TIFF" and is_raw_tiff(data)):
                return _decode_raw(data, target, max_pixels)
            return _decode(name, data, target, max_pixels)
    except ImageError:
        raise
    except Exception as error:  # on damaged files Pillow raises nearly anything
        raise ImageError(_reason(name, error)) from error


def _decode(name: str, data: bytes, target: int | None, max_pixels: int) -> DecodedFile:
    if name == "JXL":  # the plug-in decodes all pixels on opening
        _check_size(jxl_size(data), max_pixels)
    # The format's class, not Image.open, which has its own limit of pixels for the whole process.
    module, opener = import_decoder(name)
    image: ImageFile = getattr(module, opener)(BytesIO(data))
    _check_size(image.size, max_pixels)
    size = image.size
    if name == "JPEG":
        check_scans(data, size, max_pixels)
        if target:
            image.draft(None, (2 * target, 2 * target))
    image.load()
    if name != "JPEG":
        size = image.size  # Pillow has rotated a TIFF and may have cropped a HEIF
    exif, orientation = None, 1
    with suppress(Exception):  # damaged EXIF does not make the pixels unreadable
        exif = image.getexif()
        orientation = exif.get(0x0112, 1)
    if name == "JXL" and not getattr(image, "jpeg", False):
        orientation = 1  # the decoder has applied the orientation in the codestream
    upright = _to_rgb(image, 2 * target if target else None)
    if orientation in _TRANSPOSE:
        upright = upright.transpose(cast(Any, _TRANSPOSE[orientation]))
        size = size if orientation < 5 else size[::-1]
    return DecodedFile(upright, *size, name, read_exif(exif) if exif else {})


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{width}x{height}: no pixels")
    if width * height > max_pixels:
        raise ImageError(f"{width}x{height} pixels is over the limit of {max_pixels:,}")


# EXIF orientation to Pillow's Transpose that makes the image upright.
_TRANSPOSE = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _to_rgb(image: Image, shorter: int | None) -> Image:
    """Convert any of Pillow's modes to sRGB on white; scale down to no less than `shorter`."""
    import PIL.Image

    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    elif image.mode in ("PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    factor = min(image.size) // shorter if shorter else 1
    if factor > 1:  # not Image.reduce, which distorts if the sides are not divisible
        width, height = (round(side / factor) for side in image.size)
        image = image.resize((width, height), PIL.Image.Resampling.BOX)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    transform = None
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE_BYTES:
        transform = _srgb_transform(profile, image.mode)
    if transform:
        image = transform.apply(image)
    elif image.mode != "RGB":
        image = image.convert("RGB")
    if alpha:
        white = PIL.Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    return image


def _to_eight_bits(image: Image) -> Image:
    """Scale samples wider than 8 bits to 0-255, which Pillow's own conversion would clip.

    16-bit integers span their type. For 32-bit integers and floats, the range is the first that
    contains all samples of: 0 to 1 (float), 255, 65535; otherwise their minimum to maximum.
    """
    import numpy as np
    import PIL.Image

    values = np.asarray(image, dtype=np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    bottom, top = 0.0, 65535.0
    if not image.mode.startswith("I;16"):
        tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        fitting = (top for top in tops if low >= 0 and high <= top)
        bottom, top = next(((0.0, top) for top in fitting), (low, high))
    values = (values - bottom) * (255 / max(top - bottom, 1e-12))
    return PIL.Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=64)
def _srgb_transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Build the transform from a profile to sRGB; None if impossible, or without effect."""
    import PIL.Image
    from PIL import ImageChops, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}.get(mode)
        if source.profile.xcolor_space.strip() != space:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        # Profiles of sRGB have dozens of names, so see whether a few colours change.
        levels = range(0, 256, 51)
        samples = bytes(value for colour in product(levels, repeat=len(space)) for value in colour)
        probe = PIL.Image.frombytes(mode, (len(samples) // len(mode), 1), samples)
        change = ImageChops.difference(transform.apply(probe), probe.convert("RGB"))
    except Exception:  # noqa: BLE001 (a damaged profile does not make the image unreadable)
        return None
    return transform if max(change.tobytes()) > 2 else None


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
                decoded = _decode("JPEG", preview.data, target, max_pixels)
                if min(decoded.image.size) >= enough:
                    return DecodedFile(decoded.image, *size, "RAW", decoded.exif)
        half = target is not None and 4 * target <= min(size)
        pixels = raw.postprocess(use_camera_wb=True, half_size=half, output_bps=8)
    image = _to_rgb(PIL.Image.fromarray(pixels), 2 * target if target else None)
    exif = PIL.Image.Exif()
    with suppress(Exception):  # most raw files are TIFF inside
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

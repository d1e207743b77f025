"""Bytes to upright sRGB: the one decoder, on the same terms for a corpus and for a query."""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from io import BytesIO
from itertools import product
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from twinlens.search.errors import ImageError
from twinlens.search.images.exif import read_exif
from twinlens.search.images.sniff import check_scans, is_raw_tiff, jxl_size

if TYPE_CHECKING:  # PIL costs 40 ms to import: only decoding pays for it
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform
    from PIL.ImageFile import ImageFile

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Picture", "decode", "is_image_name", "sniff",
           "supported_extensions"]  # fmt: skip

MAX_PIXELS = 200_000_000  # Pillow keeps 4 bytes a pixel: 0.8 GB at the cap
MAX_BYTES = 1 << 29
MAX_PROFILE_BYTES = 4 << 20  # the largest press profiles are near 3 MB


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image: what an encoder needs, and what is worth storing about it."""

    image: Image
    """Mode RGB, upright, sRGB; smaller than the original where `target` allowed it."""
    width: int
    height: int
    """Of the whole upright picture, in pixels."""
    format: str
    """As Pillow names it: JPEG, PNG, HEIF …; RAW for a camera's raw file."""
    exif: Mapping[str, str | float | int] = field(default_factory=dict)
    """Those present of: taken (ISO 8601, local time), year, camera, latitude and longitude
    (decimal degrees, WGS 84)."""


def decode(data: bytes, *, target: int | None = None, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the first frame of `data` to upright sRGB, transparency laid on white.

    `target` is the side, in pixels, that a model will look at. The picture may then come back
    scaled down, with its shorter side never below twice that (or its own, if less): a JPEG is
    decoded at a fraction of its size, which is several times as fast. Nothing is ever scaled up.

    Raises ImageError, with a one-line reason, for anything that is not a whole, readable image of
    at most `max_pixels`; the size is read from the header before any pixel is decoded.
    """
    if not data:
        raise ImageError("empty file")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{len(data):,} bytes is over the cap of {MAX_BYTES:,}")
    name = sniff(data)
    if name is None:
        page = data[:64].lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"<")
        what = "a web page or XML, not" if page else "not"
        raise ImageError(f"{what} an image in a format that can be read here")
    try:
        with _without_warnings():
            if name == "RAW" or (name == "TIFF" and is_raw_tiff(data)):
                return _decode_raw(data, target, max_pixels)
            return _decode(name, data, target, max_pixels)
    except ImageError:
        raise
    except Exception as error:  # hostile bytes make Pillow raise nearly anything
        raise ImageError(_reason(name, error)) from error


def is_image_name(name: str) -> bool:
    """Whether `name` ends like a format that this installation can decode."""
    return PurePath(name).suffix.lower() in supported_extensions()


@cache
def supported_extensions() -> frozenset[str]:
    """Lower-case extensions, dot included, of the formats that this installation can decode."""
    return frozenset(
        extension
        for kind in _FORMATS.values()
        if importlib.util.find_spec(kind.module.partition(".")[0])
        for extension in kind.extensions.split()
    )


class _Format(NamedTuple):
    module: str
    opener: str
    extensions: str


# What is safe and worth reading. Left out on purpose: formats that run a program (EPS), that have
# no signature (TGA), or that Pillow decodes in pure Python (QOI, PPM written as text).
_FORMATS = {
    "JPEG": _Format("PIL.JpegImagePlugin", "JpegImageFile", ".jpg .jpeg .jpe .jfif .mpo"),
    "PNG": _Format("PIL.PngImagePlugin", "PngImageFile", ".png .apng"),
    "WEBP": _Format("PIL.WebPImagePlugin", "WebPImageFile", ".webp"),
    "GIF": _Format("PIL.GifImagePlugin", "GifImageFile", ".gif"),
    "BMP": _Format("PIL.BmpImagePlugin", "BmpImageFile", ".bmp .dib"),
    "TIFF": _Format("PIL.TiffImagePlugin", "TiffImageFile", ".tif .tiff"),
    "PPM": _Format("PIL.PpmImagePlugin", "PpmImageFile", ".ppm .pgm .pbm .pnm .pfm"),
    "JPEG2000": _Format("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile", ".jp2 .j2k .j2c .jpf .jpx"),
    "AVIF": _Format("PIL.AvifImagePlugin", "AvifImageFile", ".avif .avifs"),
    "HEIF": _Format("pillow_heif", "HeifImageFile", ".heic .heif .heics .heifs .hif"),
    "JXL": _Format("pillow_jxl.JpegXLImagePlugin", "JXLImageFile", ".jxl"),
    "RAW": _Format(
        "rawpy", "imread", ".dng .cr2 .cr3 .nef .nrw .arw .orf .rw2 .raf .pef .srw .mrw .x3f"
    ),
}

_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"BM"), "BMP"),
    # Before TIFF: these raw files begin as one.
    (re.compile(rb"II\*\0.{4}CR|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|\0MRM|FOVb", re.DOTALL), "RAW"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"P[4-6f]\s"), "PPM"),
    (re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"), "JPEG2000"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), "JXL"),
)


def sniff(data: bytes) -> str | None:
    """The format that encoded bytes begin like, as Pillow names it; None for none read here."""
    if data[4:8] == b"ftyp":
        # HEIF and AVIF share a container, and often a major brand (mif1): the others decide.
        length = min(int.from_bytes(data[:4], "big"), 256)
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, length, 4))]
        for brand in brands:
            if brand in (b"avif", b"avis"):
                return "AVIF"
            if brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"):
                return "HEIF"
            if brand == b"crx ":
                return "RAW"
        return "HEIF" if {b"mif1", b"msf1"}.intersection(brands) else None
    return next((name for signature, name in _SIGNATURES if signature.match(data)), None)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(_FORMATS[name].module)
    except ImportError as error:
        what = "a camera's raw file" if name == "RAW" else name
        extra = {"RAW": "raw", "JXL": "jxl"}.get(name, "formats")
        message = f"{what} needs a decoder that is not installed: pip install 'twinlens[{extra}]'"
        raise ImageError(message) from error


def _decode(name: str, data: bytes, target: int | None, max_pixels: int) -> Picture:
    if name == "JXL":  # its plug-in decodes everything on opening
        _check_size(jxl_size(data), max_pixels)
    # The class itself, not Image.open: that has a cap of its own, one for the whole process.
    image: ImageFile = getattr(_module(name), _FORMATS[name].opener)(BytesIO(data))
    _check_size(image.size, max_pixels)
    size = image.size
    if name == "JPEG":
        check_scans(data, size, max_pixels)
        if target:
            image.draft(None, (2 * target, 2 * target))
    image.load()
    if name != "JPEG":
        size = image.size  # TIFF turns itself, HEIF may crop
    exif, orientation = None, 1
    with suppress(Exception):  # garbage beside the pixels does not make them unreadable
        exif = image.getexif()
        orientation = exif.get(0x0112, 1)
    if name == "JXL" and not getattr(image, "jpeg", False):
        orientation = 1  # the codestream's own orientation rules, and has been applied
    upright = _to_rgb(image, 2 * target if target else None)
    if orientation in _TURNS:
        upright = upright.transpose(cast(Any, _TURNS[orientation]))
        size = size if orientation < 5 else size[::-1]
    return Picture(upright, *size, name, read_exif(exif) if exif else {})


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{width}x{height}: no pixels")
    if width * height > max_pixels:
        raise ImageError(f"{width}x{height} pixels is over the cap of {max_pixels:,}")


# EXIF orientation to Pillow's Transpose: how to turn the stored picture upright.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _to_rgb(image: Image, shorter: int | None) -> Image:
    """Convert any of Pillow's modes to sRGB on white, at least `shorter` on the shorter side."""
    import PIL.Image

    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    elif image.mode in ("PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    factor = min(image.size) // shorter if shorter else 1
    if factor > 1:  # not Image.reduce: where the sides do not divide, it stretches the picture
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
    """Scale wide samples to 0-255. Pillow's own conversion clips them instead.

    16-bit integers span their type. Where the type does not tell (32-bit, float) the range is the
    first that holds every sample of: 0 to 1 (float), 255, 65535; failing that, the samples' own.
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
    """Build the way from `profile` to sRGB; None where there is none, or nothing would change."""
    import PIL.Image
    from PIL import ImageChops, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}.get(mode)
        if source.profile.xcolor_space.strip() != space:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        # A name says little (there are dozens of sRGBs): a few colours through it say all.
        levels = range(0, 256, 51)
        samples = bytes(value for colour in product(levels, repeat=len(space)) for value in colour)
        probe = PIL.Image.frombytes(mode, (len(samples) // len(mode), 1), samples)
        change = ImageChops.difference(transform.apply(probe), probe.convert("RGB"))
    except Exception:  # noqa: BLE001 (a profile can be broken in any way; the picture is not)
        return None
    return transform if max(change.tobytes()) > 2 else None


def _decode_raw(data: bytes, target: int | None, max_pixels: int) -> Picture:
    """Take the preview that the camera embedded, if it is large enough, or develop the picture."""
    import PIL.Image

    rawpy = _module("RAW")
    with rawpy.imread(BytesIO(data)) as raw:
        size = (raw.sizes.iwidth, raw.sizes.iheight)
        if raw.sizes.flip in (5, 6):  # a quarter turn
            size = size[::-1]
        _check_size(size, max_pixels)
        # Previews are often a few pixels short of the whole.
        enough = min(2 * target, *size) if target else min(size) * 9 // 10
        with suppress(rawpy.LibRawError, ImageError):
            preview = raw.extract_thumb()
            if preview.format == rawpy.ThumbFormat.JPEG:  # LibRaw adds the EXIF if there is none
                picture = _decode("JPEG", preview.data, target, max_pixels)
                if min(picture.image.size) >= enough:
                    return Picture(picture.image, *size, "RAW", picture.exif)
        half = target is not None and 4 * target <= min(size)
        pixels = raw.postprocess(use_camera_wb=True, half_size=half, output_bps=8)
    image = _to_rgb(PIL.Image.fromarray(pixels), 2 * target if target else None)
    exif = PIL.Image.Exif()
    with suppress(Exception):  # most raw files are TIFF inside
        exif.load(data)
    return Picture(image, *size, "RAW", read_exif(exif))


class _Silence(threading.local):
    """Matches the warnings of a thread that is decoding, and of no other."""

    on = False

    def match(self, _text: str) -> bool:
        return self.on


_silence = _Silence()
_FILTER: Any = ("ignore", None, Warning, _silence, 0)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore, in this thread, what Pillow warns of: it either raises as well or does not matter.

    `warnings.catch_warnings` swaps the filters of the whole process, which threads that decode
    side by side cannot do. A filter whose pattern looks at the thread needs to be put in place
    once, and again where somebody has reset or preceded it.
    """
    filters = cast(list[Any], warnings.filters)
    if not filters or filters[0] is not _FILTER:
        with suppress(ValueError):
            filters.remove(_FILTER)
        filters.insert(0, _FILTER)
    before, _silence.on = _silence.on, True
    try:
        yield
    finally:
        _silence.on = before


def _reason(name: str, error: Exception) -> str:
    """Put an exception of a decoder into one clean line."""
    detail = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory to decode this {name}"
    if type(error).__name__ == "DecompressionBombError":  # a frame or tile within the picture
        return f"{name} with more pixels inside than its header says, or than Pillow allows"
    if isinstance(error, EOFError) or "truncated" in detail.lower():
        return f"truncated {name}"
    spoken = isinstance(error, OSError | SyntaxError | ValueError) and " " in detail
    return f"damaged {name}: {detail}" if spoken and len(detail) < 100 else f"damaged {name}"

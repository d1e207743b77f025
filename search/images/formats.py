"""Recognise image formats by file name or first bytes, and import their decoders."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from functools import cache
from io import BytesIO
from pathlib import PurePath
from types import ModuleType
from typing import NamedTuple

from twinlens.search.errors import ImageError


class _Format(NamedTuple):
    module: str
    opener: str
    extensions: str


# The formats that are safe to decode. Left out on purpose: formats that run a program (EPS), that
# have no signature (TGA), or that Pillow decodes in pure Python (QOI, PPM written as text).
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
    # Before TIFF, because some raw files begin like one.
    (re.compile(rb"II\*\0.{4}CR|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|\0MRM|FOVb", re.DOTALL), "RAW"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"P[4-6f]\s"), "PPM"),
    (re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"), "JPEG2000"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), "JXL"),
)


def is_image_name(name: str) -> bool:
    """Whether a file name has the extension of a format that can be decoded here."""
    return os.path.splitext(name)[1].lower() in supported_extensions()


@cache
def supported_extensions() -> frozenset[str]:
    """Extensions of the formats that can be decoded here: lower case, with the dot."""
    return frozenset(
        extension
        for kind in _FORMATS.values()
        if importlib.util.find_spec(kind.module.partition(".")[0])
        for extension in kind.extensions.split()
    )


def needed_extra(name: str) -> str:
    """The extra of twinlens that decodes files of this name; "" if none is missing."""
    suffix = PurePath(name).suffix.lower()
    if suffix in supported_extensions():
        return ""
    kinds = (kind for kind, known in _FORMATS.items() if suffix in known.extensions.split())
    return next((_extra_of(kind) for kind in kinds), "")


def _extra_of(kind: str) -> str:
    return {"RAW": "raw", "JXL": "jxl"}.get(kind, "formats")


def sniff(data: bytes) -> str | None:
    """Recognise a format by its first bytes: Pillow's name for it, None if it cannot be decoded."""
    if data[4:8] == b"ftyp":
        # HEIF and AVIF share a container, and often a major brand (mif1): minor brands decide.
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


def import_decoder(name: str) -> tuple[ModuleType, str]:
    """Import the module that decodes a format; returns it and the name of its class or function.

    Raises:
        ImageError: it is not installed; the message names the extra.
    """
    kind = _FORMATS[name]
    try:
        return importlib.import_module(kind.module), kind.opener
    except ImportError as error:
        what = "a camera raw file" if name == "RAW" else name
        install = f"pip install 'twinlens[{_extra_of(name)}]'"
        message = f"{what} needs a decoder that is not installed: {install}"
        raise ImageError(message) from error


def is_raw_tiff(data: bytes) -> bool:
    """Whether a TIFF is a camera raw file, whose first image is a thumbnail."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if data[2:4] not in (b"*\0", b"\0*"):
        return False
    directory = ImageFileDirectory_v2(data[:8])
    stream = BytesIO(data)
    stream.seek(directory.next or 8)
    directory.load(stream)
    dng_version, subfile_type, subfiles = 50706, 254, 330
    return dng_version in directory or (directory.get(subfile_type) == 1 and subfiles in directory)

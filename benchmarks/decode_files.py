"""Write picture files of any size in the formats that are decoded, for measurements and tests."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms


def gradient(mode: str, side: int) -> Image.Image:
    """A smooth picture of ``side`` x ``side`` pixels in one of Pillow's modes."""
    grey = Image.linear_gradient("L").resize((side, side))
    if mode == "I;16":
        return Image.fromarray(np.asarray(grey, np.uint16) * 257)
    if mode == "LA":
        return Image.merge("LA", (grey, grey))
    if mode == "RGBA":
        return Image.merge("RGBA", (grey, grey, grey, grey))
    return grey if mode == "L" else grey.convert(mode)


def saved(kind: str, mode: str, side: int, **options: Any) -> bytes:
    """The gradient as Pillow writes it."""
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif kind == "JXL":
        import pillow_jxl  # noqa: F401
    buffer = BytesIO()
    gradient(mode, side).save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str, mode: str, side: int, **options: Any) -> bytes:
    """Two frames, of which the second differs everywhere."""
    first = gradient(mode, side)
    second = first.transpose(Image.Transpose.ROTATE_90)
    buffer = BytesIO()
    first.save(buffer, kind, save_all=True, append_images=[second], **options)
    return buffer.getvalue()


def png(side: int, depth: int, colour: int, channels: int, interlaced: bool = False) -> bytes:
    """A PNG that Pillow does not write: of 16 bits a channel, or interlaced (Adam7)."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2)) if interlaced else ((0, 0, 1, 1),)  # fmt: skip
    packer = zlib.compressobj(1)
    data = bytearray()
    row = np.arange(side) * (2**depth - 1) // max(side - 1, 1)
    row = row.astype(">u2" if depth == 16 else np.uint8)
    for x, y, across, down in passes:
        line = b"\0" + np.repeat(row[x::across], channels).tobytes()
        if len(line) > 1:
            for _ in range(y, side, down):
                data += packer.compress(line)
    data += packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, int(interlaced))
    chunks = ((b"IHDR", header), (b"IDAT", bytes(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff(side: int, channels: int, dtype: str, **options: Any) -> bytes:
    """A TIFF that Pillow does not write: tiled, or of 16 bits a channel."""
    import tifffile

    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    row = (np.linspace(0, 1, side) * top).astype(dtype)
    pixels = np.broadcast_to(row[None, :, None], (side, side, channels))
    buffer = BytesIO()
    kind = {1: "minisblack", 3: "rgb", 4: options.pop("photometric", "rgb")}[channels]
    squeezed = np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels)
    extra = ["unassalpha"] if kind == "rgb" and channels == 4 else None
    tifffile.imwrite(buffer, squeezed, photometric=kind, extrasamples=extra, **options)
    return buffer.getvalue()


def ppm(side: int, top: int) -> bytes:
    """A PPM whose largest value is not 255."""
    return b"P6\n%d %d\n%d\n" % (side, side, top) + bytes(3 * side * side)


def bmp(side: int) -> bytes:
    """A BMP in run-length encoding."""
    row = b""
    for start in range(0, side, 255):
        row += bytes((min(255, side - start), 7))
    body = (row + b"\0\0") * side + b"\0\1"
    start = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    palette = b"".join(bytes((i, i, i, 0)) for i in range(256))
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def raw(side: int) -> bytes:
    """A camera raw file (DNG) with a small preview."""
    import tifffile

    pixels = np.full((side, side), 400, np.uint16)
    pixels[::2, ::2] = 12_000
    identity = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    about = [(50706, 1, 4, bytes((1, 4, 0, 0)), True), (50708, 2, 0, "Test", True),
             (50721, 10, 9, identity, True), (50778, 3, 1, 21, True)]  # fmt: skip
    sensor = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes((0, 1, 1, 2)), True)]
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as file:
        thumbnail = np.zeros((48, 64, 3), np.uint8)
        file.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, extratags=about)
        file.write(pixels, photometric=32803, subfiletype=0, extratags=sensor)
    return stream.getvalue()


def swapped_profile() -> bytes:
    """An sRGB profile whose red and blue primaries are exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = data.index(b"rXYZ"), data.index(b"bXYZ")
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


#: Name → writes a square picture of that side.
FILES: dict[str, Callable[[int], bytes]] = {
    "PNG grey": partial(saved, "PNG", "L", compress_level=1),
    "PNG grey 16 bit": partial(png, depth=16, colour=0, channels=1),
    "PNG RGB": partial(saved, "PNG", "RGB", compress_level=1),
    "PNG RGB 16 bit": partial(png, depth=16, colour=2, channels=3),
    "PNG RGB with a profile": partial(
        saved, "PNG", "RGB", compress_level=1, icc_profile=swapped_profile()
    ),
    "PNG RGBA": partial(saved, "PNG", "RGBA", compress_level=1),
    "PNG RGBA 16 bit": partial(png, depth=16, colour=6, channels=4),
    "PNG grey and alpha": partial(saved, "PNG", "LA", compress_level=1),
    "PNG palette": partial(saved, "PNG", "P", compress_level=1),
    "PNG palette, transparent": partial(saved, "PNG", "P", compress_level=1, transparency=0),
    "PNG bilevel": partial(saved, "PNG", "1", compress_level=1),
    "PNG interlaced": partial(png, depth=8, colour=2, channels=3, interlaced=True),
    "JPEG": partial(saved, "JPEG", "RGB"),
    "JPEG 4:4:4": partial(saved, "JPEG", "RGB", subsampling=0),
    "JPEG grey": partial(saved, "JPEG", "L"),
    "JPEG progressive": partial(saved, "JPEG", "RGB", progressive=True),
    "JPEG CMYK": partial(saved, "JPEG", "CMYK"),
    "JPEG CMYK progressive": partial(saved, "JPEG", "CMYK", progressive=True),
    "TIFF RGB": partial(saved, "TIFF", "RGB"),
    "TIFF LZW strips": partial(saved, "TIFF", "RGB", compression="tiff_lzw"),
    "TIFF tiles": partial(tiff, channels=3, dtype="uint8", tile=(256, 256), compression="zlib"),
    "TIFF one strip": partial(
        tiff, channels=3, dtype="uint8", rowsperstrip=1 << 24, compression="zlib"
    ),
    "TIFF RGBA 16 bit, one strip": partial(
        tiff, channels=4, dtype="uint16", rowsperstrip=1 << 24, compression="zlib"
    ),
    "TIFF RGB 16 bit": partial(tiff, channels=3, dtype="uint16", rowsperstrip=16),
    "TIFF grey 16 bit": partial(tiff, channels=1, dtype="uint16", rowsperstrip=16),
    "TIFF float": partial(tiff, channels=1, dtype="float32", rowsperstrip=16),
    "TIFF CMYK": partial(saved, "TIFF", "CMYK", compression="tiff_lzw"),
    "WEBP": partial(saved, "WEBP", "RGB", method=0),
    "WEBP lossless": partial(saved, "WEBP", "RGB", lossless=True, quality=0, method=0),
    "WEBP alpha": partial(saved, "WEBP", "RGBA", method=0),
    "WEBP animated": partial(animated, "WEBP", "RGB", method=0),
    "AVIF": partial(saved, "AVIF", "RGB", speed=10),
    "AVIF 4:4:4": partial(saved, "AVIF", "RGB", speed=10, subsampling="4:4:4"),
    "AVIF alpha": partial(saved, "AVIF", "RGBA", speed=10),
    "HEIF": partial(saved, "HEIF", "RGB", tile_size=512),
    "HEIF 4:4:4": partial(saved, "HEIF", "RGB", tile_size=512, chroma=444),
    "HEIF alpha": partial(saved, "HEIF", "RGBA"),
    "HEIF 10 bit": partial(saved, "HEIF", "I;16", tile_size=512),
    "GIF": partial(saved, "GIF", "P"),
    "GIF animated": partial(animated, "GIF", "P"),
    "JPEG2000": partial(saved, "JPEG2000", "RGB", irreversible=True),
    "JPEG2000 RGBA": partial(saved, "JPEG2000", "RGBA"),
    "JPEG2000 tiles": partial(saved, "JPEG2000", "RGB", tile_size=(512, 512)),
    "JPEG2000 grey 16 bit": partial(saved, "JPEG2000", "I;16"),
    "BMP": partial(saved, "BMP", "RGB"),
    "BMP run lengths": bmp,
    "PPM": partial(saved, "PPM", "RGB"),
    "PPM grey 16 bit": partial(saved, "PPM", "I;16"),
    "PPM float": partial(saved, "PPM", "F"),
    "PPM of 100 levels": partial(ppm, top=100),
    "JXL": partial(saved, "JXL", "RGB", effort=1),
    "JXL alpha": partial(saved, "JXL", "RGBA", effort=1),
    "RAW": raw,
}

"""Hostile files are refused, or decoded within bounds: never a crash, a hang, or all the memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from twinlens.search.errors import ImageError
from twinlens.search.images import bounded, cost, headers
from twinlens.search.images.decode import decode
from twinlens.search.images.headers import (
    Jpeg2000Header,
    jpeg2000_header,
    jpeg_coefficients,
    webp_size,
)


def saved(kind: str, side: int = 16, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(16 * 49)))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND")


def apng(frames: int) -> bytes:
    control = struct.pack(">IIIIIHHBB", 0, 16, 16, 0, 0, 1, 1, 0, 0)
    start = chunk(b"acTL", struct.pack(">II", frames, 0)) + chunk(b"fcTL", control)
    return png(start, (chunk(b"fcTL", control) + chunk(b"fdAT", b"1234")) * frames)


def gif(before: bytes = b"", frames: int = 1) -> bytes:
    one = saved("GIF", mode="P")
    start = 13 + (3 * (2 << (one[10] & 7)) if one[10] & 0x80 else 0)
    return one[:start] + before + one[start:-1] * frames + b";"


def jpeg(inside: bytes) -> bytes:
    one = saved("JPEG")
    return one[:2] + inside + one[2:]


BASE = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 16), (279, 4, 1, 256)]  # fmt: skip


def directory(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    packed = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<L", following)


def tiff(*more: tuple[int, int, int, int], following: int = 0, rest: bytes = bytes(300)) -> bytes:
    tags = {entry[0]: entry for entry in (*BASE, *more)}
    entries = [tags[tag] for tag in sorted(tags)]
    return b"II*\0" + struct.pack("<L", 8) + directory(entries, following) + rest


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp(flags: int, side: int = 16) -> bytes:
    return b"VP8X" + struct.pack("<IB3x", 10, flags) + (side - 1).to_bytes(3, "little") * 2


def webp_frames(count: int, side: int = 16) -> bytes:
    pixels = saved("WEBP")[12:]
    frame = bytes(6) + (15).to_bytes(3, "little") * 2 + bytes(4) + pixels
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    frames = (b"ANMF" + struct.pack("<I", len(frame)) + frame) * count
    return riff(webp(2, side), animation, frames)


EXIF_SEGMENT = b"\xff\xe1\xff\xffExif\0\0" + bytes(65_533 - 6)
ZEROS = zlib.compress(bytes(3_000_000), 9)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: png(chunk(b"zTXt", b"a\0\0" + ZEROS)), "too large"),
        (lambda: png(chunk(b"iCCP", b"a\0\0" + ZEROS)), "too large"),
        (lambda: png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + ZEROS)), "too large"),
        (lambda: png(chunk(b"teSt") * 2_000), "1,000 parts in its header"),
        (lambda: png(b"", chunk(b"teSt") * 2_000), "1,000 parts in its header"),
        (lambda: png(b"", chunk(b"IDAT") * 2_000), "1,000 parts in its header"),
        (lambda: gif(b"!\xfe" + b"\1a" * 2_000 + b"\0"), "1,000 parts in its header"),
        (lambda: gif(b"!\xfe\0" * 2_000), "1,000 parts in its header"),
        (lambda: jpeg(b"\xff" * 5_000_000), "1,000 bytes between segments"),
        (lambda: jpeg(b"\xff\xe5\0\2" * 2_000_000), "1,000 segments"),
        (lambda: jpeg(EXIF_SEGMENT * 80), "more than 4 MB of EXIF"),
        (lambda: b"P6\n#" + b"a" * 2_000 + b"\n1 1 255\n123", "1,000 parts in its header"),
        (lambda: tiff((258, 3, 2_000, 8), rest=bytes(5_000)), "1,000 numbers in its tags"),
        (lambda: tiff((0x8769, 4, 1, 0)) + bytes(300), None),
        (lambda: tiff((322, 4, 1, 1 << 30), (323, 4, 1, 1 << 30), (259, 3, 1, 5)), "over the lim"),
        (lambda: b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", 1 << 40)
         + struct.pack("<HHQQ", 60_000, 3, 1, 1) * 2_000, "1,000 numbers in its tags"),
        (lambda: tiff((60_000, 3, 1 << 30, 8)), None),  # more than the file has: not read
        (lambda: tiff(following=8), None),
        (lambda: tiff((0x8769, 4, 1, 8)), None),
        (lambda: tiff(following=1 << 31), None),
        (lambda: tiff(*((1_000 + i, 7, 4_000, 8) for i in range(100)), rest=bytes(5_000)), None),
        (lambda: apng(500), None),
        (lambda: gif(frames=5_000), None),
        (lambda: webp_frames(5_000), None),
        (lambda: webp_frames(1, side=16_000), "over the limit"),
        (lambda: riff(webp(0), saved("WEBP")[12:], b"abcd\0\0\0\0" * 5_000), None),
        (lambda: riff(webp(8), saved("WEBP")[12:], b"EXIF", struct.pack("<I", 5 << 20),
                      bytes(5 << 20)), None),
        (lambda: riff(webp(0)), "WEBP"),
    ],
)  # fmt: skip
def test_bombs(
    make: Callable[[], bytes], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MAX_READS", 1_000)
    monkeypatch.setattr(bounded, "MAX_NUMBERS", 1_000)
    monkeypatch.setattr(headers, "MAX_SEGMENTS", 1_000)
    monkeypatch.setattr(headers, "MAX_JUNK", 1_000)
    if reason is None:
        assert decode(make()).image.size == (16, 16)
    else:
        with pytest.raises(ImageError, match=reason) as caught:
            decode(make())
        assert "\n" not in str(caught.value)


def test_a_webp_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import WebPImagePlugin

    data = webp_frames(1, side=12_000)  # opening it allocates 8 bytes a pixel
    monkeypatch.setattr(WebPImagePlugin, "WebPImageFile", lambda _: pytest.fail("was opened"))
    with pytest.raises(ImageError, match=r"as WEBP take 2,592 MB .* over the limit of 1,800 MB"):
        decode(data)


def test_numbers_in_the_exif_of_a_tiff_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_NUMBERS", 1_000)
    start = 8 + 2 + 12 * (len(BASE) + 1) + 4
    exif = directory([(40_000 + i, 5, 300, 8) for i in range(4)])
    for pointer in (0x8769, 0x8825, 0xA005):
        with pytest.raises(ImageError, match="1,000 numbers"):
            decode(tiff((pointer, 4, 1, start), rest=exif + bytes(5_000)))


def test_exif_that_takes_too_much_memory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = [(0x0110, 2, 4, int.from_bytes(b"D70\0", "little"))]
    numbers = [(40_000, 5, 200, 8)]
    for entries, expected in ((camera, {"camera": "D70"}), (camera + numbers, {})):
        exif = b"II*\0" + struct.pack("<L", 8) + directory(entries) + bytes(2_000)
        monkeypatch.setattr(bounded, "MAX_NUMBERS", 100)
        assert decode(png(chunk(b"eXIf", exif))).exif == expected
    exif = b"II*\0" + struct.pack("<L", 8) + directory(camera)
    monkeypatch.setattr(bounded, "MAX_EXIF_BYTES", len(exif) - 1)
    assert decode(png(chunk(b"eXIf", exif))).exif == {}


def test_an_avif_with_much_metadata_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved("AVIF", 64)
    assert decode(data).width == 64
    monkeypatch.setattr(cost, "MAX_AVIF_BYTES", len(data) - 1)
    with pytest.raises(ImageError, match="an AVIF of more than"):
        decode(data)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_container_that_claims_more_pixels_than_it_has(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = saved(kind, 64)
    at = data.index(b"ispe") + 8
    for side in (11_000, 1 << 30):
        with pytest.raises(ImageError, match=f"{kind}|over the limit") as caught:
            decode(data[:at] + struct.pack(">II", side, side) + data[at + 8 :])
        assert "\n" not in str(caught.value)


def test_a_heif_of_more_than_eight_bits_has_a_lower_limit() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    assert decode(saved("HEIF", 64), max_pixels=64 * 64).width == 64
    buffer = io.BytesIO()
    heif.from_bytes("RGB;16", (64, 64), bytes(64 * 64 * 6)).save(buffer)
    assert decode(buffer.getvalue(), max_pixels=64 * 128).width == 64
    with pytest.raises(ImageError, match=r"64x64 pixels as HEIF take .* over the limit"):
        decode(buffer.getvalue(), max_pixels=64 * 64)


def test_a_heif_of_more_tiles_than_it_has() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = bytearray(saved("HEIF", 640, tile_size=64))
    grid = data.index(b"\0\0\x09\x09\x02\x80\x02\x80")
    data[grid + 2 : grid + 8] = b"\xff" * 6
    with pytest.raises(ImageError, match="damaged HEIF"):
        decode(bytes(data))


def test_a_jpeg_2000_that_claims_more_than_it_has() -> None:
    data = saved("JPEG2000")
    start = data.index(b"\xff\x4f\xff\x51")
    stream = bytearray(data[start:])
    stream[8:16] = struct.pack(">II", 14_000, 14_000)
    with pytest.raises(ImageError, match="JPEG2000"):
        decode(bytes(stream))  # 900,000 tiles
    stream[24:32] = struct.pack(">II", 14_000, 14_000)
    with pytest.raises(ImageError, match=r"14000x14000 pixels as JPEG2000 take .* over the limit"):
        decode(bytes(stream))
    for damaged in (data[: start + 6], data[:20], bytes(stream[:45])):
        with pytest.raises(ImageError):
            decode(damaged)


def test_a_bmp_in_run_length_encoding_has_a_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MAX_SLOW_PIXELS", 99)
    pixels = struct.pack("<IiiHHIIiiII", 40, 10, 10, 1, 8, 1, 24, 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", 1_100, 0, 0, 1_078) + pixels + bytes(1_024)
    with pytest.raises(ImageError, match="10x10 pixels is over the limit of 99 for a BMP in run"):
        decode(data + b"\x0a\1\0\0" * 10 + b"\0\1")


# Headers


@pytest.mark.parametrize(
    ("options", "per_pixel"),
    [
        ({}, 0),
        ({"progressive": True}, 3),
        ({"progressive": True, "subsampling": 0}, 6),
        ({"progressive": True, "subsampling": "4:2:2"}, 4),
    ],
)
def test_coefficients_of_a_progressive_jpeg(options: dict[str, object], per_pixel: float) -> None:
    assert jpeg_coefficients(saved("JPEG", **options)) == per_pixel


def test_coefficients_of_a_jpeg_in_several_scans() -> None:
    data = bytearray(saved("JPEG"))
    scan = data.index(b"\xff\xda")
    data[scan + 4] = 1  # the components of the first scan
    assert jpeg_coefficients(bytes(data)) == 3
    assert jpeg_coefficients(saved("JPEG", mode="CMYK", progressive=True)) == 8
    assert jpeg_coefficients(b"\xff\xd8\xff\xc2") == 0


def test_a_progressive_jpeg_is_estimated_by_its_coefficients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cost, "SMALL_JPEG", 0)
    data = saved("JPEG", 100, "CMYK", progressive=True)
    with pytest.raises(ImageError, match="as JPEG take 0 MB of memory to decode, over the limit"):
        decode(data, max_pixels=10_000)  # 8 bytes a pixel, and 4 of the image
    assert decode(data, max_pixels=10_000, target=12).width == 100


def test_header_of_jpeg_2000() -> None:
    size = (300, 300)
    for mode, components in (("RGB", 3), ("RGBA", 4), ("L", 1)):
        header = jpeg2000_header(saved("JPEG2000", 300, mode, num_resolutions=4), size)
        assert header == Jpeg2000Header(components, 90_000, 3)
    tiles = saved("JPEG2000", 300, tile_size=(128, 64))
    assert jpeg2000_header(tiles, size).tile_pixels == 128 * 64
    raw = saved("JPEG2000", 300, no_jp2=True)
    assert jpeg2000_header(raw, size) == Jpeg2000Header(3, 90_000, 5)


def test_large_jpeg_2000_is_decoded_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    from twinlens.search.images import decode as module

    data = saved("JPEG2000", 400, num_resolutions=3)
    assert decode(data, target=20).image.size == (40, 40)
    monkeypatch.setattr(module, "WHOLE", 100)
    noted: list[int] = []
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

    load = Jpeg2KImageFile.load

    def loaded(image: Jpeg2KImageFile) -> object:
        noted.append(image._reduce)
        return load(image)

    monkeypatch.setattr(Jpeg2KImageFile, "load", loaded)
    for target, halvings in ((20, 2), (99, 1), (101, 0), (None, 0)):
        noted.clear()
        decoded = decode(data, target=target)
        assert noted[0] == halvings
        assert (decoded.width, decoded.height) == (400, 400)
        assert min(decoded.image.size) >= (2 * target if target else 400)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0"}])
def test_size_of_webp(options: dict[str, object]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 17)).save(buffer, "WEBP", **options)
    assert webp_size(buffer.getvalue()) == (300, 17)


def test_size_of_webp_with_transparency() -> None:
    assert webp_size(saved("WEBP", 33, "RGBA")) == (33, 33)
    with pytest.raises(ImageError, match="no image"):
        webp_size(b"RIFF\0\0\0\0WEBPVP8 ")

"""Decode to upright sRGB on white, or raise one line that says why not."""

import importlib.util
import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageDraw
from PIL.TiffImagePlugin import IFDRational

from twinlens.search.errors import ImageError
from twinlens.search.images import colour
from twinlens.search.images import decode as images
from twinlens.search.images.decode import decode
from twinlens.search.images.formats import is_image_name, supported_extensions

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """Red above green, with blue at the bottom left: every rotation and flip changes it."""
    image = Image.new("RGB", (width, height), GREEN)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, height // 2 - 1), RED)
    draw.rectangle((0, height // 2, width // 2 - 1, height), BLUE)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def corners(image: Image.Image) -> list[str]:
    """Name the main colour of each corner: top left, top right, bottom left, bottom right."""
    right, bottom = image.width - 1, image.height - 1
    points = ((0, 0), (right, 0), (0, bottom), (right, bottom))
    return ["RGB"[int(np.argmax(image.getpixel(point)))] for point in points]


def assert_colour(image: Image.Image, expected: tuple[int, ...], within: int = 3) -> None:
    assert image.mode == "RGB"
    actual = image.getpixel((image.width // 2, image.height // 2))
    assert np.abs(np.subtract(actual, expected)).max() <= within, f"{actual}, not {expected}"


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


# Formats


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_formats(kind: str) -> None:
    picture = decode(encoded(scene(), kind))
    assert (picture.format, picture.width, picture.height) == (kind, 60, 40)
    assert picture.image.mode == "RGB"
    assert corners(picture.image) == ["R", "R", "B", "G"]
    assert picture.exif == {}


def test_avif() -> None:
    picture = decode(encoded(scene(), "AVIF"))
    assert (picture.format, corners(picture.image)) == ("AVIF", ["R", "R", "B", "G"])


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    stored_as = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = scene()
    if orientation in stored_as:
        image = image.transpose(stored_as[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = decode(encoded(image, kind, exif=exif), target=8)
    assert (picture.width, picture.height) == (60, 40)
    assert corners(picture.image) == ["R", "R", "B", "G"]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = decode(encoded(scene(), "JPEG", exif=exif))
    assert corners(picture.image) == ["R", "R", "B", "G"]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heif_orientation_is_applied_once(orientation: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "Phone"
    stream = io.BytesIO()
    file = pillow_heif.from_pillow(scene(64, 48))
    file.save(stream, exif=exif.tobytes())
    picture = decode(stream.getvalue())
    assert picture.format == "HEIF"
    assert picture.exif["camera"] == "Phone"
    with Image.open(io.BytesIO(encoded(scene(64, 48), "JPEG", exif=exif))) as same:
        turned = decode(encoded(same, "JPEG", exif=exif)).image
    assert corners(picture.image) == corners(turned)


def test_jpeg_xl_orientation_is_applied_once_with_or_without_a_jpeg_inside(tmp_path) -> None:
    pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    native = decode(encoded(scene(), "JXL", exif=exif.tobytes()))
    assert (native.width, native.height) == (60, 40)
    scene().save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as jpeg:
        carried = decode(encoded(jpeg, "JXL", lossless_jpeg=True))
    assert (carried.format, carried.width, carried.height) == ("JXL", 40, 60)


# Colours


def test_cmyk_jpeg() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow make red
    assert_colour(decode(encoded(ink, "JPEG", quality=95)).image, RED)
    assert_colour(decode(encoded(ink, "TIFF")).image, RED)


def test_lab_tiff() -> None:
    lab = Image.new("LAB", (16, 16), (255, 128, 128))
    assert_colour(decode(encoded(lab, "TIFF")).image, WHITE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    samples = np.full((16, 16), 128 * 257, dtype=np.uint16)
    assert_colour(decode(encoded(Image.fromarray(samples), kind)).image, (128,) * 3, within=1)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([float("nan"), 0.5, 1.0], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [7, 7, 7]),
    ],
)
def test_float_samples_are_scaled_by_their_range(samples: list[float], expected: list[int]) -> None:
    row = Image.fromarray(np.array([samples], dtype=np.float32))
    image = decode(encoded(row, "TIFF")).image
    assert [image.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in expected]


def test_bilevel_and_grey() -> None:
    assert_colour(decode(encoded(Image.new("1", (9, 9), 1))).image, WHITE)
    assert_colour(decode(encoded(Image.new("L", (9, 9), 77), "JPEG")).image, (77, 77, 77))


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (9, 9), (0, 0, 0, 0)),
        Image.new("LA", (9, 9), (0, 0)),
        Image.new("RGBA", (9, 9), (0, 0, 0, 0)).convert("P"),
    ],
    ids=["RGBA", "LA", "P"],
)
def test_transparent_pixels_become_white(image: Image.Image) -> None:
    options = {"transparency": 0} if image.mode == "P" else {}
    assert_colour(decode(encoded(image, **options)).image, WHITE)


def test_half_transparent_is_mixed_with_white() -> None:
    veil = Image.new("RGBA", (600, 600), (255, 0, 0, 128))
    assert_colour(decode(encoded(veil)).image, (255, 127, 127))
    assert_colour(decode(encoded(veil), target=64).image, (255, 127, 127))


def test_a_single_transparent_colour_becomes_white() -> None:
    palette = scene().quantize(4)
    clear = palette.getpixel((0, 0))
    image = decode(encoded(palette, transparency=clear)).image
    assert image.getpixel((0, 0)) == WHITE
    assert corners(image)[2:] == ["B", "G"]
    image = decode(encoded(scene(), transparency=RED)).image
    assert image.getpixel((0, 0)) == WHITE


def chromatic_profile(swap: bool) -> bytes:
    """An sRGB profile; `swap` exchanges its red and blue primaries."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if swap:
        red, blue = data.index(b"rXYZ"), data.index(b"bXYZ")
        data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_colour_profile_is_converted_to_srgb(kind: str) -> None:
    image = Image.new("RGB", (16, 16), RED)
    options = {} if kind in ("PNG", "TIFF") else {"quality": 95}
    plain = decode(encoded(image, kind, icc_profile=chromatic_profile(False), **options))
    swapped = decode(encoded(image, kind, icc_profile=chromatic_profile(True), **options))
    assert_colour(plain.image, RED, within=6)
    assert_colour(swapped.image, BLUE, within=6)


def test_colour_profile_applies_to_transparent_images() -> None:
    image = Image.new("RGBA", (16, 16), (*RED, 128))
    picture = decode(encoded(image, icc_profile=chromatic_profile(True)))
    assert_colour(picture.image, (127, 127, 255))


def test_srgb_profile_needs_no_transform() -> None:
    assert colour.srgb_transform(chromatic_profile(False), "RGB") is None
    assert colour.srgb_transform(chromatic_profile(True), "RGB") is not None


@pytest.mark.parametrize("profile", [b"garbage", b"\0" * 3000, chromatic_profile(True)[:200]])
def test_damaged_profile_is_ignored(profile: bytes) -> None:
    assert_colour(decode(encoded(Image.new("RGB", (9, 9), RED), icc_profile=profile)).image, RED)


def test_profile_of_another_colour_mode_is_ignored() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert_colour(decode(encoded(ink, "TIFF", icc_profile=chromatic_profile(True))).image, RED)


# Frames


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_first_frame(kind: str) -> None:
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), BLUE)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert_colour(decode(data).image, RED)


# Scaled decoding


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((1600, 1200), (400, 300)),  # an eighth would leave 150
        ((400, 300), (400, 300)),
        ((199, 5000), (199, 5000)),  # the shorter side decides
        ((20, 10), (20, 10)),  # never scaled up
    ],
)
def test_target_scales_to_no_less_than_twice_its_side(
    kind: str, size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    picture = decode(encoded(scene(*size), kind), target=150 if size[0] > 1000 else 100)
    assert (picture.width, picture.height) == size
    assert picture.image.size == decoded


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_scaled_image_looks_the_same(kind: str) -> None:
    noise = Image.effect_noise((16, 12), 80).resize((2000, 1500), Image.Resampling.BICUBIC)
    data = encoded(noise.convert("RGB"), kind)
    whole, scaled = (
        np.asarray(decode(data, target=target).image.resize((64, 48), Image.Resampling.BICUBIC))
        for target in (None, 64)
    )
    assert np.abs(whole.astype(int) - scaled).mean() < 2
    assert whole.std() > 20  # so that the line above can fail


@pytest.mark.parametrize("size", [(1, 20000), (20000, 1), (1, 1)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_extreme_shapes_are_decoded(kind: str, size: tuple[int, int]) -> None:
    picture = decode(encoded(Image.new("RGB", size, RED), kind), target=224)
    assert picture.image.size == size
    assert_colour(picture.image, RED)


# EXIF


def test_exif() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "NIKON CORPORATION\0"
    exif[ExifTags.Base.Model] = " NIKON  D70 "
    exif[ExifTags.Base.DateTime] = "2024:01:01 00:00:00"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2021:06:05 04:03:02"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "S", (33.0, 51.0, 30.0)
    gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "E", (151.0, 12.5, 0.0)
    for kind in ("JPEG", "PNG", "WEBP"):
        assert decode(encoded(scene(), kind, exif=exif)).exif == {
            "taken": "2021-06-05T04:03:02",
            "year": 2021,
            "camera": "NIKON D70",
            "latitude": pytest.approx(-33.858333),
            "longitude": pytest.approx(151.208333),
        }


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("SAMSUNG", "SM-G930F", "SAMSUNG SM-G930F"),
        ("", "iPhone", "iPhone"),
        ("Acme", "\0\0", "Acme"),
        ("Söny", "α7", "Söny α7"),
    ],
)
def test_camera(make: str, model: str, camera: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = make.encode(), model.encode()
    assert decode(encoded(scene(), "JPEG", exif=exif)).exif["camera"] == camera


@pytest.mark.parametrize(
    "date", ["0000:00:00 00:00:00", "2021:06:31 10:00:00", "1066:10:14 09:00:00", "    ", "soon"]
)
def test_implausible_dates_are_left_out(date: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = date
    assert decode(encoded(scene(), "JPEG", exif=exif)).exif == {}


ORIGINAL, DIGITIZED = ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized
CHANGED = ExifTags.Base.DateTime


@pytest.mark.parametrize(
    ("dates", "taken"),
    [
        ({ORIGINAL: "2015:08:22 24:08:19"}, "2015-08-22"),
        ({ORIGINAL: "2015:08:22 10:61:00"}, "2015-08-22"),
        ({ORIGINAL: "2015:08:22"}, "2015-08-22"),
        ({ORIGINAL: "2015:08:22   :  :  "}, "2015-08-22"),
        ({ORIGINAL: "2015:08:22 10:20"}, "2015-08-22T10:20:00"),
        ({ORIGINAL: "2015-08-22T10:20:30"}, "2015-08-22T10:20:30"),
        ({ORIGINAL: "2015:08:22 24:08:19", CHANGED: "2024:03:01 10:00:00"}, "2015-08-22"),
        ({ORIGINAL: "0000:00:00 00:00:00", CHANGED: "2024:03:01 10:00:00"}, None),
        ({ORIGINAL: "0000:00:00 00:00:00", DIGITIZED: "2015:08:22 10:20:30"},
         "2015-08-22T10:20:30"),
        ({CHANGED: "2024:03:01 10:00:00"}, None),
        ({CHANGED: "2003:03:01 10:00:00", ExifTags.Base.Model: "D70"}, "2003-03-01T10:00:00"),
        ({CHANGED: "2024:03:01 10:00:00", ExifTags.Base.Model: "D70",
          ExifTags.Base.Software: "Photoshop"}, None),
    ],
)  # fmt: skip
def test_the_day_a_picture_was_taken(dates: dict[int, str], taken: str | None) -> None:
    exif = Image.Exif()
    for tag, value in dates.items():
        (exif.get_ifd(ExifTags.IFD.Exif) if tag in (ORIGINAL, DIGITIZED) else exif)[tag] = value
    found = decode(encoded(scene(), "JPEG", exif=exif)).exif
    assert found.get("taken") == taken
    assert found.get("year") == (int(taken[:4]) if taken else None)


@pytest.mark.parametrize(
    ("side", "latitude"),
    [("N", (91.0, 0.0, 0.0)), ("", (45.0, 0.0, 0.0)), ("N", (IFDRational(0, 0), 0.0, 0.0))],
)
def test_impossible_locations_are_left_out(side: str, latitude: tuple[object, ...]) -> None:
    exif = Image.Exif()
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = side, latitude
    gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "E", (9.0, 0.0, 0.0)
    assert decode(encoded(scene(), "JPEG", exif=exif)).exif == {}


CORRUPT_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x0f\0\x02\0\0\xff\xff\0\0\xff\xff"


def test_damaged_exif_does_not_prevent_decoding() -> None:
    data = encoded(scene(), "JPEG", exif=CORRUPT_EXIF)
    with pytest.warns(UserWarning, match=r"."), Image.open(io.BytesIO(data)) as image:
        image.getexif()
    picture = decode(data)  # a warning would be an error here
    assert corners(picture.image) == ["R", "R", "B", "G"]
    assert picture.exif == {}


def test_warnings_are_silenced_in_the_decoding_thread_alone() -> None:
    data = encoded(scene(), "JPEG", exif=CORRUPT_EXIF)
    inside, heard = threading.Event(), threading.Event()

    def other_thread() -> None:
        inside.wait(10)
        try:
            warnings.warn("for the application to hear", UserWarning, stacklevel=1)
        except UserWarning:
            heard.set()

    thread = threading.Thread(target=other_thread)
    thread.start()
    with images._without_warnings():
        inside.set()
        thread.join()
        warnings.warn("not heard", UserWarning, stacklevel=1)
    assert heard.is_set()
    warnings.simplefilter("error")  # before our filter: the next decoding moves it first again
    decode(data)
    with pytest.raises(UserWarning):
        warnings.warn("heard again", UserWarning, stacklevel=1)


# Rejected files


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "not an image in a format"),
        (b"<!DOCTYPE html><html>404</html>", "a web page or XML"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image in a format"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"GIF89a", "GIF"),
        (encoded(scene(), "JPEG")[:-300], "truncated JPEG"),
        (encoded(Image.effect_noise((99, 99), 50))[:-3000], "truncated PNG"),
        (b"\0\0\0\x20ftypisom\0\0\0\0isommp41" + b"\0" * 20, "not an image in a format"),
    ],
)
def test_rejected_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert "object at" not in str(caught.value)


@pytest.mark.parametrize("size", [(60000, 60000), (2**31 - 1, 2**31 - 1), (20000, 10001)])
def test_decompression_bomb_is_rejected_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]}x{size[1]} pixels is over the limit of 200,"):
        decode(png_header(*size))


def test_jpeg_with_too_many_scans_is_rejected() -> None:
    data = encoded(scene(64, 64), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data, max_pixels=64 * 64).width == 64
    with pytest.raises(ImageError, match="64x64 pixels in 110 scans is over the limit"):
        decode(data[:-2] + last * 100 + data[-2:], max_pixels=64 * 64)


def test_data_after_the_jpeg_is_ignored() -> None:
    data = encoded(scene(64, 64), "JPEG") + b"a video \xff\xda" * 100
    assert decode(data, max_pixels=64 * 64).width == 64


def test_caller_sets_the_limit_of_pixels() -> None:
    data = encoded(scene())
    assert decode(data, max_pixels=60 * 40).width == 60
    with pytest.raises(ImageError, match="60x40 pixels is over the limit of 2,399"):
        decode(data, max_pixels=60 * 40 - 1)


def test_pillows_own_limit_does_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(scene())).width == 60


def test_too_many_bytes() -> None:
    with pytest.raises(ImageError, match="101 bytes is over the limit of 100"):
        decode(b"x" * 101, max_bytes=100)


def test_jpeg_xl_decompression_bomb_is_rejected_by_its_header() -> None:
    pytest.importorskip("pillow_jxl")
    fields = ((0, 1), (3, 2), (99_999, 30), (0, 3), (3, 2), (59_999, 30))  # value, bits
    bits = place = 0
    for value, width in fields:
        bits |= value << place
        place += width
    codestream = b"\xff\x0a" + bits.to_bytes(16, "little")
    boxed = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I", len(codestream) + 8) + b"jxlc"
    for data in (codestream, boxed + codestream):
        with pytest.raises(ImageError, match="60000x100000 pixels is over the limit"):
            decode(data)


@pytest.mark.parametrize(
    ("data", "module", "extra"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif", "formats"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "pillow_heif", "formats"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\0jxlc\xff\x0a\x01\0\0", "pillow_jxl", "jxl"),
        (b"FUJIFILMCCD-RAW 0201", "rawpy", "raw"),
    ],
)
def test_missing_decoder_names_the_extra(
    data: bytes, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError, match=rf"pip install 'twinlens\[{extra}\]'"):
        decode(data)


# Raw files


def test_raw_file_is_developed_if_its_preview_is_too_small() -> None:
    pytest.importorskip("rawpy")
    tifffile = pytest.importorskip("tifffile")
    colour_filter = np.full((480, 640), 400, np.uint16)
    colour_filter[::2, ::2] = 12000  # the red filter is bright
    identity = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    about = [
        (50706, 1, 4, bytes((1, 4, 0, 0)), True),  # DNGVersion
        (50708, 2, 0, "Test", True),  # UniqueCameraModel
        (50721, 10, 9, identity, True),  # ColorMatrix1
        (50778, 3, 1, 21, True),  # CalibrationIlluminant1
        (274, 3, 1, 6, True),  # Orientation
        (272, 2, 0, "Camera One", True),
    ]
    sensor = [
        (33421, 3, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, 1, 4, bytes((0, 1, 1, 2)), True),  # CFAPattern
    ]
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        thumbnail = np.zeros((48, 64, 3), np.uint8)
        file.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, extratags=about)
        file.write(colour_filter, photometric=32803, subfiletype=0, extratags=sensor)
    picture = decode(stream.getvalue(), target=100)
    assert (picture.format, picture.width, picture.height) == ("RAW", 480, 640)
    assert picture.image.size == (240, 320)
    assert corners(picture.image) == ["R"] * 4
    assert picture.exif == {"camera": "Camera One"}


# Names


def test_names() -> None:
    assert is_image_name("holiday/IMG_0001.JPG")
    assert is_image_name("a.b.webp")
    assert not is_image_name("notes.txt")
    assert not is_image_name("jpg")
    assert {".jpg", ".jpeg", ".png", ".webp", ".tiff", ".avif"} <= supported_extensions()
    assert ".eps" not in supported_extensions()


def test_extensions_depend_on_installed_decoders() -> None:
    for module, extension in (("pillow_heif", ".heic"), ("pillow_jxl", ".jxl"), ("rawpy", ".dng")):
        installed = importlib.util.find_spec(module) is not None
        assert is_image_name("x" + extension) is installed


def test_importing_the_decoder_does_not_import_pillow() -> None:
    check = (
        "import sys, twinlens.search.images.decode\n"
        "sys.exit('PIL' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# Mutated files

SEEDS = [
    encoded(scene(24, 16), "JPEG", exif=CORRUPT_EXIF),
    encoded(scene(24, 16), "JPEG", progressive=True, icc_profile=chromatic_profile(True)),
    encoded(scene(24, 16), "PNG", icc_profile=chromatic_profile(True)),
    encoded(scene(24, 16).quantize(4), "PNG", transparency=0),
    encoded(scene(24, 16), "GIF", save_all=True, append_images=[Image.new("RGB", (24, 16))]),
    encoded(scene(24, 16), "WEBP"),
    encoded(scene(24, 16), "TIFF", compression="tiff_lzw"),
    encoded(scene(24, 16), "BMP"),
    encoded(scene(24, 16), "PPM"),
    encoded(scene(24, 16), "JPEG2000"),
    encoded(scene(24, 16), "AVIF"),
]


@settings(max_examples=400)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=0, max_size=4)), max_size=6),
    keep=st.floats(0, 1) | st.just(1.0),
    target=st.sampled_from([None, 4, 224]),
)
def test_mutated_bytes_raise_only_image_error(
    seed: bytes, edits: list[tuple[float, bytes]], keep: float, target: int | None
) -> None:
    data = bytearray(seed)
    for where, replacement in edits:
        at = int(where * len(data))
        data[at : at + len(replacement)] = replacement
    with suppress(ImageError):
        picture = decode(bytes(data[: int(keep * len(data))]), target=target, max_pixels=1_000_000)
        assert picture.image.mode == "RGB"
        assert picture.width * picture.height <= 1_000_000

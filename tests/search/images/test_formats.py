"""Recognise the containers that several formats share, and decode no more pixels than needed."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twinlens.search.images.budget import decoding_budget
from twinlens.search.images.decode import decode
from twinlens.search.images.formats import sniff


def ftyp(major: bytes, *compatible: bytes, more: bytes = b"") -> bytes:
    """The first box of an ISO base media file (ISO/IEC 14496-12): its major brand, and others."""
    body = b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible)
    return (len(body) + 4).to_bytes(4, "big") + body + more


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        ((b"mif1", b"mif1", b"avif"), "AVIF"),
        ((b"msf1", b"avis"), "AVIF"),
        ((b"mif1", b"miaf", b"heic"), "HEIF"),
        ((b"mif1", b"miaf"), "HEIF"),
        ((b"isom", b"mif1"), "HEIF"),
        ((b"isom", b"avif"), "AVIF"),
        ((b"heic", b"avif"), "HEIF"),
        ((b"isom", b"mp42"), None),
    ],
)
def test_compatible_brands_decide(brands: tuple[bytes, ...], name: str | None) -> None:
    assert sniff(ftyp(*brands)) == name


def test_brands_end_with_their_box() -> None:
    assert sniff(ftyp(b"isom", b"mp42", more=b"avif")) is None
    # Between the major brand and the others is a version.
    assert sniff(b"\0\0\0\x14ftypisomavifmp42") is None


def photo(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    photo(width, height).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_jpeg_is_decoded_at_a_fraction_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL.JpegImagePlugin import JpegImageFile

    loaded: list[tuple[int, int]] = []
    load = JpegImageFile.load

    def noted(image: JpegImageFile) -> Any:
        loaded.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImageFile, "load", noted)
    decoded = decode(jpeg(1_600, 1_200), target=100)
    assert loaded[0] == (400, 300)  # an eighth would be less than twice the target
    assert min(decoded.image.size) >= 200
    assert (decoded.width, decoded.height) == (1_600, 1_200)
    loaded.clear()
    assert decode(jpeg(1_600, 1_200)).image.size == loaded[0] == (1_600, 1_200)


class Raw:
    """A raw file, in place of LibRaw's: without a preview, or with one of some size."""

    def __init__(self, size: tuple[int, int], preview: tuple[int, int] | None) -> None:
        self.sizes = SimpleNamespace(iwidth=size[0], iheight=size[1], flip=0)
        self.preview = preview
        self.half: bool | None = None
        self.reserved = 0

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None: ...

    def extract_thumb(self) -> Any:
        if self.preview is None:
            raise ValueError
        return SimpleNamespace(format="jpeg", data=jpeg(*self.preview))

    def postprocess(self, *, half_size: bool, **_: object) -> Any:
        self.half = half_size
        self.reserved = decoding_budget().used
        factor = 2 if half_size else 1
        shape = self.sizes.iheight // factor, self.sizes.iwidth // factor, 3
        return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("preview", "target", "half"),
    [
        (None, 100, True),  # half the size is twice the target
        (None, 101, False),
        (None, None, False),
        ((300, 200), 100, None),  # the preview is enough
        ((300, 199), 100, True),
        ((150, 101), 51, True),
        ((600, 400), 300, None),  # there is no more to be had
        ((590, 390), 300, False),
        ((540, 360), None, None),
        ((540, 359), None, False),
    ],
)
def test_a_raw_file_is_developed_no_smaller_than_needed(
    preview: tuple[int, int] | None,
    target: int | None,
    half: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = Raw((600, 400), preview)
    library = SimpleNamespace(
        imread=lambda _: raw, LibRawError=ValueError, ThumbFormat=SimpleNamespace(JPEG="jpeg")
    )
    monkeypatch.setitem(sys.modules, "rawpy", library)
    decoded = decode(b"FUJIFILMCCD-RAW 0201", target=target)
    assert raw.half is half
    assert raw.reserved >= {True: 6, False: 20, None: 0}[half] * 600 * 400
    assert (decoded.format, decoded.width, decoded.height) == ("RAW", 600, 400)
    enough = min(2 * target, 400) if target else 360
    assert min(decoded.image.size) >= enough


def test_a_preview_with_too_much_exif_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from twinlens.search.images import cost, headers

    raw = Raw((600, 400), (600, 400))
    library = SimpleNamespace(
        imread=lambda _: raw, LibRawError=ValueError, ThumbFormat=SimpleNamespace(JPEG="jpeg")
    )
    monkeypatch.setitem(sys.modules, "rawpy", library)
    plain = jpeg(600, 400)
    block = b"Exif\0\0" + bytes(50)
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    monkeypatch.setattr(cost, "MAX_EXIF_BYTES", 10)
    monkeypatch.setattr(headers, "MAX_EXIF_BYTES", 40)
    for data, developed in ((plain, False), (plain[:2] + segment + plain[2:], True)):
        thumbnail = SimpleNamespace(format="jpeg", data=data)
        monkeypatch.setattr(raw, "extract_thumb", lambda thumbnail=thumbnail: thumbnail)
        raw.half = None
        assert decode(b"FUJIFILMCCD-RAW 0201", target=100).format == "RAW"
        assert (raw.half is not None) is developed

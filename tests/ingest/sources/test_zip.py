"""Zip archives: members on demand from many threads, and hostile or broken archives."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from support.colours import COLOURS

import twinlens
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources import zip as zip_module
from twinlens.search.errors import ImageError


def png(colour: str, side: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def make_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def samples(items: list[Item]) -> dict[str, Sample]:
    return {item.relative: item for item in items if isinstance(item, Sample)}


def loaded(sample: Sample) -> bytes:
    assert sample.load is not None
    return sample.load()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_zip(
        tmp_path / "photos.zip",
        {
            "trip/day 1/red.png": png("red"),
            "trip/day 1/red.txt": b"a red square\n",
            "trip/blue.png": png("blue"),
            "trip/blue.png.txt": b"a blue square\n",
            "trip/blue.json": json.dumps({"album": "trip", "year": 2020}).encode(),
            "__MACOSX/trip/._blue.png": b"fork",
            "trip/": b"",
            "readme.txt": b"hello",
        },
        zipfile.ZIP_DEFLATED,
    )


def test_pictures_in_folders_with_sidecars_by_name(archive: Path) -> None:
    found = samples(list(open_sources([archive])))
    assert list(found) == ["trip/blue.png", "trip/day 1/red.png"]
    red, blue = found["trip/day 1/red.png"], found["trip/blue.png"]
    assert (red.uri, red.captions) == (f"{archive}!trip/day 1/red.png", ("a red square",))
    assert loaded(red) == png("red")
    assert blue.captions == ("a blue square",)
    assert blue.metadata == {"album": "trip", "year": 2020}


def test_it_is_searched_and_not_stored_twice(archive: Path, index: twinlens.Index) -> None:
    report = index.ingest(archive)
    assert (report.images, report.texts) == (2, 2)
    assert index.ingest(archive).unchanged == 2
    hit = index.search("blue", limit=1)[0]
    assert hit.path == f"{archive}!trip/blue.png"
    assert hit.metadata["relative_path"] == "trip/blue.png"


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_many_threads_read_at_once(tmp_path: Path, compression: int) -> None:
    members = {f"{i}.png": png("red", 8 + i) for i in range(60)}
    path = make_zip(tmp_path / "many.zip", members, compression)
    found = samples(list(open_sources([path])))
    with ThreadPoolExecutor(16) as pool:
        read = dict(zip(found, pool.map(loaded, found.values()), strict=True))
    assert read == members


def test_an_encrypted_member_says_so(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "locked.zip", {"a.png": png("red"), "b.png": png("blue")})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    data[first + 8] |= 1
    path.write_bytes(data)
    items = list(open_sources([path]))
    [failure] = [item for item in items if isinstance(item, Failure)]
    assert failure.uri == f"{path}!a.png"
    assert "encrypted" in failure.reason
    assert list(samples(items)) == ["b.png"]


def test_a_bomb_is_cut_off_whatever_size_it_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_module, "MAX_BYTES", 1 << 20)
    path = make_zip(tmp_path / "bomb.zip", {"a.png": bytes(8 << 20)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    for declared in (8 << 20, (1 << 31) - 1):
        data[at : at + 4] = struct.pack("<I", declared)
        path.write_bytes(data)
        items = list(open_sources([path]))
        if declared > 512 << 20:
            assert [item.reason for item in items if isinstance(item, Failure)] == [
                "larger than 512 MB"
            ]
        else:
            with pytest.raises(ImageError, match="larger than 1 MB"):
                loaded(samples(items)["a.png"])


def test_damage_is_noticed_by_the_checksum(tmp_path: Path, index: twinlens.Index) -> None:
    path = make_zip(tmp_path / "d.zip", {"a.png": png("red"), "b.png": png("blue")})
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)
    report = index.ingest(path)
    assert report.images == 1
    [failure] = report.failed
    assert (failure.uri, failure.transient) == (f"{path}!a.png", False)
    assert "damaged in the archive" in failure.reason
    assert index.ingest(path).failed_before == 1


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + b"\xff" * 18])
def test_no_archive_at_all_is_one_failure(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.zip"
    path.write_bytes(content)
    [failure] = list(open_sources([path]))
    assert isinstance(failure, Failure)
    assert (failure.uri, failure.transient) == (str(path), True)


def test_names_are_labels_and_nothing_is_unpacked(tmp_path: Path) -> None:
    names = ["../../up.png", "/abs.png", "a\\..\\..\\b.png", "ok.png"]
    path = make_zip(tmp_path / "h.zip", dict.fromkeys(names, png("red")))
    before = set(tmp_path.rglob("*"))
    items = list(open_sources([path]))
    assert sorted(samples(items)) == ["abs.png", "ok.png"]
    reasons = {item.reason for item in items if isinstance(item, Failure)}
    assert reasons == {"its name points outside the archive"}
    assert set(tmp_path.rglob("*")) == before


def test_a_header_elsewhere_is_not_followed(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "h.zip", {"a.png": png("red")})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 42
    data[at : at + 4] = struct.pack("<I", 5)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        loaded(samples(list(open_sources([path])))["a.png"])


def test_zips_below_a_folder(tmp_path: Path, photos: Path, index: twinlens.Index) -> None:
    make_zip(photos / "more.zip", {"inner.png": png("red", 99)})
    report = index.ingest(photos, exclude=[f"{colour}.png" for colour in COLOURS])
    assert report.images == 1
    assert index.search("red", limit=1)[0].path == f"{photos}/more.zip!inner.png"


def test_a_sidecar_that_cannot_be_read_costs_no_picture(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "z.zip",
        {
            "a.png": png("red"),
            "a.txt": "ein Hund am Meer".encode("utf-16"),
            "b.png": png("blue"),
            "b.txt": "café".encode("cp1252"),
            "c.png": png("green"),
            "c.txt": b"to be damaged",
        },
    )
    data = bytearray(path.read_bytes())
    data[data.index(b"to be damaged")] ^= 0xFF
    path.write_bytes(data)
    found = samples(list(open_sources([path])))
    assert {name: sample.captions for name, sample in found.items()} == {
        "a.png": ("ein Hund am Meer",),
        "b.png": (),
        "c.png": (),
    }
    assert "save it as UTF-8" in found["b.png"].notes[0]
    assert "its sidecar c.txt cannot be read: damaged" in found["c.png"].notes[0]

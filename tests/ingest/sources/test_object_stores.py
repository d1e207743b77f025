"""Corpora behind fsspec, with its file system in memory in place of a bucket."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import FileFilter, open_sources
from twinlens.ingest.sources import object_stores as remote
from twinlens.search.errors import ImageError, SourceError, UsageError


def png(colour: str, side: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def samples(items: Iterator[Item]) -> dict[str, Sample]:
    return {item.relative: item for item in items if isinstance(item, Sample)}


@pytest.fixture
def bucket() -> Iterator[Any]:
    """A bucket with a folder of pictures, sidecars and things to pass over."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    fs.pipe(
        {
            "/bucket/photos/red.png": png("red"),
            "/bucket/photos/red.txt": b"a red square\n",
            "/bucket/photos/trip/blue.png": png("blue"),
            "/bucket/photos/trip/blue.json": b'{"year": 2020}',
            "/bucket/photos/.hidden.png": png("black"),
            "/bucket/photos/.thumbs/green.png": png("green"),
            "/bucket/photos/readme.md": b"nothing",
        }
    )
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


PHOTOS = "memory://bucket/photos"


def test_a_folder_is_walked_with_its_sidecars(bucket: Any) -> None:
    found = samples(open_sources([PHOTOS]))
    assert sorted(found) == ["red.png", "trip/blue.png"]
    red, blue = found["red.png"], found["trip/blue.png"]
    assert red.uri.endswith("bucket/photos/red.png")
    assert red.uri.startswith("memory://")
    assert red.captions == ("a red square",)
    assert blue.metadata == {"year": 2020}
    assert red.load is not None
    assert red.load() == png("red")
    assert red.size == len(png("red"))
    assert abs(red.mtime_ns / 1e9 - datetime.now(UTC).timestamp()) < 60


def test_it_is_stored_once_and_noticed_when_it_changes(
    bucket: Any, index: twinlens.Index, encoder: ColourEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = index.ingest(PHOTOS)
    assert (report.images, report.texts) == (2, 1)
    assert index.search("blue", limit=1)[0].metadata["relative_path"] == "trip/blue.png"
    with monkeypatch.context() as patch:
        patch.setattr(remote, "_load", lambda *args: pytest.fail("read again"))
        assert index.ingest(PHOTOS).unchanged == 2

    bucket.pipe("/bucket/photos/red.png", png("green"))
    bucket.rm("/bucket/photos/trip/blue.png")
    report = index.ingest(PHOTOS, prune=True)
    assert (report.images, report.removed) == (1, 2)
    assert index.search("green", limit=1)[0].metadata["relative_path"] == "red.png"


def test_tar_zip_and_parquet_in_a_bucket(bucket: Any, index: twinlens.Index) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    shard, archive, table = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as tar:
        info = tarfile.TarInfo("0.png")
        info.size = len(png("green"))
        tar.addfile(info, io.BytesIO(png("green")))
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("in/1.png", png("yellow"))
    rows = {"image": [{"bytes": png("purple"), "path": "2.png"}], "caption": ["purple"]}
    parquet.write_table(pa.table(rows), table)
    bucket.pipe({"/bucket/more/s.tar": shard.getvalue(), "/bucket/more/z.zip": archive.getvalue(),
                 "/bucket/more/t.parquet": table.getvalue()})  # fmt: skip
    report = index.ingest("memory://bucket/more")
    assert (report.images, report.texts) == (3, 1)
    assert index.ingest("memory://bucket/more").unchanged == 3
    hit = index.search("green", limit=1)[0]
    assert hit.path == "memory:///bucket/more/s.tar!0.png"
    assert hit.metadata["relative_path"] == "s.tar!0.png"
    [member] = open_sources(["memory://bucket/more/z.zip"])
    assert isinstance(member, Sample)
    assert (member.relative, member.root) == ("in/1.png", "memory:///bucket/more/z.zip")
    assert index.delete("memory:///bucket/more/s.tar") == 1


def test_no_copy_is_left(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("1.png", png("yellow"))
    bucket.pipe("/bucket/z.zip", archive.getvalue())
    items = list(open_sources(["memory://bucket/z.zip"]))
    assert len(list(tmp_path.iterdir())) == 1
    del items
    assert list(tmp_path.iterdir()) == []


def test_caption_files_in_a_bucket(bucket: Any, index: twinlens.Index) -> None:
    bucket.pipe(
        "/bucket/captions.jsonl",
        b'{"image": "photos/red.png", "caption": "something red"}\n'
        b'{"image": "photos/none.png", "caption": "nothing"}\n'
        b'{"image": "../../etc/passwd", "caption": "nothing"}\n'
        b'{"caption": "blue words alone"}\n',
    )
    report = index.ingest("memory://bucket/captions.jsonl")
    assert (report.images, report.texts, report.failed_count) == (1, 3, 2)
    assert {failure.reason for failure in report.failed} == {
        "captions.jsonl, line 2: there is no such picture",
        "captions.jsonl, line 3: there is no such picture",
    }
    again = index.ingest("memory://bucket/captions.jsonl")
    assert (again.unchanged, again.texts) == (2, 0)


def test_a_remote_caption_file_describes_a_remote_folder(bucket: Any) -> None:
    rows = b"image,caption\nblue.png,a blue thing\nphotos/red.png,a red thing\n"
    bucket.pipe("/bucket/captions.csv", rows)
    items = list(open_sources([PHOTOS], "memory://bucket/captions.csv"))
    found = samples(iter(items))
    assert len(items) == 2
    assert found["trip/blue.png"].captions == ("a blue thing",)
    assert found["red.png"].captions == ("a red square", "a red thing")


def test_patterns_globs_and_single_pictures(bucket: Any) -> None:
    [single] = open_sources([f"{PHOTOS}/red.png"])
    assert isinstance(single, Sample)
    assert single.captions == ("a red square",)
    assert list(samples(open_sources([f"{PHOTOS}/*.png"]))) == ["red.png"]
    assert len(samples(open_sources([f"{PHOTOS}/{{red,trip/blue}}.png"]))) == 2
    chosen = FileFilter(exclude=("trip/*",))
    assert sorted(samples(open_sources([PHOTOS], files=chosen))) == ["red.png"]


@pytest.mark.parametrize("place", ["memory://bucket/none", "memory://bucket/none/*.png"])
def test_what_is_not_there_is_a_usage_error(bucket: Any, place: str) -> None:
    with pytest.raises(UsageError, match="none"):
        open_sources([place])


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import known_implementations

    absent = {"class": "absentfs.core.AbsentFileSystem", "err": "Install absentfs"}
    monkeypatch.setitem(known_implementations, "absent", absent)
    with pytest.raises(SourceError, match=r"absent:// needs a driver: pip install absentfs$"):
        open_sources(["absent://bucket/photos"])
    with pytest.raises(SourceError, match="nonsense"):
        open_sources(["nonsense://bucket/photos"])


def test_a_driver_that_fails_is_a_passing_failure(
    bucket: Any, index: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(PHOTOS)

    def refuse(self: object, *args: object, **options: object) -> bytes:
        raise RuntimeError("the token has expired\nand a traceback follows")

    bucket.pipe("/bucket/photos/new.png", png("white"))
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", refuse)
        failed = index.ingest(PHOTOS).failed
    assert all(failure.transient for failure in failed)
    assert {failure.reason for failure in failed} == {"cannot be read: the token has expired"}

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "ls", refuse)
        patch.setattr(MemoryFileSystem, "info", lambda *args, **kw: {"type": "directory"})
        report = index.ingest(PHOTOS, prune=True)
    assert [failure.reason for failure in report.failed] == [
        "cannot be read: the token has expired"
    ]
    assert report.removed == 0


def test_a_picture_that_is_too_large_is_not_kept(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match="larger than"):
        remote._load(bucket, "/bucket/photos/red.png", -1)


def test_an_oversized_sidecar_costs_no_picture(bucket: Any) -> None:
    bucket.pipe("/bucket/photos/red.txt", b"x" * (2 << 20))
    told: dict[str, str] = {}
    items = list(open_sources([PHOTOS], warn=told.__setitem__))
    assert not any(isinstance(item, Failure) for item in items)
    [note] = told.values()
    assert note == "its sidecar red.txt is larger than 1 MB and is not used as a caption"


@pytest.mark.parametrize(
    ("info", "stamp"),
    [
        ({"LastModified": datetime(2020, 1, 2, tzinfo=UTC)}, 1_577_923_200_000_000_000),
        ({"updated": "2020-01-02T00:00:00Z"}, 1_577_923_200_000_000_000),
        ({"mtime": 1.5}, 1_500_000_000),
        ({}, -1),
    ],
)
def test_when_a_file_was_changed(info: dict[str, Any], stamp: int) -> None:
    assert remote._stamp(info) == stamp


def test_a_tag_tells_versions_apart_where_there_is_no_date() -> None:
    first, second = remote._stamp({"ETag": "a"}), remote._stamp({"ETag": "b"})
    assert first != second
    assert 0 <= first < 1_100_000_000_000


def test_a_file_address_is_the_path(photos: Path, index: twinlens.Index) -> None:
    assert index.ingest(photos.as_uri()).images == len(COLOURS)
    assert index.ingest(photos).unchanged == len(COLOURS)
    assert index.search("red", limit=1)[0].path == str(photos / "red.png")

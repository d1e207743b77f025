"""Reading stored pictures again by their paths: files, archives, tables, URLs."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import twinlens
from twinlens.ingest import originals
from twinlens.ingest.originals import Originals
from twinlens.search.errors import ImageError
from twinlens.search.images.originals import read_original
from twinlens.server.media import Media


def pack(photos: Path, path: Path) -> Path:
    """Pack the folder's pictures into a container; its name says which kind."""
    pictures = sorted(photos.glob("*.png"))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for picture in pictures:
                archive.write(picture, f"in/{picture.name}")
    elif path.suffix == ".parquet":
        cells = [{"bytes": one.read_bytes(), "path": one.name} for one in pictures]
        pq.write_table(pa.table({"image": cells}), path, row_group_size=3)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as shard:
            for picture in pictures:
                shard.add(picture, f"in/{picture.name}")
    return path


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz", "photos.zip", "table.parquet"])
def test_every_picture_of_a_container_is_read_again(
    index: twinlens.Index, photos: Path, tmp_path: Path, name: str
) -> None:
    container = pack(photos, tmp_path / name)
    shutil.rmtree(photos)
    index.ingest(container)
    rows = [
        row
        for rows in index.engine.collection.scan("images", ["id", "path", "paths"])
        for row in rows
    ]
    assert len(rows) == 8
    assert all("!" in row["path"] for row in rows)
    read = Originals()
    assert all(read_original(row, read) for row in [*rows, *reversed(rows)])
    media = Media(tmp_path / "media", read=read)
    assert media.thumbnail(rows[0], 160, "WEBP").result().data
    media.close()


def test_a_container_is_scanned_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = pack(photos, tmp_path / "shard.tar")
    opened: list[object] = []
    open_sources = originals.open_sources

    def counted(paths: list[Path]) -> object:
        opened.append(paths)
        return open_sources(paths)

    monkeypatch.setattr(originals, "open_sources", counted)
    read = Originals()
    names = [f"{shard}!in/{one.name}" for one in photos.glob("*.png")]
    for name in [*names, *names]:
        assert read(name)
    with pytest.raises(ImageError, match=r"not in shard\.tar"):
        read(f"{shard}!in/none.png")
    assert len(opened) == 1
    (photos / "red.png").unlink()
    pack(photos, shard)  # another one now
    with pytest.raises(ImageError):
        read(f"{shard}!in/red.png")
    assert read(f"{shard}!in/blue.png")
    assert len(opened) == 2


def test_a_container_with_more_members_than_the_cache(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "MAX_MEMBERS", 2)
    shard = pack(photos, tmp_path / "shard.tar")
    read = Originals()
    pictures = sorted(photos.glob("*.png"))
    for one in [*pictures, *reversed(pictures)]:
        assert read(f"{shard}!in/{one.name}") == one.read_bytes()


def test_the_cache_of_containers_is_bounded(photos: Path, tmp_path: Path) -> None:
    read = Originals()
    for number in range(6):
        shard = pack(photos, tmp_path / f"{number}.tar")
        assert read(f"{shard}!in/red.png")
    assert len(read._containers) == originals.MAX_CONTAINERS


def test_a_file_with_an_exclamation_mark(paint: Callable[..., Path]) -> None:
    path = paint("red", "photos/oh!.png")
    assert Originals()(str(path)) == path.read_bytes()


def test_urls(tmp_path: Path) -> None:
    assert (
        Originals(lambda url: url.encode())("http://example.org/a.png")
        == b"http://example.org/a.png"
    )
    with pytest.raises(ConnectionError):
        Originals()("http://example.org/a.png")
    for packed in ("s3://bucket/shard.tar!a.png", "https://example.org/photos.zip!a.png"):
        with pytest.raises(ImageError, match="not on this machine"):
            Originals(lambda url: url.encode())(packed)


@pytest.mark.parametrize(
    "path", ["", "a!b", "/nowhere.tar!a.png", "/dev/zero!a", "/etc/passwd!root", "/tmp!\0"]
)
def test_invalid_paths(path: str) -> None:
    with pytest.raises((ImageError, OSError)):
        Originals()(path)

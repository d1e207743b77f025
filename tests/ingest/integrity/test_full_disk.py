"""On a full disk nothing that was confirmed is lost, and nothing half-done counts as done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.colours import ColourEncoder
from support.damaged import contents, make_photos

import twinlens
from twinlens.ingest.integrity.check import check
from twinlens.ingest.report import ItemRow
from twinlens.ingest.upload import Upload
from twinlens.search.errors import SourceError, StoreError, StoreReadOnlyError
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.lite import snapshot

resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
COUNT = 90


@contextmanager
def no_room(limit: int) -> Iterator[None]:
    """No file can grow beyond a size: to whoever writes one, the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("full") / "photos", COUNT)


@pytest.fixture(scope="module")
def expected(photos: Path) -> dict[str, object]:
    """The contents when there is room."""
    path = photos.parent / "expected.db"
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.ingest(photos)
    return rows(path)


def rows(path: Path) -> dict[str, object]:
    return {k: v for k, v in contents(path).items() if isinstance(v, list) and "words" not in k}


def health(path: Path) -> str:
    with Database(str(path), create=False) as database:
        return check(database).health


@pytest.mark.parametrize("limit", [6_000, 12_000, 18_000, 25_000])
@pytest.mark.parametrize("anew", [False, True], ids=["same process", "opened again"])
def test_an_ingest_without_room_is_resumed(
    photos: Path, expected: dict[str, object], tmp_path: Path, limit: int, anew: bool
) -> None:
    path = tmp_path / "full.db"
    confirmed: list[str] = []

    def note(row: ItemRow) -> None:
        if row.status == "stored":
            confirmed.append(row.uri)

    index = twinlens.open(path, model=ColourEncoder())
    index.ingest(photos / "000.png")
    with no_room(limit), pytest.raises(StoreError, match=r"cannot be written: .*make room"):
        index.ingest(photos, report=note)
    if anew:
        with no_room(limit):
            index.close()  # nor is there room to make data files of the log
        assert health(path) == "sound"
        index = twinlens.open(path, model=ColourEncoder())
    with index:
        stored = {row["path"] for page in index.engine.collection.scan("images", ["path"])
                  for row in page}  # fmt: skip
        assert stored.issuperset(confirmed)
        ledger = {row["path"] for page in index.engine.collection.scan("files", ["path"])
                  for row in page}  # fmt: skip
        assert ledger.issuperset(confirmed)
        assert index.search("red", limit=COUNT)
        report = index.ingest(photos)
        assert report.images == COUNT - len(ledger - {p for p in ledger if p[0] == "\x01"})
    assert rows(path) == expected
    assert health(path) == "sound"


def test_a_flush_without_room_loses_no_log(
    photos: Path, expected: dict[str, object], tmp_path: Path
) -> None:
    """Milvus Lite would delete the log of a flush that failed after the next one."""
    path = tmp_path / "full.db"
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.ingest(photos / "000.png")
        collection = index.engine.collection
        receiver = index.intake()
        data = (photos / "001.png").read_bytes()
        at = (photos / "001.png").stat()
        name = str(photos / "001.png")
        receiver.put([Upload(name, str(photos), "001.png", size=at.st_size, data=data,
                             mtime_ns=at.st_mtime_ns, captions=("picture 1",))])  # fmt: skip
        with no_room(1_000), pytest.raises(StoreError):
            collection.flush()
        index.ingest(photos)
        collection.flush()
    assert rows(path) == expected
    assert health(path) == "sound"


def test_an_export_without_room_is_not_there(photos: Path, tmp_path: Path) -> None:
    with twinlens.open(tmp_path / "full.db", model=ColourEncoder()) as index:
        index.ingest(photos)
        with no_room(2_000), pytest.raises(SourceError, match="cannot be written"):
            index.export(tmp_path / "exported")
        assert not [name for name in os.listdir(tmp_path) if "exported" in name]
        assert index.export(tmp_path / "exported").images == COUNT


def test_a_reindex_without_room_is_resumed(photos: Path, tmp_path: Path) -> None:
    other = ColourEncoder("other")
    with twinlens.open(tmp_path / "full.db", model=ColourEncoder()) as index:
        index.ingest(photos)
        with no_room(15_000), pytest.raises(StoreError, match="make room"):
            index.reindex(other)
        assert len(index.search("red", limit=COUNT)) == COUNT
        assert index.info().generation == 1
        assert index.reindex(other).switched
        assert index.info().images == COUNT
    assert health(tmp_path / "full.db") == "sound"


def test_snapshots_without_room_are_left_out(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "full.db"
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.ingest(photos)
    monkeypatch.setattr(snapshot, "MIN_ROWS", 10)
    with no_room(3_000), twinlens.open(path, model=ColourEncoder()) as index:
        assert len(index.search("red", limit=COUNT)) == COUNT
    assert not [name for _, _, names in os.walk(path / "snapshot") for name in names]


def test_a_half_file_of_vectors_is_made_anew(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "full.db"
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.ingest(photos)
    (array,) = (path / "collections" / "twinlens_images_g1").rglob("*.idx")
    whole = array.read_bytes()
    array.write_bytes(whole[:700])
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.delete(photos / "000.png")
        assert len(index.search("red", limit=COUNT)) == COUNT - 1
    assert array.read_bytes() == whole
    assert health(path) == "sound"


def test_a_read_only_database_is_searched_and_says_why_it_is_not_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photos.db"
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.ingest(photos / "000.png")
    folders = [path, *(one for one in path.rglob("*") if one.is_dir())]
    for one in folders:
        one.chmod(0o555)
    if os.geteuid() == 0:  # who may write everywhere
        monkeypatch.setattr(os, "access", lambda place, mode: not Path(place).is_dir())
    try:
        with twinlens.open(path, model=ColourEncoder()) as index:
            assert index.search("red")[0].path == str(photos / "000.png")
            assert index.check().health == "sound"
            for write in (
                lambda: index.ingest(photos),
                lambda: index.delete(photos / "000.png"),
                index.drop,
            ):
                with pytest.raises(StoreReadOnlyError, match="is read-only: it can be searched"):
                    write()
    finally:
        for one in folders:
            one.chmod(0o755)

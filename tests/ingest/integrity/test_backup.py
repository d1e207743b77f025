"""Backups are made while others write, are complete or not there, and come back as they were."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.colours import ColourEncoder
from support.damaged import contents, files_of, make_photos

import twinlens
from twinlens.ingest.integrity.check import check
from twinlens.ingest.upload import Upload
from twinlens.search.errors import StoreError, StoreLockedError, UsageError
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.lite import backup as module
from twinlens.search.milvus.lite.copier import FileCopier
from twinlens.search.milvus.lite.restore import backups


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "photos.db"
    with twinlens.open(path, model=ColourEncoder()) as index:
        index.ingest(make_photos(tmp_path / "photos", 12))
    return path


def health(path: Path) -> str:
    with Database(str(path), create=False) as database:
        return check(database).health


def test_a_backup_comes_back_as_it_was(db: Path, tmp_path: Path) -> None:
    before = contents(db)
    done = twinlens.backup(tmp_path / "backups", db)
    assert done.copied
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.delete(tmp_path / "photos" / "003.png")
    restored = tmp_path / "restored.db"
    assert twinlens.restore(tmp_path / "backups", restored) == done.folder
    assert contents(restored) == before != contents(db)
    assert health(restored) == "sound"
    with pytest.raises(UsageError, match="add --force"):
        twinlens.restore(tmp_path / "backups", db)
    twinlens.restore(done.folder, db, force=True)
    assert contents(db) == before
    with twinlens.open(db, model=ColourEncoder()) as index:
        assert index.ingest(tmp_path / "photos").unchanged == 12


def test_what_did_not_change_is_not_copied_again(db: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    first = twinlens.backup(folder, db)
    second = twinlens.backup(folder, db)
    assert (first.bytes, second.bytes, second.copied) == (first.bytes, first.bytes, 0)
    (data, *_) = sorted(second.folder.rglob("*.parquet"))
    assert data.stat().st_nlink == 2
    third = twinlens.backup(folder, db, keep=2)
    assert backups(folder) == [second.folder, third.folder]
    assert contents(third.folder / "database.db") == contents(db)


def test_backups_during_writes_are_moments_of_them(db: Path, tmp_path: Path) -> None:
    """Each holds everything that was confirmed before it began, and nothing that came after it."""
    stop, confirmed = threading.Event(), [0]

    def write() -> None:
        data = (tmp_path / "photos" / "001.png").read_bytes()
        with twinlens.open(db, model=ColourEncoder()) as index:
            receiver = index.intake()
            while not stop.is_set():
                number = confirmed[0]
                receiver.put([Upload(f"/new/{number:05}.png", captions=(f"new {number}",),
                              data=data + bytes([number % 256, number // 256]))])  # fmt: skip
                confirmed[0] += 1
                if number % 7 == 6:
                    index.engine.collection.flush()
                    index.delete(f"/new/{number - 3:05}.png")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = []
        for _ in range(3):
            began = confirmed[0]
            done = twinlens.backup(tmp_path / "backups", db)
            made.append((began, done.folder, confirmed[0]))
    finally:
        stop.set()
        writer.join()
    final = {row["path"]: row for row in contents(db)["twinlens files"]}
    for began, folder, ended in made:
        restored = tmp_path / f"{folder.name}.db"
        twinlens.restore(folder, restored)
        rows = {row["path"]: row for row in contents(restored)["twinlens files"]}
        new = {int(path[5:10]) for path in rows if path.startswith("/new/")}
        deleted = {n for n in range(ended + 1) if f"/new/{n:05}.png" not in final}
        assert {*range(began)} - deleted <= new <= {*range(ended + 1)}
        assert all(row == final[path] for path, row in rows.items() if path in final
                   and not path.startswith("\x01"))  # fmt: skip
        with Database(str(restored)) as database:
            check(database, repair=True)
        assert health(restored) == "sound"
        with twinlens.open(restored, model=ColourEncoder()) as index:
            assert index.ingest(tmp_path / "photos").unchanged == 12


def test_only_one_moment_is_backed_up_of_a_writer_that_never_rests(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    real, calls = module._state, [0]

    def state(folder: object) -> object:
        calls[0] += 1
        return {**real(folder), Path("x"): (calls[0], 0, 0)}  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_state", state)
    done = twinlens.backup(tmp_path / "backups", db)
    assert calls[0] > module.QUIET_TRIES
    assert contents(done.folder / "database.db") == contents(db)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   KeyboardInterrupt()])  # fmt: skip
def test_an_interrupted_backup_leaves_nothing(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder, copy, calls = tmp_path / "backups", FileCopier._copy, [0]
    first = twinlens.backup(folder, db)
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.delete(tmp_path / "photos" / "003.png")

    def full(self: FileCopier, *args: object) -> object:
        calls[0] += 1
        if calls[0] == 3:
            raise error
        return copy(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(FileCopier, "_copy", full)
    expected = StoreError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        twinlens.backup(folder, db)
    if expected is StoreError:
        assert "No space left on device: there is no new backup" in str(raised.value)
    assert os.listdir(folder) == [first.folder.name]


def test_what_a_killed_backup_left_is_deleted(db: Path, tmp_path: Path) -> None:
    left = tmp_path / "backups" / ".partial-999999999"
    left.mkdir(parents=True)
    with pytest.raises(UsageError, match="there is no backup"):
        twinlens.restore(tmp_path / "backups", tmp_path / "r.db")
    twinlens.backup(tmp_path / "backups", db)
    assert not left.exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_database_is_not_backed_up(db: Path, tmp_path: Path) -> None:
    flip(next((db / "collections" / "twinlens_images_g1").rglob("*.parquet")))
    with pytest.raises(StoreError, match=r"data file .* is damaged.*no new backup"):
        twinlens.backup(tmp_path / "backups", db)
    assert os.listdir(tmp_path / "backups") == []


@pytest.mark.parametrize("what", ["parquet", "idx", "json", "cut", "gone", "manifest"])
def test_a_damaged_backup_is_not_restored(db: Path, tmp_path: Path, what: str) -> None:
    done = twinlens.backup(tmp_path / "backups", db)
    before = contents(db)
    data = next(done.folder.rglob("*.parquet"))
    if what == "gone":
        data.unlink()
    elif what == "cut":
        data.write_bytes(data.read_bytes()[:-1])
    elif what == "manifest":
        (done.folder / "twinlens-backup.json").write_text("{")
    else:
        flip(next(done.folder.rglob(f"*.{what}")) if what != "json"
             else done.folder / "database.db" / "aliases.json")  # fmt: skip
    with pytest.raises(StoreError, match="restore another backup"):
        twinlens.restore(done.folder, db, force=True)
    assert contents(db) == before
    assert not [one for one in os.listdir(tmp_path) if "restoring" in one]


def test_a_database_in_use_is_not_replaced(
    db: Path, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    twinlens.backup(tmp_path / "backups", db)
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(paint("red", "more/red.png"))
        with pytest.raises(StoreLockedError):
            twinlens.restore(tmp_path / "backups", db, force=True)
    twinlens.restore(tmp_path / "backups", db, force=True)
    assert health(db) == "sound"


def test_places_that_cannot_be(db: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a server"):
        twinlens.backup(tmp_path / "backups", "http://localhost:19530")
    with pytest.raises(UsageError, match="there is no database"):
        twinlens.backup(tmp_path / "backups", tmp_path / "none.db")
    with pytest.raises(UsageError, match="is in the database"):
        twinlens.backup(db / "backups", db)
    assert len(files_of(db)) > 10
    shutil.rmtree(db)

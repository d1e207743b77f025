"""A collection from one database to another: complete, gone on with, compared, refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.colours import ColourEncoder
from support.rows import comparable

import twinlens
import twinlens.ingest.transfer.copy
from twinlens import cli as twinlens_cli
from twinlens.ingest.transfer.diff import FIELDS, KEYS, ORDER
from twinlens.search.errors import (
    CollectionNotFoundError,
    ModelMismatchError,
    StoreError,
    StoreUnreachableError,
    UnsupportedError,
    UsageError,
)
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.records import Row


@pytest.fixture
def filled(tmp_path: Path, encoder: ColourEncoder, photos: Path) -> Path:
    """A Milvus Lite file with pictures, one of them broken, and fields of their own."""
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (photos / 'with "quotes".png').write_bytes((photos / "red.png").read_bytes())
    table = tmp_path / "more.jsonl"
    lines = [
        {"image": f"{photos}/blue.png", "caption": "the sea", "year": 2020, "place": "coast"},
        {"image": f"{photos}/green.png", "caption": "a meadow", "year": 2021.5},
    ]
    table.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    db = tmp_path / "filled.db"
    with twinlens.open(db, "photos", model=encoder) as index:
        index.ingest(photos)
        index.ingest(table)
    return db


@pytest.fixture
def target(backend: str) -> Iterator[tuple[str, str]]:
    """Where to copy to, and under which name; gone afterwards."""
    name = f"copy_{uuid.uuid4().hex[:12]}"
    yield backend, name
    with Database(backend) as database:
        database.drop(name)


def everything(collection: Collection) -> dict[str, dict[str, Row]]:
    """All that is stored, by key."""
    found: dict[str, dict[str, Row]] = {}
    for kind in ORDER:
        more = [] if kind == "files" else ["vector"]
        rows = [row for page in collection.scan(kind, [*FIELDS[kind], *more]) for row in page]
        found[kind] = {row[KEYS[kind]]: comparable(row) for row in rows}
    return found


def held(db: str | Path, name: str) -> dict[str, dict[str, Row]]:
    with Database(str(db)) as database:
        return everything(database.collection(name))


def test_to_either_backend_and_back(
    filled: Path, target: tuple[str, str], tmp_path: Path, encoder: ColourEncoder
) -> None:
    db, name = target
    bars: list[int] = []

    def progress(total: int) -> None:
        bars.append(total)

    report = twinlens.copy(filled, db, "photos", to=name, progress=progress)
    assert (report.images, report.texts, report.files) == (8, 10, 10)
    assert report.written == 28
    assert bars == [28]
    assert report.compared == 18
    assert report.rows_per_second > 0
    before = held(filled, "photos")
    assert held(db, name) == before

    with twinlens.open(db, name, model=encoder) as copied:
        assert copied.search("blue", limit=1)[0].captions[0] == "a blue picture"
        assert len(copied.search("blue", where="year == 2020")) == 1
        assert copied.info().index == ("FLAT" if db.endswith(".db") else "HNSW")
        assert copied.info().failed == 1
        with twinlens.open(filled, "photos", model=encoder) as original:
            for kind in ("images", "texts"):
                assert copied.fields(kind) == original.fields(kind)  # type: ignore[arg-type]

    back = twinlens.copy(db, tmp_path / "back.db", name, to="photos")
    assert back.written == 28
    assert held(tmp_path / "back.db", "photos") == before


def test_again_writes_nothing_and_new_rows_are_carried_over(
    filled: Path, tmp_path: Path, encoder: ColourEncoder, photos: Path, paint: Callable[..., Path]
) -> None:
    copy = tmp_path / "copy.db"
    twinlens.copy(filled, copy, "photos")
    assert twinlens.copy(filled, copy, "photos").written == 0
    paint("orange", "photos/new.png", (50, 50))
    with twinlens.open(filled, "photos", model=encoder) as index:
        index.ingest(photos / "new.png")
    report = twinlens.copy(filled, copy, "photos")
    assert (report.images, report.written) == (9, 2), "the picture and its path"
    with twinlens.open(filled, "photos", model=encoder) as index:
        index.delete(photos / "new.png")
    with pytest.raises(StoreError, match=r"9 images instead of 8.*rows of its own"):
        twinlens.copy(filled, copy, "photos")
    with twinlens.open(copy, "photos", model=encoder) as copied:
        assert copied.info().images == 9, "what is served may have rows of its own"


@pytest.mark.parametrize("written", [0, 1, 2])
def test_one_that_broke_off_is_gone_on_with(
    filled: Path, target: tuple[str, str], written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some rows of some collections: nothing is served, and what is there stays."""
    db, name = target
    monkeypatch.setattr(twinlens.ingest.transfer.copy, "PAGE", 4)
    monkeypatch.setattr(twinlens.ingest.transfer.copy, "LITE_PAGE", 4)
    insert, left = Collection.insert, written

    def counted(collection: Collection, kind: Any, rows: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        insert(collection, kind, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert", counted)
        with pytest.raises(KeyboardInterrupt):
            twinlens.copy(filled, db, "photos", to=name)
    with Database(db) as database:
        assert not database.exists(name)
        with pytest.raises(CollectionNotFoundError):
            database.collection(name)
        with pytest.raises(StoreError, match="an unfinished copy"):
            database.create(name, database.generations(name)[0].fingerprint)
    # Meanwhile something else is written where nothing should be.
    with Database(db) as database:
        begun = database.begin(
            name, database.generations(name)[0].fingerprint, _layout(database, name)
        )
        stray = {"id": "f" * 32, "text": "", "image_id": "", "path": "", "relative_path": ""}
        begun.upsert("texts", [stray | {"vector": np.ones(16, dtype=np.float32) / 4}])
    report = twinlens.copy(filled, db, "photos", to=name)
    assert report.written == 28 - 4 * written
    assert held(db, name) == held(filled, "photos")
    with Database(db) as database:
        assert [(one.number, one.served) for one in database.generations(name)] == [(1, True)]


def _layout(database: Database, name: str) -> Any:
    return database.generations(name)[0].layout


def test_a_milvus_that_is_away_for_a_moment(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was half written is written again, not twice."""
    monkeypatch.setattr("twinlens.ingest.writer.FIRST_PAUSE", 0.0)
    insert, failing = Collection.insert, True

    def flaky(collection: Collection, kind: Any, rows: Any) -> None:
        nonlocal failing
        if failing:
            failing = False
            insert(collection, kind, rows[:3])
            raise StoreUnreachableError("away")
        insert(collection, kind, rows)

    monkeypatch.setattr(Collection, "insert", flaky)
    twinlens.copy(filled, tmp_path / "copy.db", "photos")
    assert held(tmp_path / "copy.db", "photos") == held(filled, "photos")


@pytest.mark.parametrize("what", ["vector", "path", "row"])
def test_a_copy_that_is_not_like_its_source_is_not_served(
    filled: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Collection.insert

    def damaging(collection: Collection, kind: Any, rows: list[Row]) -> None:
        if kind == "texts":
            changed = dict(rows[0])
            if what == "vector":
                bits = np.asarray(changed["vector"], dtype=np.float32).copy()
                bits[0] = np.nextafter(bits[0], np.float32(2))
                changed["vector"] = bits
            elif what == "path":
                changed["path"] = "elsewhere"
            else:
                changed["id"] = "0" * 32
            rows = [changed, *rows[1:]]
        insert(collection, kind, rows)

    monkeypatch.setattr(Collection, "insert", damaging)
    monkeypatch.setattr(twinlens.ingest.transfer.copy, "ROUNDS", 1)
    monkeypatch.setattr(twinlens.ingest.transfer.copy, "delete_extra", lambda *_: 0)
    with pytest.raises(StoreError, match="in the copy"):
        twinlens.copy(filled, tmp_path / "copy.db", "photos")
    with Database(str(tmp_path / "copy.db")) as database:
        assert not database.exists("photos")


def test_a_sample_is_drawn_at_random(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(str(filled)) as database:
        collection = database.collection("photos")
        drawn = [
            tuple(row["id"] for row in twinlens.ingest.transfer.copy._drawn(collection, "texts", 3))
            for _ in range(20)
        ]
    assert len(set(drawn)) > 1
    assert all(len(ids) <= 3 for ids in drawn)
    assert any(drawn)


def test_what_cannot_be_copied(
    filled: Path, tmp_path: Path, photos: Path, encoder: ColourEncoder
) -> None:
    copy = tmp_path / "copy.db"
    with pytest.raises(UsageError, match="there is no database"):
        twinlens.copy(tmp_path / "nowhere.db", copy)
    assert not (tmp_path / "nowhere.db").exists()
    with pytest.raises(CollectionNotFoundError):
        twinlens.copy(filled, copy, "others")
    with pytest.raises(UsageError, match="onto itself"):
        twinlens.copy(filled, filled, "photos")
    with pytest.raises(UsageError, match="from 0 to 16384 rows"):
        twinlens.copy(filled, copy, "photos", sample=-1)
    for name in ("a/b", "1a", "x" * 129, "a b"):
        with pytest.raises(UsageError, match="is not a valid collection name"):
            twinlens.copy(filled, copy, "photos", to=name)
    for options in ({"vectors": "float16"}, {"index": "HNSW"}, {"shards": 2}, {"mmap": True}):
        with pytest.raises(UnsupportedError, match="Milvus Lite"):
            twinlens.copy(filled, copy, "photos", **options)  # type: ignore[arg-type]
    with Database(str(copy)) as database:
        assert database.client.list_collections() == []
    with twinlens.open(copy, "photos", model=ColourEncoder("other", dim=24)) as index:
        index.ingest(photos)
    with pytest.raises(ModelMismatchError, match="holds embeddings of other"):
        twinlens.copy(filled, copy, "photos")
    assert twinlens.copy(filled, copy, "photos", to="photos2").images == 8
    assert twinlens.copy(filled, filled, "photos", to="beside").images == 8


def test_the_command_says_what_it_did(
    filled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy.db"
    command = ["twinlens", "copy", str(filled), str(copy), "-c", "photos"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        twinlens_cli.run()
    assert not ended.value.code
    assert "28 rows written" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*command, "--shards", "2"])
    with pytest.raises(SystemExit) as ended:
        twinlens_cli.run()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("twinlens: the collection 'photos' has shards 1, not 2")
    assert said.count("\n") == 1
    monkeypatch.setattr("sys.argv", [*command, "--to", "a/b"])
    with pytest.raises(SystemExit) as ended:
        twinlens_cli.run()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("twinlens: 'a/b' is not a valid collection name")

"""A check compares ledger, pictures and texts row by row, and a repair makes them agree."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.ingest.integrity.report import CheckReport
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import Kind, Row

Change = Callable[[Collection, Path], None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinlens.ingest.integrity.check.WAIT", 0.0)


def rows(collection: Collection, kind: Kind) -> list[Row]:
    fields = ["*"] if kind == "files" else ["*", "vector", "$meta"]
    return [row for page in collection.scan(kind, fields, strong=True) for row in page]


def raw_delete(collection: Collection, kind: Kind, ids: list[str]) -> None:
    name = collection.physical(kind)
    collection.client.delete(name, filter=collection.scope.where_ids(kind, ids))
    collection.note_deletion(kind)


def of(collection: Collection, kind: Kind, colour: str) -> Row:
    return next(row for row in rows(collection, kind) if Path(row["path"]).stem == colour)


def lose_picture(collection: Collection, photos: Path) -> None:
    raw_delete(collection, "images", [of(collection, "images", "red")["id"]])


def lose_text(collection: Collection, photos: Path) -> None:
    raw_delete(collection, "texts", [of(collection, "texts", "red")["id"]])


def lose_entry(collection: Collection, photos: Path) -> None:
    raw_delete(collection, "files", [str(photos / "red.png")])


def lose_ledger(collection: Collection, photos: Path) -> None:
    raw_delete(collection, "files", [row["path"] for row in rows(collection, "files")])


def lose_entry_and_file(collection: Collection, photos: Path) -> None:
    lose_entry(collection, photos)
    (photos / "red.png").unlink()


def shorten_vector(collection: Collection, photos: Path) -> None:
    row = of(collection, "images", "red")
    row["vector"] = np.asarray(row["vector"], dtype=np.float32) / 2
    collection.upsert("images", [row])


def break_text_vector(collection: Collection, photos: Path) -> None:
    row = of(collection, "texts", "red")
    row["vector"] = np.asarray(row["vector"], dtype=np.float32) * 3
    collection.upsert("texts", [row])


def add_text(collection: Collection, photos: Path) -> None:
    row = of(collection, "texts", "red")
    collection.upsert("texts", [row | {"id": "f" * 32, "text": "of nothing", "image_id": ""}])


CHANGES: dict[str, tuple[Change, str, int]] = {
    "a lost picture": (lose_picture, "lost picture", 1),
    "a lost text": (lose_text, "lost text", 0),
    "a lost entry": (lose_entry, "stray picture", 0),
    "a lost ledger": (lose_ledger, "stray picture", 0),
    "a lost entry, and its file": (lose_entry_and_file, "stray picture", 0),
    "a vector of length 0.5": (shorten_vector, "vector", 1),
    "a text's vector of length 3": (break_text_vector, "vector", 0),
    "a text without a path": (add_text, "stray text", 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_rows_agree_again_after_a_repair_and_an_ingest(
    index: twinlens.Index, photos: Path, change: str
) -> None:
    apply, kind, encoded = CHANGES[change]
    agree_again(index, photos, apply, kind, encoded)


@pytest.mark.parametrize("change", ["a lost picture", "a lost entry"])
def test_rows_of_a_server_are_compared(
    server: str, photos: Path, encoder: ColourEncoder, change: str
) -> None:
    apply, kind, encoded = CHANGES[change]
    with twinlens.open(server, f"test_{uuid.uuid4().hex[:12]}", model=encoder) as index:
        try:
            agree_again(index, photos, apply, kind, encoded)
        finally:
            index._database.drop(index.collection)


def agree_again(
    index: twinlens.Index, photos: Path, apply: Change, kind: str, encoded: int
) -> None:
    index.ingest(photos)
    collection = index.engine.collection
    assert index.check().health == "sound"
    apply(collection, photos)
    found = index.check()
    assert found.health == "damaged"
    assert kind in kinds(found)
    done = index.check(repair=True)
    assert done.health == "repaired", done
    assert index.check().health == "sound"
    report = index.ingest(photos)
    assert not report.failed
    assert report.images == encoded  # nothing else is encoded again
    assert index.check().health == "sound"
    stored = {Path(row["path"]).stem for row in rows(index.engine.collection, "images")}
    assert stored == {path.stem for path in photos.glob("*.png")}
    texts = {row["text"] for row in rows(index.engine.collection, "texts")}
    assert texts == {f"a {name} picture" for name in stored}


def kinds(report: CheckReport) -> set[str]:
    return {one.kind for one in report.damage}


def test_a_path_that_holds_another_picture_is_not_given_back(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path]
) -> None:
    index.ingest(photos)
    collection = index.engine.collection
    old = of(collection, "images", "red")
    paint("blue", "photos/red.png", size=(60, 60))
    index.ingest(photos)
    collection.upsert("images", [old])
    assert kinds(index.check(repair=True)) == {"stray picture"}
    assert old["id"] not in {row["id"] for row in rows(collection, "images")}
    assert len(rows(collection, "images")) == 8


def test_what_a_deletion_has_not_finished_is_no_damage(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    collection = index.engine.collection
    lose_picture(collection, photos)
    monkeypatch.setattr(
        "time.sleep", lambda seconds: raw_delete(collection, "files", [str(photos / "red.png")])
    )
    assert kinds(index.check()) == set()


def test_tenants_are_checked_one_by_one(
    tmp_path: Path, photos: Path, encoder: ColourEncoder
) -> None:
    with twinlens.open(tmp_path / "t.db", model=encoder, tenant="anna") as anna:
        anna.ingest(photos)
        whole = twinlens.Index(anna._database, anna.collection, model=anna._model)
        whole.for_tenant("otto").ingest(photos / "red.png")
        lose_picture(anna.engine.collection, photos)
        report = whole.check()
        assert [one.place for one in report.damage] == ["twinlens, tenant anna"]
        assert set(report.collections) == {"twinlens, tenant anna", "twinlens, tenant otto"}
        with pytest.raises(twinlens.UsageError, match="cannot check for one tenant"):
            anna.check()
        assert whole.check(repair=True).health == "repaired"
        assert whole.for_tenant("otto").ingest(photos / "red.png").unchanged == 1


def test_files_of_another_database_are_noticed(
    tmp_path: Path, photos: Path, encoder: ColourEncoder
) -> None:
    for name in ("one", "two"):
        with twinlens.open(tmp_path / f"{name}.db", model=encoder) as index:
            index.ingest(photos)
    ledger = Path("collections", "twinlens_files_g1")
    for place in (ledger, "checksums" / ledger):
        (tmp_path / "one.db" / place).rename(tmp_path / f"old-{place.parts[0]}")
        (tmp_path / "two.db" / place).rename(tmp_path / "one.db" / place)
    report = twinlens.check(tmp_path / "one.db")
    assert any("were not created together" in one.reason for one in report.damage)


def test_a_collection_that_was_deleted_half_way_is_no_damage(
    tmp_path: Path, photos: Path, encoder: ColourEncoder
) -> None:
    path = tmp_path / "photos.db"
    with twinlens.open(path, "kept", model=encoder) as index:
        index.ingest(photos)
    with twinlens.open(path, "dropped", model=encoder) as index:
        index.ingest(photos)
        index.drop()
    assert twinlens.check(path).health == "sound"
    left = path / "collections" / "dropped_texts_g1" / "partitions"
    left.mkdir(parents=True)
    report = twinlens.check(path, repair=True)
    assert report.health == "sound"
    assert "was being created or deleted" in report.notes[0].reason

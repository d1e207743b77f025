"""Rows of a run that died before it wrote its ledger are found again, whatever became of files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.ingest import unfinished
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import Kind, Row


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the next ingest die after its rows and before its ledger rows; the call undoes that."""
    real = Collection.upsert

    def upsert(self: Collection, kind: Kind, rows: list[Row]) -> None:
        if kind == "files" and any(row["status"] == "ok" for row in rows):
            raise KilledError
        real(self, kind, rows)

    monkeypatch.setattr(Collection, "upsert", upsert)

    return lambda: monkeypatch.setattr(Collection, "upsert", real)


@pytest.fixture
def dead(
    index: twinlens.Index, photos: Path, killed: Callable[[], None], tmp_path: Path
) -> twinlens.Index:
    """An index in which a run has died before it wrote its ledger."""
    lines = tmp_path / "texts.jsonl"
    lines.write_text(json.dumps({"caption": "a red house"}) + "\n")
    with pytest.raises(KilledError):
        index.ingest(photos, lines, texts_alone=True)
    killed()
    assert index.info().images == 8
    assert index.info().texts == 9
    return index


def names(index: twinlens.Index) -> set[str]:
    rows = index.engine.collection.query("images", 'id != ""', ["path"], 100)
    return {Path(row["path"]).name for row in rows}


def notes(index: twinlens.Index) -> int:
    return index.engine.collection.count("files", 'status == "writing"')


def test_a_deleted_file_leaves_no_row(dead: twinlens.Index, photos: Path) -> None:
    (photos / "red.png").unlink()
    report = dead.ingest(photos)
    assert report.images == 7
    assert "red.png" not in names(dead)
    assert len(names(dead)) == 7
    assert dead.info().texts == 7
    assert notes(dead) == 0


def test_a_renamed_and_a_replaced_file_leave_no_row(
    dead: twinlens.Index, photos: Path, paint: Callable[..., Path]
) -> None:
    (photos / "red.png").rename(photos / "moved.png")
    paint("blue", "photos/green.png", size=(20, 20))
    dead.ingest(photos)
    assert names(dead) == {path.name for path in photos.glob("*.png")}
    assert len(names(dead)) == dead.info().images == 8


def test_delete_removes_rows_that_the_ledger_lacks(dead: twinlens.Index, photos: Path) -> None:
    dead.delete(photos / "red.png")
    assert dead.info().images == dead.info().texts == dead.info().files == 0


def test_an_upload_that_died_is_finished(dead: twinlens.Index) -> None:
    done = dead.intake().put([])
    assert len(done.deleted) == 8
    assert dead.info().images == dead.info().texts == 0


def test_captions_that_the_ledger_lacks_go(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    (photos / "red.txt").write_text("another caption\n")
    real = Collection.upsert

    def upsert(self: Collection, kind: Kind, rows: list[Row]) -> None:
        if kind == "files" and any(row["status"] == "ok" for row in rows):
            raise KilledError
        real(self, kind, rows)

    monkeypatch.setattr(Collection, "upsert", upsert)
    with pytest.raises(KilledError):
        index.ingest(photos)
    monkeypatch.setattr(Collection, "upsert", real)
    (photos / "red.txt").write_text("a third caption\n")
    index.ingest(photos)
    texts = {row["text"] for row in index.engine.collection.query("texts", "", ["text"], 100)}
    assert "a third caption" in texts
    assert "another caption" not in texts
    assert len(texts) == 8


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("writer", ["this", "another machine", "a process that ended", "nonsense"])
def test_only_notes_of_writers_that_ended_are_finished(
    index: twinlens.Index, photos: Path, writer: str, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Milvus Lite, which only one process can write to, every other writer has ended."""
    index.ingest(photos)
    collection = index.engine.collection
    (row,) = collection.query("images", 'id != ""', ["id"], 1)
    note = unfinished.WriteNote(collection)
    note.begin([row["id"]], [])
    (stored,) = collection.query("files", 'status == "writing"', ["path", "reason"], 2)
    if writer != "this":
        note.release()
        changed = json.loads(stored["reason"])
        changed |= {"another machine": {"host": "elsewhere"}, "nonsense": {"pid": "x"}}.get(
            writer, {"pid": 2**22 + 7}
        )
        whole = collection.get("files", [stored["path"]])
        collection.upsert("files", [whole[0] | {"reason": json.dumps(changed)}])
    collection.capabilities = replace(collection.capabilities, lite=alone)
    unfinished.finish_writes(collection)
    assert notes(index) == (writer == "this" or (writer == "another machine" and not alone))
    monkeypatch.setattr(unfinished, "PATIENCE", -1.0)
    monkeypatch.setattr(unfinished, "SETTLE_SECONDS", 0.0)
    unfinished.finish_writes(collection)
    assert notes(index) == (writer == "this")
    assert index.info().images == 8  # the ledger has it
    note.release()


@pytest.mark.parametrize("seconds", [3_600.0, 365 * 24 * 3_600.0])
def test_a_run_on_another_machine_is_alive_whatever_the_clock_says(
    index: twinlens.Index, photos: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock is ahead; the note of the other one changes while it writes."""
    index.ingest(photos)
    collection = index.engine.collection
    collection.capabilities = replace(collection.capabilities, lite=False)
    (stored,) = collection.query("images", 'id != ""', ["id"], 1)
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.socket, "gethostname", lambda: "elsewhere")
        note = unfinished.WriteNote(collection)
        note.begin([stored["id"]], [])
    real, pauses = time.time, []
    monkeypatch.setattr(time, "time", lambda: real() + seconds)

    def pause(passed: float) -> None:
        pauses.append(passed)
        if len(pauses) == 1:  # it writes its next chunk meanwhile
            (row,) = collection.query("files", 'status == "writing"', ["*"], 2)
            collection.upsert("files", [row | {"mtime_ns": row["mtime_ns"] + 1}])

    monkeypatch.setattr(time, "sleep", pause)
    unfinished.finish_writes(collection)
    assert (notes(index), pauses) == (1, [unfinished.SETTLE_SECONDS])
    unfinished.finish_writes(collection)  # and now it has ended
    assert notes(index) == 0
    note.release()


@pytest.mark.parametrize("other", ["another boot", "another container"])
def test_a_run_in_a_container_of_the_same_name_is_alive(
    index: twinlens.Index, photos: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process has a number that no process has here."""
    index.ingest(photos)
    collection = index.engine.collection
    collection.capabilities = replace(collection.capabilities, lite=False)
    name, *rest = unfinished._host().split()
    if len(rest) != 2:
        pytest.skip("this system tells only its name")
    rest[other == "another container"] = "elsewhere"
    monkeypatch.setattr(unfinished, "_host", lambda: " ".join([name, *rest]))
    monkeypatch.setattr(unfinished.os, "getpid", lambda: 2**22 + 7)
    note = unfinished.WriteNote(collection)
    note.begin(["0" * 32], [])
    monkeypatch.undo()
    unfinished.finish_writes(collection)
    assert notes(index) == 1
    note.end()
    note.release()


def test_a_run_that_ends_leaves_no_note(tmp_path: Path, photos: Path) -> None:
    with twinlens.open(tmp_path / "test.db", model=ColourEncoder()) as index:
        index.ingest(photos)
        assert notes(index) == 0
        assert index.info().files == 8

"""Export and import: every row comes back as it was, and nothing hostile gets in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from support.colours import ColourEncoder
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.ingest.sources.export_manifest import KINDS, NAME, ExportedFile, Manifest
from twinlens.ingest.transfer import export as exchange
from twinlens.ingest.transfer.export import export_collection
from twinlens.search.errors import ModelMismatchError, SourceError, StoreError, UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import FILE_FIELDS, IMAGE_FIELDS, TEXT_FIELDS, Row

FIELDS = {"images": IMAGE_FIELDS, "texts": TEXT_FIELDS, "files": FILE_FIELDS}


def contents(collection: Collection) -> dict[str, list[Row]]:
    """Every row of the three collections, whole, as plain types."""
    found: dict[str, list[Row]] = {}
    for kind in KINDS:
        fields = [*FIELDS[kind], "vector", *(["$meta"] if kind != "files" else [])]
        rows = [row for rows in collection.scan(kind, fields) for row in rows]
        found[kind] = [
            {
                name: [float(x) for x in value] if name == "vector" else value
                for name, value in row.items()
                if value is not None
            }
            for row in sorted(rows, key=lambda row: row["path" if kind == "files" else "id"])
        ]
    return found


@pytest.fixture
def filled(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path], tmp_path: Path
) -> twinlens.Index:
    """Pictures with metadata of several types, a copy, a text alone, and one that failed."""
    paint("red", "photos/again/red.png")
    (photos / "broken.png").write_bytes(b"no picture")
    lines: list[dict[str, Any]] = [
        {"image": "red.png", "caption": ["a red one", 'it\'s "red"'], "year": 2020, "mix": "x"},
        {"image": "blue.png", "caption": "a blue one", "year": 2021, "mix": 3, "ratio": 1.5},
        {"image": "green.png", "caption": "a green one", "ratio": 2.0, "good": True, "mix": False},
        {"caption": "words alone, ünïcode 🐕"},
    ]
    file = tmp_path / "captions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = index.ingest(photos, captions=file)
    assert report.failed_count == 1
    return index


@pytest.fixture
def exported(filled: twinlens.Index, tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    export_collection(filled.engine.collection, folder, shard_rows=3)
    return folder


def test_every_row_comes_back_as_it_was(
    filled: twinlens.Index, exported: Path, tmp_path: Path
) -> None:
    before = contents(filled.engine.collection)
    assert [len(before[kind]) for kind in KINDS] == [8, 13, 11]
    with twinlens.open(tmp_path / "other.db", "elsewhere") as other:
        done = other.import_(exported)
        assert (done.images, done.texts, done.files) == (8, 13, 11)
        assert contents(other.engine.collection) == before
        collection = other.engine.collection
        assert collection.fingerprint == filled.engine.collection.fingerprint
        assert collection.fields("images") == filled.engine.collection.fields("images")
    assert len(list((exported / "metadata").iterdir())) == 3


def test_by_either_backend_and_back(
    filled: twinlens.Index, exported: Path, tmp_path: Path, either: twinlens.Index
) -> None:
    before = contents(filled.engine.collection)
    either.import_(exported)
    assert contents(either.engine.collection) == before
    either.export(tmp_path / "again")
    with twinlens.open(tmp_path / "other.db") as other:
        other.import_(tmp_path / "again")
        assert contents(other.engine.collection) == before


def test_a_later_ingest_finds_nothing_to_do(
    exported: Path, photos: Path, tmp_path: Path, encoder: ColourEncoder
) -> None:
    encoder.images_seen = encoder.texts_seen = 0
    with twinlens.open(tmp_path / "other.db", model=encoder) as other:
        other.import_(exported)
        report = other.ingest(photos, captions=tmp_path / "captions.jsonl")
        assert (report.unchanged, report.failed_before, report.images) == (10, 1, 0)
        assert (encoder.images_seen, encoder.texts_seen) == (0, 0)
        (found,) = other.search("red", where="year == 2020")
        assert found.path == str(photos / "again/red.png")


def test_importing_twice_changes_nothing(filled: twinlens.Index, exported: Path) -> None:
    before = contents(filled.engine.collection)
    filled.import_(exported)
    assert contents(filled.engine.collection) == before


def test_an_import_ends_as_an_ingest_does(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that it is done while a reindexing leaves it out; and it is settled."""
    settled: list[str] = []
    monkeypatch.setattr(Collection, "flush", lambda collection: settled.append(collection.name))
    with twinlens.open(tmp_path / "other.db") as other:
        other.import_(exported)
        assert settled == ["twinlens"]
        other.engine.collection.set_state(frozen=True)
        with pytest.raises(StoreError, match="is being reindexed"):
            other.import_(exported)
        assert settled == ["twinlens"]


@pytest.mark.parametrize("batch", [2, 1_000])
def test_pictures_that_were_stored_before_have_the_paths_of_both(
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
    exported: Path,
    paint: Callable[..., Path],
    tmp_path: Path,
    encoder: ColourEncoder,
) -> None:
    monkeypatch.setattr(exchange, "BATCH", batch)
    mine = paint("red", "mine/mine.png")
    with twinlens.open(tmp_path / "other.db", model=encoder) as other:
        other.ingest(mine.parent)
        other.import_(exported)
        red = other.search("red", limit=1)[0]
        rows = other.engine.collection.get("images", [red.id], ["paths", "captions"])
    names = [Path(path).name for path in rows[0]["paths"]]
    assert sorted(names) == ["mine.png", "red.png", "red.png"]
    assert sorted(rows[0]["captions"]) == ["a red one", "a red picture", 'it\'s "red"']


def test_other_tools_read_the_pictures_of_it(
    exported: Path, tmp_path: Path, encoder: ColourEncoder
) -> None:
    with twinlens.open(tmp_path / "other.db", model=encoder) as other:
        with pytest.raises(SourceError, match="twinlens import"):
            other.ingest(exported)
        report = other.ingest(exported, embeddings_model=encoder.fingerprint)
        assert (report.images, report.failed_count) == (8, 0)
        assert encoder.images_seen == 8  # as they were first ingested
        assert "a blue picture" in other.search("blue", limit=1)[0].captions


def test_an_empty_collection_travels_too(
    index: twinlens.Index, photos: Path, tmp_path: Path
) -> None:
    index.ingest(photos)
    index.delete(photos)
    index.export(tmp_path / "export")
    with twinlens.open(tmp_path / "other.db") as other:
        assert other.import_(tmp_path / "export").images == 0
        assert other.info().images == 0


def test_it_appears_whole_and_only_where_nothing_is(
    filled: twinlens.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        filled.export(used)
    assert [file.name for file in used.iterdir()] == ["mine.txt"]

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Manifest, "write", full)
    with pytest.raises(SourceError, match="No space left"):
        filled.export(tmp_path / "new")
    assert not [path for path in tmp_path.iterdir() if "new" in path.name]


def test_another_model_is_refused(exported: Path, tmp_path: Path) -> None:
    with twinlens.open(tmp_path / "other.db", model=ColourEncoder("other")) as other:
        with pytest.raises(ModelMismatchError, match="cannot be compared"):
            other.import_(exported)
        assert other._database.names() == []


def bring(folder: Path, tmp_path: Path) -> None:
    with twinlens.open(tmp_path / "other.db") as other:
        other.import_(folder)


def edit(folder: Path, **changes: object) -> None:
    """Change keys of the manifest; ``fingerprint__dim`` is one within another, ``shard__…`` in
    the first shard."""
    raw = json.loads((folder / NAME).read_text())
    for key, value in changes.items():
        outer, _, inner = key.partition("__")
        if outer == "shard":
            raw["shards"][-1][inner] = value
        elif inner:
            raw[outer][inner] = value
        else:
            raw[outer] = value
    (folder / NAME).write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"twinlens_export": 9}, "another version"),
        ({"schema": "0"}, "another version"),
        ({"fingerprint": []}, "is not valid: "),
        ({"fingerprint__dim": 10**9}, "dim 1000000000 is not"),
        ({"fingerprint__dim": True}, "not of type int"),
        ({"fingerprint__normalized": False}, "not normalised"),
        ({"shards": {}}, "not of type list"),
        ({"shards": [3]}, "is not valid: "),
        ({"shard__rows": 10**12}, "rows 1000000000000 is not"),
        ({"shard__rows": -1}, "rows -1 is not"),
        ({"shard__kind": "../images"}, "unknown kind"),
        ({"shard__number": 7}, "not numbered from 0"),
        ({"shard__matrix": None}, "is not valid: "),
        ({"shard__table": {"bytes": 1, "sha256": "../../x"}}, "not a valid sha256"),
    ],
)
def test_a_manifest_is_checked_before_anything_is_made(
    exported: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    edit(exported, **changes)
    with pytest.raises(SourceError, match=says):
        bring(exported, tmp_path)
    with twinlens.open(tmp_path / "other.db") as other:
        assert other._database.names() == []


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "{}", "[]", "\udcff"])
def test_a_manifest_that_is_none(exported: Path, tmp_path: Path, text: str) -> None:
    (exported / NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match=NAME):
        bring(exported, tmp_path)


def test_missing_truncated_altered_and_linked_files(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not an export"):
        bring(tmp_path / "nowhere", tmp_path)
    file = exported / "img_emb" / "img_emb_00001.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(SourceError, match="its size"):
        bring(exported, tmp_path)
    file.write_bytes(whole[:-1] + b"\x7f")
    with pytest.raises(SourceError, match="its sha256"):
        bring(exported, tmp_path)
    shutil.move(file, tmp_path / "elsewhere.npy")
    with pytest.raises(SourceError, match="is missing"):
        bring(exported, tmp_path)
    (tmp_path / "elsewhere.npy").write_bytes(whole)
    file.symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(SourceError, match="is missing"):
        bring(exported, tmp_path)
    file.unlink()
    file.write_bytes(whole)
    bring(exported, tmp_path)  # whole again, what broke off above is gone on with


def forge(folder: Path, rows: pa.Table | None = None, vectors: Any = None) -> None:
    """Put other contents into the last shard of pictures, and the manifest in line with it."""
    number = max((folder / "metadata").iterdir()).stem[-5:]
    table = folder / "metadata" / f"metadata_{number}.parquet"
    matrix = folder / "img_emb" / f"img_emb_{number}.npy"
    if rows is not None:
        parquet.write_table(rows, table)
    if vectors is not None:
        np.save(matrix, vectors)
    for key, path in (("table", table), ("matrix", matrix)):
        file = ExportedFile.of(path)
        edit(folder, **{f"shard__{key}": {"bytes": file.bytes, "sha256": file.sha256}})


def last_rows(folder: Path) -> pa.Table:
    return parquet.read_table(max((folder / "metadata").iterdir()))


def put(table: pa.Table, name: str, value: Any) -> pa.Table:
    at = table.schema.get_field_index(name)
    column = pa.array([value] * len(table), table.schema.field(name).type)
    return table.set_column(at, table.schema.field(name), column)


@pytest.mark.parametrize(
    ("forged", "says"),
    [
        (lambda t: put(t, "id", '" or true or "'), "not a valid id"),
        (lambda t: put(t, "path", "x" * 5_000), "a text is too long for path"),
        (lambda t: put(t, "path", None), "a row has no path"),
        (lambda t: put(t, "captions", [None]), "captions has an empty value"),
        (lambda t: put(t, "captions", ["x"] * 5_000), "more than 4096 captions"),
        (lambda t: put(t, "mtime", float("nan")), "mtime is not finite"),
        (lambda t: put(t, "$more", '{"id": "x"}'), "not a valid field name: 'id'"),
        (lambda t: put(t, "$more", '{"a b": 1}'), "not a valid field name: 'a b'"),
        (lambda t: put(t, "$more", '{"a": [1]}'), "a is neither"),
        (lambda t: put(t, "$more", "[]"), "is not a JSON object"),
        (lambda t: put(t, "$more", "[" * 100_000), "is not a table"),
        (lambda t: t.append_column("$x", pa.array(["x"] * len(t))), r"unknown column '\$x'"),
        (lambda t: t.append_column("x", pa.array([b"x"] * len(t))), "unknown column 'x'"),
        (lambda t: t.drop_columns(["bytes"]), "columns are not"),
        (lambda t: pa.concat_tables([t, t]), "it has 4 rows, not 2"),
    ],
)
def test_forged_tables(
    exported: Path, tmp_path: Path, forged: Callable[[pa.Table], pa.Table], says: str
) -> None:
    forge(exported, forged(last_rows(exported)))
    with pytest.raises(SourceError, match=says):
        bring(exported, tmp_path)


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (np.ones((2, 16), np.float32), "not of length 1"),
        (np.full((2, 16), np.nan, np.float32), "not of length 1"),
        (np.eye(2, 8, dtype=np.float32), "does not hold the vectors"),
        (np.eye(3, 16, dtype=np.float32), "does not hold the vectors"),
        (np.eye(2, 16), "does not hold the vectors"),
        (np.array([["a"]], dtype=object), "cannot be read"),
    ],
)
def test_forged_vectors(exported: Path, tmp_path: Path, vectors: Any, says: str) -> None:
    forge(exported, vectors=vectors)
    with pytest.raises(SourceError, match=says):
        bring(exported, tmp_path)


def test_the_commands(filled: twinlens.Index, tmp_path: Path) -> None:
    filled.close()
    there, here = tmp_path / "out", ["--db", str(tmp_path / "test.db")]
    done = CliRunner().invoke(app, ["export", str(there), *here])
    assert done.stdout == f"exported 8 images, 13 texts, 11 files to {there}\n"
    other = ["--db", str(tmp_path / "other.db"), "--collection", "copy"]
    done = CliRunner().invoke(app, ["import", str(there), *other])
    assert done.stdout == "imported 8 images, 13 texts, 11 files into copy\n"
    refused = CliRunner().invoke(app, ["export", str(there), *here])
    assert isinstance(refused.exception, UsageError)

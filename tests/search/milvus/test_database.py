"""Write to, read from and search a real Milvus Lite file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.search.errors import (
    CollectionNotFoundError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
    UsageError,
)
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import is_server
from twinlens.search.milvus.database import Database, check_name
from twinlens.search.milvus.expressions import begins, quote
from twinlens.search.milvus.pymilvus_calls import row_bytes, split_rows
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import MAX_PATH_BYTES, Row

FINGERPRINT = Fingerprint("colours", "none", 4, 8, '{"a":1}', source="colours:none")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(str(tmp_path / "test.db")) as opened:
        yield opened


@pytest.fixture
def collection(database: Database) -> Collection:
    return database.create("photos", FINGERPRINT)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """One collection for many examples."""
    with Database(str(tmp_path_factory.mktemp("store") / "test.db")) as opened:
        yield opened.create("photos", FINGERPRINT)


def text(key: str, says: str = "a dog", vector: tuple[float, ...] = (1, 0, 0, 0)) -> Row:
    return {
        "id": key,
        "vector": np.array(vector, dtype=np.float32),
        "path": "",
        "relative_path": "",
        "text": says,
        "image_id": "",
    }


def file(path: str) -> Row:
    return {
        "path": path,
        "image_id": "",
        "texts": [],
        "size": 1,
        "mtime_ns": 2**62,
        "digest": "",
        "status": "ok",
        "reason": "",
        "root": "",
    }


def in_another_process(code: str, db: str) -> subprocess.Popen[str]:
    """Start a process that runs code, with the path of the file in ``db``."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from twinlens.search.milvus.database import Database\n"
            "from twinlens.search.models.fingerprint import Fingerprint\n"
            f"db = {db!r}\n{code}",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# ---- corpora


def test_a_corpus_is_there_once_it_is_made(database: Database) -> None:
    assert not database.exists("photos")
    assert database.names() == []
    made = database.create("photos", FINGERPRINT)
    assert database.exists("photos")
    assert database.names() == ["photos"]
    assert made.fingerprint == FINGERPRINT
    assert [made.count("images"), made.count("texts"), made.count("files")] == [0, 0, 0]


def test_the_fingerprint_survives_closing(tmp_path: Path) -> None:
    db = str(tmp_path / "test.db")
    with Database(db) as database:
        database.create("photos", FINGERPRINT).upsert("texts", [text("1")])
    with Database(db) as database:
        collection = database.collection("photos")
        assert collection.fingerprint == FINGERPRINT
        assert collection.count("texts") == 1


def test_making_it_again_changes_nothing(database: Database, collection: Collection) -> None:
    collection.upsert("texts", [text("1")])
    assert database.create("photos", FINGERPRINT).count("texts") == 1


def test_the_names_are_aliases(database: Database, collection: Collection) -> None:
    physical = set(database.client.list_collections())
    assert {"photos_images_g1", "photos_texts_g1", "photos_files_g1"} == physical
    described = database.client.describe_collection("photos_images")
    assert described["collection_name"] == "photos_images_g1"


@pytest.mark.parametrize("steps", range(1, 7))
def test_one_that_was_half_made_is_completed(
    database: Database, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after each of the calls that create it."""
    left = steps

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return call(*args, **options)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("create_collection", "create_index", "create_alias"):
            patch.setattr(database.client, name, counted(getattr(database.client, name)))
        with pytest.raises(KeyboardInterrupt):
            database.create("photos", FINGERPRINT)
    assert not database.exists("photos")
    assert database.names() == []
    collection = database.create("photos", FINGERPRINT)
    collection.upsert("texts", [text("1")])
    assert collection.search("texts", np.eye(4, dtype=np.float32)[:1], 1)[0][0][1] == pytest.approx(
        1
    )
    assert collection.count("files") == 0


@pytest.mark.parametrize(
    ("left", "kept"),
    [([], []), (["schema.json.tmp"], []), (["manifest.json", "wal/1"], ["manifest.json", "wal"])],
)
def test_what_a_killed_process_left_is_in_nobodys_way(
    tmp_path: Path, left: list[str], kept: list[str]
) -> None:
    folder = tmp_path / "test.db" / "collections" / "photos_images_g1"
    for name in ["wal/", *left]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("") if not name.endswith("/") else (folder / name).mkdir()
    with Database(str(tmp_path / "test.db")) as database:
        created = database.create("photos", FINGERPRINT)
        created.upsert("texts", [text("a")])
        assert created.count("texts") == 1
        assert database.names() == ["photos"]
    aside = [one.name for path in folder.parent.glob("*.*") for one in path.iterdir()]
    assert sorted(aside) == kept


def test_a_dropped_corpus_leaves_nothing(database: Database, collection: Collection) -> None:
    database.create("photos_images", FINGERPRINT)
    database.drop("photos")
    assert not database.exists("photos")
    assert database.names() == ["photos_images"]
    assert all(name.startswith("photos_images_") for name in database.client.list_collections())
    with pytest.raises(CollectionNotFoundError):
        database.collection("photos")
    assert database.create("photos", FINGERPRINT).count("texts") == 0


def test_another_model_may_have_the_name_of_a_dropped_one(
    database: Database, collection: Collection
) -> None:
    database.drop("photos")
    other = Fingerprint("shapes", "none", 7, 8, "{}")
    assert database.create("photos", other).fingerprint == other


def test_a_collection_of_somebody_else_is_refused(database: Database) -> None:
    database.client.create_collection("mine_images", dimension=4)
    with pytest.raises(StoreError, match="mine_images was not created by twinlens"):
        database.collection("mine")


def test_a_collection_of_another_version_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("twinlens.search.milvus.database.SCHEMA_VERSION", "99")
        database.create("photos", FINGERPRINT)
    with pytest.raises(
        StoreError, match=r"another version of twinlens \(schema 99, this one reads"
    ):
        database.collection("photos")


def test_there_is_none_of_that_name(database: Database, collection: Collection) -> None:
    with pytest.raises(CollectionNotFoundError, match=r"no collection 'fotos' .*it holds: photos"):
        database.collection("fotos")


@pytest.mark.parametrize("name", ["a", "_", "A1_b", "a" * 128])
def test_names_that_milvus_takes(database: Database, name: str) -> None:
    check_name(name)
    database.create(name, FINGERPRINT)
    assert database.names() == [name]


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a.b", "ä", "a" * 129, "a\n", 'a" or "b'])
def test_names_that_milvus_does_not_take(name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits and underscores"):
        check_name(name)


@pytest.mark.parametrize("length", [100, 115, 120, 128])
def test_every_name_that_is_taken_can_be_made(database: Database, length: int) -> None:
    name = "a" * length
    assert database.create(name, FINGERPRINT).name == name
    assert database.names() == [name]


# ---- rows


def test_rows_of_the_same_key_are_replaced(collection: Collection) -> None:
    collection.upsert("texts", [text("1", "old"), text("2")])
    collection.upsert("texts", [text("1", "new")])
    assert collection.count("texts") == 2
    (row,) = collection.get("texts", ["1"], ["text"])
    assert row["text"] == "new"


def test_what_is_deleted_does_not_count(collection: Collection) -> None:
    collection.upsert("texts", [text(str(i)) for i in range(10)])
    collection.delete("texts", ["3", "4", "not there"])
    assert collection.count("texts") == 8
    assert collection.get("texts", ["3"]) == []
    collection.upsert("texts", [text("3")])
    assert collection.count("texts") == 9


def test_many_keys_at_once(collection: Collection) -> None:
    keys = [f"{i:032}" for i in range(2_500)]
    collection.upsert("texts", [text(key) for key in keys])
    assert {row["id"] for row in collection.get("texts", keys, ["id"])} == set(keys)
    collection.delete("texts", keys[:2_400])
    assert collection.count("texts") == 100


def test_nothing_at_once_is_no_error(collection: Collection) -> None:
    collection.upsert("texts", [])
    collection.delete("texts", [])
    assert collection.get("texts", []) == []


def test_a_scan_brings_every_row_once(collection: Collection) -> None:
    assert list(collection.scan("texts", ["id"])) == []
    collection.upsert("texts", [text(str(i), f"{i % 2}") for i in range(10)])
    batches = list(collection.scan("texts", ["id"], batch=3))
    assert sorted(row["id"] for rows in batches for row in rows) == [str(i) for i in range(10)]
    assert all(len(rows) <= 3 for rows in batches)
    odd = [row["id"] for rows in collection.scan("texts", ["id"], 'text == "1"') for row in rows]
    assert sorted(odd) == ["1", "3", "5", "7", "9"]
    assert list(collection.scan("texts", ["id"], 'text == "2"')) == []


def test_rows_can_be_deleted_while_they_are_scanned(collection: Collection) -> None:
    collection.upsert("texts", [text(f"{i:02}") for i in range(20)])
    for rows in collection.scan("texts", ["id"], batch=3):
        collection.delete("texts", [row["id"] for row in rows])
    assert collection.count("texts") == 0


def test_rows_for_which_something_holds(collection: Collection) -> None:
    collection.upsert("texts", [text(str(i), str(i % 2)) for i in range(10)])
    assert len(collection.query("texts", 'text == "0"', ["id"], limit=3)) == 3
    assert len(collection.query("texts", 'text == "0"', ["id"], limit=30)) == 5


def test_what_is_beside_the_columns_goes_along(collection: Collection) -> None:
    collection.upsert("texts", [text("1") | {"year": 2020, "who": "Zoë", "big": 2**60, "ok": True}])
    (row,) = collection.get("texts", ["1"])
    assert (row["year"], row["who"], row["big"], row["ok"]) == (2020, "Zoë", 2**60, True)
    assert collection.query("texts", "year >= 2020", ["id"], limit=1)
    assert not collection.query("texts", "year > 2020", ["id"], limit=1)


def test_an_expression_that_is_none_is_one_line(collection: Collection) -> None:
    with pytest.raises(StoreError, match="Milvus could not read rows") as refused:
        collection.query("texts", "text ===", ["id"], limit=1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "row", [text("1", vector=(1, 0)), text("1", "x" * 70_000), text("1" * 33), {"id": "1"}]
)
def test_a_row_that_does_not_fit_is_one_line(collection: Collection, row: Row) -> None:
    with pytest.raises(StoreError, match="Milvus could not write 1 rows") as refused:
        collection.upsert("texts", [row])
    assert "\n" not in str(refused.value)
    assert collection.count("texts") == 0


def test_the_nearest_rows(collection: Collection) -> None:
    collection.upsert("texts", [text(str(i), vector=tuple(np.eye(4)[i])) for i in range(4)])
    queries = np.array([[1, 0, 0, 0], [0, 0.6, 0.8, 0]], dtype=np.float32)
    first, second = collection.search("texts", queries, 2, fields=["text"])
    assert (first[0][0]["id"], first[0][1]) == ("0", pytest.approx(1))
    assert [(row["id"], score) for row, score in second] == [
        ("2", pytest.approx(0.8)),
        ("1", pytest.approx(0.6)),
    ]
    assert first[0][0]["text"] == "a dog"
    ((found,),) = collection.search("texts", queries[1:], 1, offset=1)
    assert found[0]["id"] == "1"
    ((only, *_),) = collection.search("texts", queries[1:], 4, expression='id == "3"')
    assert only[0]["id"] == "3"


def test_a_row_larger_than_a_message_is_written(collection: Collection) -> None:
    """More rows than fit into one message, with the longest texts."""
    rows = [text(str(i), "犬" * 21_000) for i in range(90)]
    assert len(list(split_rows(rows, 1 << 20))) > 1
    collection.upsert("texts", rows)
    assert collection.count("texts") == 90


# ---- quoting


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
AWKWARD = st.text(st.sampled_from("ab%_\\\"'/\n\r\t\0{}é犬🐕\U0010ffff\ud7ff"), max_size=12)


@settings(max_examples=120)
@given(value=TEXTS | AWKWARD)
def test_a_quoted_text_means_itself(lasting: Collection, value: str) -> None:
    value = f"={value}"  # a key may not be empty
    lasting.upsert("files", [file(value)])
    found = lasting.query("files", f"path == {quote(value)}", ["path"], limit=10)
    assert [row["path"] for row in found] == [value]
    listed = lasting.query("files", f"path in [{quote(value)}]", ["path"], limit=10)
    assert [row["path"] for row in listed] == [value]
    lasting.delete("files", [value])
    assert lasting.get("files", [value]) == []


@settings(max_examples=60)
@given(prefix=TEXTS | AWKWARD, others=st.lists(TEXTS | AWKWARD, max_size=8))
def test_a_prefix_means_itself(lasting: Collection, prefix: str, others: list[str]) -> None:
    lasting.delete("files", [row["path"] for row in lasting.query("files", "", ["path"], 1_000)])
    paths = {f"={value}" for value in [*others, prefix, *(prefix + other for other in others)]}
    lasting.upsert("files", [file(path) for path in paths])
    found = lasting.query("files", begins("path", f"={prefix}"), ["path"], limit=100)
    assert {row["path"] for row in found} == {p for p in paths if p.startswith(f"={prefix}")}


# ---- batches


ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": st.text(max_size=40), "vector": st.integers(0, 20).map(np.ones)},
        optional={"captions": st.lists(st.text(max_size=20), max_size=5), "width": st.integers()},
    ),
    max_size=40,
)


@given(rows=ROWS, max_bytes=st.integers(1, 2_000), max_rows=st.integers(1, 20))
def test_batches_hold_all_rows_in_order_within_the_limits(
    rows: list[Row], max_bytes: int, max_rows: int
) -> None:
    batches = list(split_rows(rows, max_bytes, max_rows))
    assert [id(row) for batch in batches for row in batch] == [id(row) for row in rows]
    for batch in batches:
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or sum(map(row_bytes, batch)) <= max_bytes


@given(value=st.text())
def test_a_text_is_never_larger_than_it_is_counted(value: str) -> None:
    assert len(value.encode("utf-8", "replace")) <= row_bytes({"": value})


# ---- files and servers


def test_one_process_writes_while_others_read(tmp_path: Path) -> None:
    db = str(tmp_path / "test.db")
    child = in_another_process(
        "with Database(db) as store:\n"
        "    store.create('photos', Fingerprint('A', 'w', 4, 8, '{}'))\n"
        "    print('held', flush=True); input()",
        db,
    )
    with child, Database(db) as database:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        for _ in range(2):
            assert database.names() == ["photos"]
            with pytest.raises(StoreLockedError, match="open for writing in another process: wait"):
                database.check_writable()
            with pytest.raises(StoreLockedError, match="open for writing in another process"):
                database.create("drawings", FINGERPRINT)
        child.communicate("\n")
        database.check_writable()
        database.create("drawings", FINGERPRINT)
        assert database.names() == ["drawings", "photos"]


def test_a_closed_file_is_free_for_another_process(tmp_path: Path) -> None:
    db = str(tmp_path / "test.db")
    with Database(db) as database, Database(db) as again:
        database.create("photos", FINGERPRINT)
        again.close()
        assert database.names() == ["photos"]
    child = in_another_process("with Database(db) as store: print(store.names())", db)
    assert child.communicate()[0] == "['photos']\n"


def test_the_end_of_a_process_frees_the_file(tmp_path: Path) -> None:
    db = str(tmp_path / "test.db")
    child = in_another_process("import os; Database(db); os._exit(9)", db)
    assert child.wait() == 9
    with child, Database(db) as database:
        assert database.names() == []


def test_no_server_is_one_line() -> None:
    # Nothing listens on port 9 of this machine.
    with pytest.raises(StoreUnreachableError, match=r"http://127\.0\.0\.1:9 ") as refused:
        Database("http://127.0.0.1:9", timeout=0.5)
    assert "is it running" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["photos", "photos.sqlite", "", "localhost:19530"])
def test_a_file_of_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"ends in \.db .*http://host:19530"):
        Database(str(tmp_path / name) if name else "")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(b"SQLite format 3")
    with pytest.raises(UsageError, match=r"old\.db is not a Milvus Lite database"):
        Database(str(path))
    assert path.read_bytes() == b"SQLite format 3"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/new/test\.db cannot be created"):
        Database(str(tmp_path / "file" / "new" / "test.db"))


def test_addresses_and_paths_are_told_apart() -> None:
    assert is_server("http://localhost:19530")
    assert is_server("https://cloud.example")
    assert is_server("tcp://10.0.0.1:19530")
    assert not is_server("photos.db")
    assert not is_server("/data/http/photos.db")


@pytest.mark.parametrize(
    ("version", "lite", "hybrid", "half", "label"),
    [
        ("milvus_lite-3.2.1", True, True, False, "Milvus Lite 3.2.1"),
        ("v2.3.5", False, False, False, "Milvus server 2.3.5"),
        ("2.3.5-lite", False, False, False, "Milvus server 2.3.5-lite"),
        ("v2.4.1-dev", False, False, True, "Milvus server 2.4.1-dev"),
        ("2.6.2", False, True, True, "Milvus server 2.6.2"),
        ("3.0", False, True, True, "Milvus server 3.0"),
    ],
)
def test_what_a_server_can_do_is_read_off_its_version(
    version: str, lite: bool, hybrid: bool, half: bool, label: str
) -> None:
    can = Capabilities.of(version)
    assert (can.lite, can.hybrid, can.half_precision, can.label) == (lite, hybrid, half, label)
    assert "FLAT" in can.index_types
    assert ("HNSW" in can.index_types) is not lite


def test_paths_as_long_as_they_may_be(collection: Collection) -> None:
    collection.upsert("files", [file("é" * (MAX_PATH_BYTES // 2))])
    assert collection.count("files") == 1

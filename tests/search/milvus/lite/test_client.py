"""What is read from the files of Milvus Lite is what Milvus Lite itself answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinlens.search.errors import StoreError
from twinlens.search.filters import compile_filter
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.lite import snapshot
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import Kind, Row

DIM = 8
FINGERPRINT = Fingerprint("A", "w", DIM, 8, "{}")
KINDS: tuple[Kind, ...] = ("images", "texts")
IDS = [f"{n:032x}" for n in range(10)]
FILTERS = (
    "",
    "year == 2020",
    "year > 2019.5",
    'camera == "X 100"',
    'camera != "X 100"',
    'camera in ("X 100", "R5", "Ω")',
    "year is known",
    "year is unknown",
    'camera startswith "X"',
    'camera contains "1"',
    'path endswith "3.jpg"',
    "sharp == true",
    "not sharp == true or year < 2021",
    'mixed == 3 or mixed == "a"',
    "mixed is known and year != 2020",
    'path startswith "a/" and not (year == 2019 or sharp == true)',
)

values = st.fixed_dictionaries(
    {},
    optional={
        "year": st.sampled_from([2018, 2019, 2020, 2021]),
        "camera": st.sampled_from(["X 100", "R5", "Ω", 'q"']),
        "sharp": st.booleans(),
        "mixed": st.sampled_from(["a", 3, 4.5, True]),
    },
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.dictionaries(st.sampled_from(IDS), values, max_size=6)),
        st.tuples(st.just("delete"), st.lists(st.sampled_from(IDS), max_size=4)),
        st.tuples(st.just("flush"), st.none()),
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module", params=["", "anna"], ids=["plain", "tenants"])
def collection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collection]:
    path = tmp_path_factory.mktemp("lite") / "test.db"
    with Database(str(path)) as database:
        created = database.create("photos", FINGERPRINT, tenant=request.param)
        if request.param:
            rows = [row_of(key, {"year": 2020}, "images") for key in IDS]
            database.collection("photos", "otto").upsert("images", rows)
        yield created


def image_row(key: str, vector: np.ndarray, path: str) -> Row:
    return {
        "id": key, "vector": vector.astype(np.float32), "path": f"/{path}", "relative_path": path,
        "paths": [f"/{path}"], "captions": ["a picture"], "width": 4, "height": 3, "bytes": 9,
        "mtime": 1.5, "format": "PNG",
    }  # fmt: skip


def row_of(key: str, fields: dict[str, Any], kind: Kind) -> Row:
    number = IDS.index(key)
    vector = np.random.default_rng(number + 100 * len(fields)).normal(size=DIM)
    row = image_row(key, vector / np.linalg.norm(vector), f"{'ab'[number % 2]}/{number}.jpg")
    if kind == "texts":
        row = {name: row[name] for name in ("id", "vector", "path", "relative_path")}
        row |= {"text": f"text {number}", "image_id": ""}
    return row | fields


def of_lite(collection: Collection, kind: Kind, expression: str) -> list[dict[str, Any]]:
    """The rows that Milvus Lite itself returns, by id."""
    client = collection.client
    assert isinstance(client, LiteClient)
    name = collection.physical(kind)
    client.lite().load_collection(name)
    rows = client.lite().query(
        name, filter=collection.scope.where(kind, expression), output_fields=["*"], limit=1_000
    )
    return sorted((plain(dict(row)) for row in rows), key=lambda row: row["id"])


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"vector": np.asarray(row["vector"], dtype=np.float32).tolist()}


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(steps, st.sampled_from(KINDS))
def test_rows_are_those_of_milvus_lite(collection: Collection, todo: Any, kind: Kind) -> None:
    collection.delete(kind, IDS)
    everything = collection.fields(kind) | {
        "year": "integer", "camera": "text", "sharp": "boolean", "mixed": "mixed",
    }  # fmt: skip
    for what, argument in todo:
        if what == "upsert":
            collection.upsert(kind, [row_of(*one, kind) for one in argument.items()])
        elif what == "delete":
            collection.delete(kind, argument)
        else:
            collection.client.flush(collection.physical(kind))
    query = np.random.default_rng(len(todo)).normal(size=(2, DIM)).astype(np.float32)
    for text in FILTERS:
        expression = compile_filter(text, everything, collection.capabilities)
        expected = of_lite(collection, kind, expression)
        found = collection.query(kind, expression, ["*"], 1_000)
        assert sorted(map(plain, found), key=lambda row: row["id"]) == [
            collection.scope.decode(row) for row in expected
        ], text
        assert collection.count(kind, expression) == len(expected)
        pages = list(collection.scan(kind, ["id"], expression, batch=3))
        assert all(len(page) == 3 for page in pages[:-1])
        assert [row["id"] for page in pages for row in page] == [row["id"] for row in expected]
        for wanted, hits in zip(
            query, collection.search(kind, query, 4, expression=expression, offset=1), strict=True
        ):
            exact = {row["id"]: float(np.dot(row["vector"], wanted)) for row in expected}
            order = sorted(exact, key=lambda key: -exact[key])
            assert [row["id"] for row, _ in hits] == order[1:5]
            assert [score for _, score in hits] == pytest.approx(
                [exact[k] for k in order[1:5]], abs=1e-5
            )


def test_scores_and_words_are_ranked_as_milvus_lite_ranks_them(tmp_path: Path) -> None:
    with Database(str(tmp_path / "test.db")) as database:
        stored = database.create("photos", FINGERPRINT)
        random = np.random.default_rng(0)
        rows = []
        for number in range(300):
            vector = random.normal(size=DIM)
            row = image_row(f"{number:032x}", vector / np.linalg.norm(vector), f"{number}.jpg")
            words = random.choice(["dog", "cat", "a", "red", "house", "zebra"], size=5)
            rows.append(row | {"captions": [" ".join(words)]})
        stored.upsert("images", rows)
        stored.flush()
        client = stored.client
        assert isinstance(client, LiteClient)
        lite, name = client.lite(), stored.physical("images")
        query = random.normal(size=(3, DIM)).astype(np.float32)
        theirs = lite.search(
            name, data=list(query), anns_field="vector", limit=50, output_fields=["path"],
            search_params={"metric_type": "IP"},
        )  # fmt: skip
        for mine, other in zip(stored.search("images", query, 50), theirs, strict=True):
            assert [row["id"] for row, _ in mine] == [hit["id"] for hit in other]
            assert [s for _, s in mine] == pytest.approx([hit["distance"] for hit in other])
        ranked = lite.search(
            name, data=["a red dog"], anns_field="sparse", limit=20, output_fields=["path"],
            search_params={"metric_type": "BM25"},
        )[0]  # fmt: skip
        (mine,) = client.search(name, data=["a red dog"], anns_field="sparse", limit=20)
        # Milvus Lite has BM25 of lower values first.
        assert [hit["distance"] for hit in mine] == pytest.approx(
            [-hit["distance"] for hit in ranked], rel=1e-4
        )
        assert client.search(name, data=["nothing"], anns_field="sparse", limit=20) == [[]]


def test_what_other_processes_write_is_read_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "test.db")
    with Database(path) as writer, Database(path) as reader:
        writing = writer.create("photos", FINGERPRINT)
        reading = reader.collection("photos")
        assert reading.count("images") == 0
        for number, key in enumerate(IDS):
            writing.upsert("images", [row_of(key, {"year": number}, "images")])
            assert reading.count("images") == number + 1
            assert reading.query("images", f'id == "{key}"', ["year"], 1) == [
                {"id": key, "year": number}
            ]
            if number % 4 == 3:
                writing.flush()
        writing.delete("images", IDS[:5])
        assert reading.count("images") == 5
        writing.upsert("images", [row_of(IDS[0], {}, "images")])
        assert reading.count("images") == 6
        reading.check_open()
        assert isinstance(reader.client, LiteClient)
        assert not reader.client.is_writing
        writer.drop("photos")
        assert reader.names() == []
        with pytest.raises(StoreError):
            reading.count("images")


def test_a_row_is_replaced_as_a_whole(tmp_path: Path) -> None:
    with Database(str(tmp_path / "test.db")) as database:
        stored = database.create("photos", FINGERPRINT)
        stored.upsert("images", [row_of(IDS[0], {"year": 2020, "camera": "R5"}, "images")])
        stored.flush()
        stored.upsert("images", [row_of(IDS[0], {"year": 2021}, "images")])
        (row,) = stored.query("images", "", ["$meta"], 10)
        assert row == {"id": IDS[0], "year": 2021}
        assert stored.count("images") == 1


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of a few pictures that is not open, with its snapshot."""
    monkeypatch.setattr(snapshot, "MIN_ROWS", 1)
    path = tmp_path / "test.db"
    with Database(str(path)) as database:
        stored = database.create("photos", FINGERPRINT)
        stored.upsert("images", [row_of(key, {"year": 2020}, "images") for key in IDS])
    return path


def snapshots(path: Path) -> list[Path]:
    return sorted((path / "snapshot" / "photos_images_g1").iterdir())


def read(path: Path) -> list[str]:
    with Database(str(path)) as database:
        stored = database.collection("photos")
        return sorted(row["id"] for row in stored.query("images", "year == 2020", ["id"], 100))


def test_a_snapshot_is_left_when_a_database_is_closed(closed: Path) -> None:
    (made,) = snapshots(closed)
    assert made.suffix == ".arrow"
    assert read(closed) == IDS
    with Database(str(closed)) as database:
        assert database.collection("photos").info().snapshot_bytes >= made.stat().st_size


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other"])
def test_a_snapshot_that_is_gone_or_damaged_is_made_anew(closed: Path, damage: str) -> None:
    (made,) = snapshots(closed)
    good = made.read_bytes()
    if damage == "gone":
        shutil.rmtree(closed / "snapshot")
    elif damage == "other":
        made.write_bytes(good.replace(b"twinlens.stamp", b"twinlens.other"))
    else:
        made.write_bytes(good[: 0 if damage == "empty" else len(good) // 2])
    assert read(closed) == IDS
    assert made.read_bytes() == good


def test_a_snapshot_of_other_rows_is_not_believed(closed: Path) -> None:
    (made,) = snapshots(closed)
    old = made.read_bytes()
    with Database(str(closed)) as database:
        database.drop("photos")
        stored = database.create("photos", FINGERPRINT)
        stored.upsert("images", [row_of(key, {"year": 2020}, "images") for key in IDS[:5]]
                      + [row_of(key, {"year": 2021}, "images") for key in IDS[5:]])  # fmt: skip
    (made,) = snapshots(closed)
    made.write_bytes(old)
    assert read(closed) == IDS[:5]


def test_a_collection_that_was_created_again_is_read_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "test.db")
    with Database(path) as reader:
        for year in (2020, 2021):
            with Database(path) as writer:
                writer.drop("photos")
                stored = writer.create("photos", FINGERPRINT)
                rows = [row_of(key, {"year": year}, "images") for key in IDS]
                stored.upsert("images", rows)
            found = reader.collection("photos").query("images", 'id != ""', ["year"], 100)
            assert {row["year"] for row in found} == {year}


def test_a_database_that_cannot_be_written_to_is_read(closed: Path) -> None:
    shutil.rmtree(closed / "snapshot")
    (closed / "snapshot").write_text("in the way")
    assert read(closed) == IDS


def test_a_damaged_manifest_is_said_and_left_alone(closed: Path) -> None:
    manifest = closed / "collections" / "photos_images_g1" / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        read(closed)
    with (
        Database(str(closed)) as database,
        pytest.raises(StoreError, match=r"manifest\.json is damaged"),
    ):
        database.create("drawings", FINGERPRINT)
    data = list(manifest.parent.glob("partitions/_default/data/*"))
    assert len(data) == 1


def test_another_format_is_left_to_milvus_lite(closed: Path) -> None:
    manifest = closed / "collections" / "photos_images_g1" / "manifest.json"
    changed = json.loads(manifest.read_text()) | {"manifest_format_version": 99}
    manifest.write_text(json.dumps(changed))
    assert read(closed) == IDS
    with Database(str(closed)) as database:
        stored = database.collection("photos")
        assert stored.count("images") == len(IDS)
        assert isinstance(database.client, LiteClient)
        assert database.client.is_writing
        ((first, _),) = stored.search("images", row_of(IDS[3], {"y": 1}, "images")["vector"][None],
                                      1)[0]  # fmt: skip
        assert first["id"] == IDS[3]
        assert len([row for page in stored.scan("images", ["id"]) for row in page]) == len(IDS)


def test_reading_opens_neither_pymilvus_nor_milvus_lite(closed: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from twinlens.search.milvus.database import Database\n"
        f"with Database({os.fspath(closed)!r}) as database:\n"
        "    stored = database.collection('photos')\n"
        "    print(stored.count('images'), len(stored.get('images', ['0' * 32])))\n"
        "    print([name for name in ('pymilvus', 'milvus_lite', 'grpc', 'pandas')\n"
        "           if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["10 1", "[]"]

"""Tenants of one collection: each can read, change and delete only its own rows."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.colours import COLOURS, ColourEncoder, patient

import twinlens
from twinlens.ingest.transfer.diff import FIELDS, ORDER
from twinlens.search.errors import StoreError, TwinlensError, UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.records import KEY, TENANT, Row

HOSTILE = [
    "",
    " ",
    "a/b",
    "/",
    "alice/",
    'alice" or "" == "',
    "alice' or 1==1",
    "alice\n",
    "alice\\",
    "%",
    "..",
    "-alice",
    "ålice",
    "a" * 65,
    "alice\0",
]


@pytest.fixture
def shared(either: twinlens.Index, photos: Path, tmp_path: Path) -> twinlens.Index:
    """A collection with two tenants: both have the same red picture, and each another one."""
    for tenant, colour in (("alice", "green"), ("bob", "blue")):
        folder = tmp_path / tenant
        folder.mkdir()
        for name in ("red", colour):
            for ending in ("png", "txt"):
                shutil.copy(photos / f"{name}.{ending}", folder)
        (folder / f"{colour}.json").write_text(f'{{"secret_of_{tenant}": 7}}')
        either.for_tenant(tenant).ingest(folder)
    return either


def test_each_has_its_own(shared: twinlens.Index, tmp_path: Path) -> None:
    """In searches both ways, counts, filters, fields and scans, also for the same id."""
    assert shared.tenants() == ["alice", "bob"]
    assert shared.info().images == 4
    for tenant, own, other in (("alice", "green", "blue"), ("bob", "blue", "green")):
        index = shared.for_tenant(tenant)
        held = index.info()
        assert (held.images, held.texts, held.files) == (2, 2, 2)
        names = {Path(hit.path).name for hit in index.search("red", limit=100)}
        assert names == {"red.png", f"{own}.png"}
        texts = {hit.text for hit in index.search(image=tmp_path / tenant / "red.png",
                                                  target="texts", limit=100)}  # fmt: skip
        assert texts == {"a red picture", f"a {own} picture"}
        assert not index.search("red", where=f'path startswith "{other}"')
        assert len(index.search(f"a {own} one", where=f"secret_of_{tenant} == 7")) == 1
        assert f"secret_of_{'bob' if tenant == 'alice' else 'alice'}" not in index.fields()
        collection = index.engine.collection
        for kind in ORDER:
            for page in collection.scan(kind, ["*"]):
                for row in page:
                    assert KEY not in row
                    assert TENANT not in row
                    assert row["path"].startswith(str(tmp_path / tenant))
    alice, bob = shared.for_tenant("alice"), shared.for_tenant("bob")
    red = [index.search("red", limit=1)[0] for index in (alice, bob)]
    assert red[0].id == red[1].id
    assert red[0].path != red[1].path
    if alice.engine.collection.full_text:
        assert not alice.search("blue", mode="text")
        assert len(bob.search("blue", mode="hybrid", limit=10)) == 2


def test_the_whole_says_whose_rows_there_are(shared: twinlens.Index, tmp_path: Path) -> None:
    """Counts over all tenants exclude the ledger rows that describe tenants."""
    (tmp_path / "alice" / "broken.png").write_bytes(b"no picture")
    shared.for_tenant("alice").ingest(tmp_path / "alice")
    held = shared.info()
    assert (held.images, held.texts, held.files, held.failed) == (4, 4, 5, 1)
    assert held.tenants == ("alice", "bob")
    assert shared.for_tenant("bob").info().tenants is None, "which is not bob's business"
    assert shared.for_tenant("bob").info().failed == 0
    fields = shared._require_collection().fields("images", all_tenants=True)
    assert {"secret_of_alice", "secret_of_bob"} <= fields.keys()
    its = shared.for_tenant("bob").engine.collection
    assert its.fields("images", all_tenants=True) == its.fields("images")


def test_taking_out_of_one_leaves_the_other(shared: twinlens.Index, tmp_path: Path) -> None:
    alice, bob = shared.for_tenant("alice"), shared.for_tenant("bob")
    red = alice.search("red", limit=1)[0]
    alice.engine.collection.delete("images", [red.id])
    assert alice.info().images == 1
    assert bob.search("red", limit=1)[0].id == red.id
    # The ledger finds that it is gone, and what is there already is not encoded again.
    bob.delete(tmp_path / "alice")
    assert alice.info().files == 2
    (tmp_path / "bob" / "red.png").unlink()
    assert bob.ingest(tmp_path / "bob", prune=True).removed == 1
    assert bob.info().images == 1
    assert [Path(hit.path).name for hit in bob.search("red", limit=9)] == ["blue.png"]
    bob.drop()
    assert bob.info().images == 0
    assert bob.fields().keys() == alice.fields().keys() - {"secret_of_alice"}
    assert shared.tenants() == ["alice"]
    assert alice.info().texts == 2


@pytest.mark.parametrize("tenant", HOSTILE)
def test_who_is_no_tenant(tmp_path: Path, encoder: ColourEncoder, tenant: str) -> None:
    with Database(str(tmp_path / "a.db")) as database:
        if tenant:
            with pytest.raises(UsageError, match="is not a valid tenant name") as refused:
                database.create("photos", encoder.fingerprint, tenant=tenant)
            assert "\n" not in str(refused.value)
            assert database.client.list_collections() == []
        collection = database.create("photos", encoder.fingerprint, tenant="alice")
        with pytest.raises(UsageError, match="is not a valid tenant name"):
            collection.for_tenant(tenant)


def test_nobodys_rows(shared: twinlens.Index, tmp_path: Path) -> None:
    """Without a tenant reads and writes are refused; a tenant's index refuses other tenants."""
    collection = shared._require_collection()
    row = {"id": "0" * 32, "text": "", "image_id": "", "path": "", "relative_path": ""}
    row["vector"] = np.ones(16, dtype=np.float32) / 4
    for attempt in (
        lambda: shared.search("red"),
        lambda: shared.ingest(tmp_path / "alice"),
        lambda: shared.fields(),
        lambda: collection.count("images"),
        lambda: collection.get("images", ["1"]),
        lambda: collection.query("images", "", ["id"], 1),
        lambda: list(collection.scan("files", ["path"])),
        lambda: collection.search("images", row["vector"][None], 1),
        lambda: collection.upsert("texts", [row]),
        lambda: collection.insert("texts", [row]),
        lambda: collection.delete("texts", ["1"]),
        lambda: collection.delete_all(),
    ):
        with pytest.raises(UsageError, match="has tenants: name one"):
            attempt()
    alice = shared.for_tenant("alice")
    assert shared.for_tenant("alice") is alice
    with pytest.raises(UsageError, match="for the tenant alice only"):
        alice.for_tenant("bob")
    for whole in (alice.reindex, alice.rollback, alice.drop_old, alice.tenants):
        with pytest.raises(UsageError, match="for one tenant: leave the tenant out"):
            whole()


def test_a_collection_has_tenants_or_not(
    index: twinlens.Index, photos: Path, tmp_path: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    assert index.tenants() == []
    with pytest.raises(UsageError, match="has no tenants"):
        index.for_tenant("alice")
    with pytest.raises(UsageError, match="has no tenants"):
        twinlens.Index(index._database, index.collection, model=encoder, tenant="alice")
    described = index._database.client.describe_collection(f"{index.collection}_images")
    assert described["properties"]["twinlens.schema"] == "2"
    assert KEY not in {field["name"] for field in described["fields"]}


def test_rows_cannot_say_whose_they_are(shared: twinlens.Index) -> None:
    """Neither the columns of a row nor its id or path can make it another tenant's."""
    mallory = shared.for_tenant("mallory")._database.collection(shared.collection, "mallory")
    row = {
        "text": "mine", "image_id": "", "path": "bob/x", "relative_path": "",
        "vector": np.ones(16, dtype=np.float32) / 4, TENANT: "bob",
    }  # fmt: skip
    for number, key in enumerate(["bob/1", "/bob/", "../bob/2", 'x" or 1==1']):
        mallory.upsert("texts", [row | {"id": key, KEY: f"bob/{number}"}])
    assert mallory.count("texts") == 4
    assert {row["id"] for row in mallory.get("texts", ["bob/1", "/bob/"], ["id"])} == {
        "bob/1", "/bob/",
    }  # fmt: skip
    bob = shared.for_tenant("bob")
    assert bob.info().texts == 2
    assert not bob.engine.collection.get("texts", ["1", "0", "bob/1"])
    mallory.delete("texts", [hit.id for hit in bob.search("red", target="texts", limit=9)])
    assert bob.info().texts == 2
    mallory.delete_all()
    assert bob.info().texts == 2
    assert shared.tenants() == ["alice", "bob"]


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[twinlens.Index]:
    """Rows of two tenants on Milvus Lite, for many attempts to read them."""
    db = tmp_path_factory.mktemp("tenants") / "a.db"
    encoder = ColourEncoder()
    with twinlens.open(db, "photos", model=encoder) as index:
        for tenant in ("alice", "bob"):
            collection = index._database.create("photos", encoder.fingerprint, tenant=tenant)
            vectors = encoder.texts([f"{tenant} {colour}" for colour in COLOURS])
            collection.upsert("texts", [_text(f"{tenant}-{number}", tenant, vector)
                                    for number, vector in enumerate(vectors)])  # fmt: skip
        yield index


def _text(key: str, tenant: str, vector: np.ndarray) -> Row:
    return {
        "id": key, "text": f"secret of {tenant}", "image_id": tenant, "path": f"/{tenant}",
        "relative_path": "", "vector": vector, "owner": tenant, "level": 3,
    }  # fmt: skip


_pieces = st.sampled_from(
    [
        "twinlens_tenant", "twinlens_key", "owner", "level", "id", "path", "text", "image_id",
        '"bob"', '"bob/bob-1"', '"bob-1"', "3", "==", "!=", ">=", "in", "not", "and", "or", "(",
        ")", "[", "]", ",", "like", "contains", '"%"', "startswith", '"', "\\", "'", "exists",
        "true", "|", "||", "&&", "#", "--", ";",
    ]
)  # fmt: skip
_wheres = st.lists(_pieces, max_size=9).map(" ".join) | st.text(max_size=40)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=_wheres, key=_wheres, limit=st.integers(1, 50))
def test_no_filter_and_no_id_reaches_across(
    divided: twinlens.Index, where: str, key: str, limit: int
) -> None:
    """Filters, ids and paths that a user types give own rows or an error."""
    alice = divided.for_tenant("alice")
    with contextlib.suppress(TwinlensError):
        for hit in alice.search("red", target="texts", where=where, limit=limit):
            assert hit.text == "secret of alice"
    collection = alice.engine.collection
    for row in collection.get("texts", [key, where, f"bob/{key}", "bob-1"]):
        assert row["text"] == "secret of alice"
    with contextlib.suppress(TwinlensError):
        for hit in alice.search(like=[key or "bob-1"], target="texts"):
            assert hit.text == "secret of alice"
    collection.delete("texts", [key, "bob-1", "bob/bob-1", f'") or {TENANT} == "bob'])
    assert divided.for_tenant("bob").engine.collection.count("texts") == len(COLOURS)
    assert collection.count("texts") == len(COLOURS)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(expression=_wheres)
@example('id != "") or (id != ""')
@example(f'{TENANT} == "bob") or (id == ""')
@example("level > 0")
def test_an_expression_that_got_past_is_caught_on_its_way_back(
    divided: twinlens.Index, expression: str
) -> None:
    """Users cannot pass raw Milvus expressions. If they could, the rows would be checked again."""
    collection = divided.for_tenant("alice").engine.collection
    for attempt in _reads(collection, expression):
        try:
            rows = attempt()
        except StoreError:
            continue
        for row in rows:
            assert row["text"] == "secret of alice"


def _reads(collection: Collection, expression: str) -> list[Callable[[], list[Row]]]:
    fields = ["id", "text"]
    vector = np.ones((1, 16), dtype=np.float32) / 4
    return [
        lambda: collection.query("texts", expression, fields, 100),
        lambda: [row for page in collection.scan("texts", fields, expression) for row in page],
        lambda: [
            row
            for row, _ in collection.search(
                "texts", vector, 100, fields=fields, expression=expression
            )[0]
        ],
        lambda: collection.search_words(
            "texts", "secret", 100, fields=fields, expression=expression
        ),
    ]


@pytest.mark.parametrize("backend", ["lite", pytest.param("server", marks=patient)], indirect=True)
def test_another_model_for_all_tenants(
    shared: twinlens.Index, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    """Reindexed as a whole; a picture unreadable for one tenant is readable for another."""
    (tmp_path / "alice" / "red.png").unlink()
    report = shared.reindex(ColourEncoder("wider", dim=24))
    assert not report.switched
    assert [failure.uri for failure in report.failed] == [str(tmp_path / "alice" / "red.png")]
    report = shared.reindex(ColourEncoder("wider", dim=24), drop_unreadable=True)
    assert report.switched
    names = [
        {Path(hit.path).name for hit in _again(shared, tenant).search("red", limit=9)}
        for tenant in ("alice", "bob")
    ]
    assert names == [{"green.png"}, {"red.png", "blue.png"}]
    assert _again(shared, "alice").fields()["secret_of_alice"] == "integer"


def _again(index: twinlens.Index, tenant: str) -> twinlens.Index:
    return twinlens.Index(index._database, index.collection, model=ColourEncoder("wider", dim=24),
                          tenant=tenant)  # fmt: skip


def test_a_copy_has_the_same_tenants(shared: twinlens.Index, tmp_path: Path) -> None:
    with Database(str(tmp_path / "copy.db")) as target:
        from twinlens.ingest.transfer.copy import copy

        report = copy(shared._database, target, shared.collection, "copied")
        assert (report.images, report.texts, report.files) == (4, 4, 4)
        assert copy(shared._database, target, shared.collection, "copied").written == 0
        old, new = shared._require_collection(), target.collection("copied")
        assert new.tenants() == ["alice", "bob"]
        for part, beside in zip(old.per_tenant(), new.per_tenant(), strict=True):
            for kind in ORDER:
                assert _all(part, kind) == _all(beside, kind)
                assert part.fields(kind) == beside.fields(kind)


def _all(collection: Collection, kind: Any) -> list[Row]:
    rows = [row for page in collection.scan(kind, FIELDS[kind]) for row in page]
    return sorted(rows, key=lambda row: str(row["path"]) + str(row.get("id")))


def test_the_command_takes_a_tenant(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, encoder: ColourEncoder
) -> None:
    from twinlens.cli.options import CollectionOptions

    place = CollectionOptions(db=str(tmp_path / "a.db"), collection="photos", tenant="alice")
    with twinlens.open(place.db, "photos", model=encoder, tenant=place.tenant) as index:
        index.ingest(photos)
    with place.open() as index:
        assert index.info().images == 8
    with CollectionOptions(db=place.db, collection="photos", tenant="bob").open() as index:
        assert index.info().images == 0


def test_info_lists_the_tenants(
    tmp_path: Path, photos: Path, encoder: ColourEncoder, run: Callable[..., Any]
) -> None:
    db = str(tmp_path / "listed.db")
    for tenant, picture in (("alice", "red.png"), ("bob", "blue.png"), ("bob", "green.png")):
        with twinlens.open(db, "photos", model=encoder, tenant=tenant) as index:
            index.ingest(photos / picture)
    assert "photos: 2 tenants: alice, bob\n" in run("info", "--db", db)
    (one,) = map(json.loads, run("info", "--db", db, "--json").splitlines())
    assert (one["tenants"], one["images"]) == (["alice", "bob"], 3)
    (one,) = map(json.loads, run("info", "--db", db, "--tenant", "bob", "--json").splitlines())
    assert (one["tenants"], one["images"], one["texts"], one["files"]) == (None, 2, 2, 2)
    assert "no collection has rows of the tenant carol" in run(
        "info", "--db", db, "--tenant", "carol"
    )


def test_many_tenants_are_not_all_named(
    tmp_path: Path, encoder: ColourEncoder, run: Callable[..., Any]
) -> None:
    db = str(tmp_path / "many.db")
    with Database(db) as database:
        database.create("whole", encoder.fingerprint)
        collection = database.create("photos", encoder.fingerprint, tenant="t00")
        for number in range(23):
            collection.for_tenant(f"t{number:02}").upsert("files", [])
            collection.for_tenant(f"t{number:02}")._registry.add_tenant()
    shown = run("info", "--db", db)
    assert "photos: 23 tenants: t00, " in shown
    assert shown.endswith("t19 and 3 more\n")
    assert "whole: " not in shown


def test_info_passes_over_what_is_dropped_meanwhile(
    tmp_path: Path, encoder: ColourEncoder, run: Callable[..., Any], monkeypatch: Any
) -> None:
    db = str(tmp_path / "two.db")
    with Database(db) as database:
        for name in ("a", "b", "c"):
            database.create(name, encoder.fingerprint)
    names, info = Database.names, twinlens.Index.info
    monkeypatch.setattr(Database, "names", lambda database: [*names(database), "gone"])

    def dropped(index: twinlens.Index) -> Any:
        if index.collection == "b":
            index._database.drop("b")
        return info(index)

    monkeypatch.setattr(twinlens.Index, "info", dropped)
    lines = [json.loads(line)["name"] for line in run("info", "--db", db, "--json").splitlines()]
    assert lines == ["a", "c"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    from typer.testing import CliRunner

    from twinlens.cli import app

    monkeypatch.delenv("TWINLENS_TENANT", raising=False)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return str(result.output)

    return call

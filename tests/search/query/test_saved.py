"""Test saved searches: in Python, over HTTP, on the command line, and what carries them along."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.colours import ColourEncoder
from support.serving import READ, WRITE, bearer, paint, served, serving
from typer.testing import CliRunner

import twinlens
from twinlens import Id, Image, Not, Text, Vector
from twinlens.cli import app
from twinlens.search.errors import FilterError, StoreError, UsageError
from twinlens.search.milvus.database import Database
from twinlens.search.query import saved as saved_module
from twinlens.search.query.saved import SavedSearch

AnyIndex = twinlens.Index | twinlens.RemoteIndex


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = paint(tmp_path / "photos")
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder()) as index:
        index.ingest(folder)
    return folder


def names(index: AnyIndex) -> list[str]:
    return [one.name for one in index.saved_searches()]


def check(index: AnyIndex, photos: Path) -> None:
    """What saved searches do, however the collection is reached."""
    red, blue = (str(photos / f"{one}.png") for one in ("red", "blue"))
    assert index.saved_searches() == []
    query = [Text("orange", 2.0), Not("people", 0.3), Id(red)]
    saved = index.save_search("Warm,  mostly", query, unlike=[blue], where="width > 3", limit=3)
    index.save_search("äpfel/2", "green", mode="hybrid", target="texts")
    index.save_search("wide", where="width > 3")
    index.save_search("wide", where="width > 30")
    assert names(index) == ["Warm, mostly", "wide", "äpfel/2"]
    warm, wide, apples = index.saved_searches()
    assert warm == saved
    ids = {index.item(red).id, index.item(blue).id}
    assert set(warm.names()) == ids, "paths become ids"
    assert warm.query[:2] == (Text("orange", 2.0), Not("people", 0.3))
    found = index.search(warm.query, **warm.options)
    wanted = index.search(query, unlike=[blue], where="width > 3", limit=3)
    assert [hit.id for hit in found] == [hit.id for hit in wanted]
    assert (wide.query, wide.options) == ((), {"where": "width > 30"})
    assert apples.options == {"mode": "hybrid", "target": "texts"}
    for wrong in ({"query": ""}, {}, {"where": "nothing > 3"}, {"query": "a", "like": ["no.png"]},
                  {"query": Image(red)}, {"query": np.ones(16)}, {"query": Not(Vector([1.0] * 16))},
                  {"query": "a", "cursor": "x"}, {"query": "a", "offset": 3},
                  {"query": Not("a")}):  # fmt: skip
        with pytest.raises(UsageError):
            index.save_search("wrong", **wrong)  # type: ignore[arg-type]
    for name in ("", "  ", "x" * 101):
        with pytest.raises(UsageError, match="name"):
            index.save_search(name, "red")
    index.delete_saved_search("wide")
    with pytest.raises(UsageError, match="did you mean 'Warm, mostly'"):
        index.delete_saved_search("Warm mostly")
    assert names(index) == ["Warm, mostly", "äpfel/2"]
    index.save_search("wide", where="width > 3")
    assert names(index) == ["Warm, mostly", "wide", "äpfel/2"], "a deleted name can be used again"


def test_in_python(photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        check(index, photos)
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        assert names(index) == ["Warm, mostly", "wide", "äpfel/2"]
        assert index.check().health == "sound"


def test_over_http(photos: Path) -> None:
    with served(photos.parent / "x.db") as address, twinlens.connect(address) as there:
        check(there, photos)


def test_a_filter_is_checked_when_it_is_saved(photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        with pytest.raises(FilterError, match="there is no field nothing"):
            index.save_search("x", where="nothing > 3")
        assert names(index) == []


def test_on_a_server_and_in_a_copy(photos: Path, server: str) -> None:
    name = f"saved_{uuid.uuid4().hex[:12]}"
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.save_search("reds", "red", where="width > 3")
        before = index.saved_searches()
    try:
        twinlens.copy(photos.parent / "x.db", server, to=name)
        with twinlens.open(server, name, model=ColourEncoder()) as index:
            assert index.saved_searches() == before
            index.delete_saved_search("reds")
            assert names(index) == []
            index.save_search("blues", "blue")
            assert names(index) == ["blues"]
        with (
            twinlens.open(server, name, model=ColourEncoder()) as index,
            twinlens.open(server, name, model=ColourEncoder()) as other,
            ThreadPoolExecutor(2) as pool,
        ):
            assert names(index) == ["blues"]
            for number in range(3):
                wanted = [pool.submit(one.save_search, f"{at} {number}", "red")
                          for at, one in enumerate((index, other))]  # fmt: skip
                assert len([one.result() for one in wanted]) == 2
            assert len(names(index)) == 7, "none was lost"
    finally:
        with Database(server) as database:
            database.drop(name)


def test_a_new_generation_has_them_and_the_one_before_gets_them_back(photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.save_search("one", "red")
        index.reindex(ColourEncoder("other"))
        assert names(index) == ["one"]
        index.delete_saved_search("one")
        index.save_search("two", "red")
        index.rollback()
        assert names(index) == ["two"]


def test_nothing_is_saved_into_a_generation_that_is_about_to_be_replaced(photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.engine.collection.set_state(frozen=True)
        with pytest.raises(StoreError, match="being reindexed"):
            index.save_search("late", "red")


def test_copies_exports_and_backups_have_them(photos: Path) -> None:
    home = photos.parent
    with twinlens.open(home / "x.db", model=ColourEncoder()) as index:
        index.save_search("reds", ["red", Not("people")], where="width > 3")
        before = index.saved_searches()
        index.export(home / "export")
    twinlens.copy(home / "x.db", home / "copy.db")
    twinlens.backup(home / "backups", home / "x.db")
    twinlens.restore(home / "backups", home / "restored.db")
    with twinlens.open(home / "imported.db", model=ColourEncoder()) as index:
        index.import_(home / "export")
        assert index.saved_searches() == before
    for name in ("copy.db", "restored.db"):
        with twinlens.open(home / name, model=ColourEncoder()) as index:
            assert index.saved_searches() == before


def test_an_export_of_before_is_imported(photos: Path) -> None:
    home = photos.parent
    with twinlens.open(home / "x.db", model=ColourEncoder()) as index:
        index.export(home / "export")
    manifest = home / "export" / "twinlens-export.json"
    written = json.loads(manifest.read_text())
    del written["searches"]
    manifest.write_text(json.dumps(written))
    with twinlens.open(home / "imported.db", model=ColourEncoder()) as index:
        assert index.import_(home / "export").images == 8
        assert names(index) == []


@pytest.fixture
def tenants(tmp_path: Path) -> Path:
    db = tmp_path / "tenants.db"
    for tenant in ("acme", "bolt"):
        with twinlens.open(db, model=ColourEncoder(), tenant=tenant) as index:
            index.ingest(paint(tmp_path / tenant))
            index.save_search(f"of {tenant}", "red", where="width > 3")
            index.save_search("both", tenant)
    return db


def test_a_tenant_sees_its_own_only(tenants: Path) -> None:
    copy, exported = tenants.with_name("copy.db"), tenants.with_name("export")
    twinlens.copy(tenants, copy)
    for db in (tenants, copy):
        for tenant in ("acme", "bolt"):
            with twinlens.open(db, model=ColourEncoder(), tenant=tenant) as index:
                assert names(index) == ["both", f"of {tenant}"]
                assert index.saved_searches()[0].query == (Text(tenant),)
                assert (index.info().images, index.info().files) == (8, 8)
    with twinlens.open(tenants, model=ColourEncoder(), tenant="acme") as index:
        index.export(exported)
        index.delete_saved_search("both")
        assert names(index) == ["of acme"]
        index.drop()
    with twinlens.open(tenants, model=ColourEncoder(), tenant="bolt") as index:
        assert names(index) == ["both", "of bolt"]
    with twinlens.open(tenants, model=ColourEncoder(), tenant="acme") as index:
        assert names(index) == []
        with pytest.raises(UsageError, match="ingest first"):
            index.save_search("early", "red")
        index.import_(exported)
        assert names(index) == ["both", "of acme"]
    with twinlens.open(tenants, model=ColourEncoder()) as index:
        with pytest.raises(UsageError, match="has tenants: name one"):
            index.saved_searches()
        assert index.reindex(ColourEncoder("other")).switched
        assert index.for_tenant("bolt").saved_searches()[0].query == (Text("bolt"),)
        assert index.check().health == "sound"


def test_tenants_over_http(tenants: Path) -> None:
    acme, bolt = "a:write:acme-key-0123456789:acme", "b:read:bolt-key-0123456789:bolt"
    with serving(tenants, keys=(acme, bolt)) as client:
        found = {
            entry: [
                one["name"]
                for one in client.get("/v1/searches", headers=bearer(entry)).json()["searches"]
            ]
            for entry in (acme, bolt)
        }
    assert found == {acme: ["both", "of acme"], bolt: ["both", "of bolt"]}


def test_a_read_key_changes_nothing(photos: Path) -> None:
    with serving(photos.parent / "x.db", keys=(READ, WRITE)) as client:
        sent = {"name": "reds", "search": {"query": ["red", {"not": "people"}]}}
        gone = "/v1/searches?name=reds"
        assert client.put("/v1/searches", json=sent, headers=bearer(READ)).status_code == 403
        assert client.put("/v1/searches", json=sent, headers=bearer(WRITE)).json() == sent
        (listed,) = client.get("/v1/searches", headers=bearer(READ)).json()["searches"]
        assert listed == sent
        body = listed["search"]
        assert client.post("/v1/search", json=body, headers=bearer(READ)).status_code == 200
        assert client.delete(gone, headers=bearer(READ)).status_code == 403
        assert client.delete(gone, headers=bearer(WRITE)).status_code == 204
        assert client.delete(gone, headers=bearer(WRITE)).status_code == 400
        picture = {"name": "x", "search": {"query": {"image": {"base64": "aaaa"}}}}
        refused = client.put("/v1/searches", json=picture, headers=bearer(WRITE))
        assert "cannot be saved" in refused.json()["detail"]
        for wrong in ({"cursor": "x"}, {"offset": 2}, {"words": "x"}):
            body = {"name": "x", "search": {"query": "red", **wrong}}
            assert client.put("/v1/searches", json=body, headers=bearer(WRITE)).status_code == 422


def test_two_writers_lose_nothing(photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        failed: list[BaseException] = []

        def save(writer: int) -> None:
            try:
                for number in range(5):
                    index.save_search(f"{writer} {number}", "red")
                    index.save_search("the same", f"red {writer}")
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

        threads = [threading.Thread(target=save, args=(writer,)) for writer in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        wanted = [f"{writer} {number}" for writer in range(3) for number in range(5)]
        assert names(index) == [*wanted, "the same"]


def test_their_number_and_size_are_bounded(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_module, "MAX_SAVED", 2)
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.save_search("one", "red")
        index.save_search("two", "red")
        index.save_search("two", "blue")
        with pytest.raises(UsageError, match="at most 2 saved searches"):
            index.save_search("three", "red")
        with pytest.raises(UsageError, match="at most 16,000 bytes"):
            index.save_search("two", ["a" * 9_000, "b" * 9_000])
        monkeypatch.setattr(saved_module, "MAX_ALL_BYTES", 100)
        with pytest.raises(UsageError, match="at most 100 bytes"):
            index.save_search("two", "a" * 100)


@pytest.mark.parametrize("text", [
    " ", "3", "{}", '{"name": "a", "search": {"query": [3]}}',
    '{"name": "a", "search": {"query": ["a"], "later": 1}}',
])  # fmt: skip
def test_one_that_cannot_be_read_is_said_and_hides_no_other(
    text: str, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.save_search("good", "red")
        index.engine.collection.saved.put({"f" * 32: text})
        assert names(index) == ["good"]
        assert "a saved search cannot be read" in caplog.text


@pytest.mark.parametrize("search", [
    SavedSearch.of("a", "red"),
    SavedSearch.of("a", [Text("red", 2.5), Not("x"), Not(Id("y"), 0.25), Id("z", 3.0)]),
    SavedSearch.of("a", like=["x"], unlike=("y", "z"), min_relevance=0.5, collapse=0.9),
    SavedSearch.of("a", where="year > 3", include_held=True, limit=5),
])  # fmt: skip
def test_it_is_the_same_after_json(search: SavedSearch) -> None:
    assert SavedSearch.from_text(search.to_text()) == search
    assert hash(SavedSearch.from_text(search.to_text())) == hash(search)


def test_on_the_command_line(photos: Path) -> None:
    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--db", address])
        assert result.exit_code == 0, result.output
        return result

    reds = ["red", "--not", "people", "--where", "width > 3", "-n2"]
    with served(photos.parent / "x.db") as address:
        assert run("search", *reds, "--save", "reds").stderr.strip() == "saved as 'reds'"
        assert run("saved").stdout == "reds: red, not people, limit 2, where width > 3\n"
        wanted = {"query": ["red", {"not": "people"}], "where": "width > 3", "limit": 2}
        listed = json.loads(run("saved", "--json").stdout)
        assert listed == {"name": "reds", "search": wanted}
        found = run("search", "--saved", "reds", "--paths").stdout
        assert found == run("search", *reds, "--paths").stdout
        assert len(run("search", "--saved", "reds", "-n5", "--paths").stdout.splitlines()) == 5
        blue = f"{photos / 'blue.png'}\n"
        narrow = ("--where", "path endswith 'blue.png'")
        assert run("search", "--saved", "reds", *narrow, "--paths").stdout == blue
        assert run("search", "--saved", "reds", "blue@9", "-n1", "--paths").stdout == blue
        run("search", "--saved", "reds", "blue@9", "-n3", "--save", "blues")
        blues = "blues: red, not people, blue@9, limit 3, where width > 3\n"
        assert run("saved").stdout.startswith(blues)
        assert run("saved", "--remove", "reds").stdout == "deleted the saved search 'reds'\n"
        assert run("saved").stdout == blues


@pytest.mark.parametrize(("arguments", "said"), [
    (["search", "--saved", "nothing"], "there is no saved search 'nothing'"),
    (["search", "--saved", "wide"], "has only a filter"),
    (["search", "--image", "a.png", "--save", "x"], "cannot be saved"),
    (["search", "--queries", "a.txt", "--save", "x"], "--queries has several queries"),
    (["saved", "--remove", "wid"], "did you mean 'wide'"),
])  # fmt: skip
def test_mistakes_on_the_command_line(arguments: list[str], said: str, photos: Path) -> None:
    with twinlens.open(photos.parent / "x.db", model=ColourEncoder()) as index:
        index.save_search("wide", where="width > 3")
    result = CliRunner().invoke(app, [*arguments, "--db", str(photos.parent / "x.db")])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)

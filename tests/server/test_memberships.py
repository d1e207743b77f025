"""A tenant sees only the collections that it has rows in, and may not make any number of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.serving import READ, WRITE, bearer, paint, serving

import twinlens
from twinlens.search.errors import UsageError
from twinlens.search.milvus.database import Database
from twinlens.server.memberships import Memberships

ACME = f"acme:write:{'1' * 16}:acme"
BOLT = f"bolt:write:{'2' * 16}:bolt"
ALL = (READ, WRITE, ACME, BOLT)
TEXT = {"uri": "note", "kind": "text", "captions": ["a red picture"]}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    limits = {"max_collections": 5, "max_tenant_collections": 2}
    with serving(tmp_path / "members.db", keys=ALL, **limits) as opened:
        yield opened


def store(client: TestClient, entry: str, name: str, **more: Any) -> int:
    body = {"items": [TEXT], "collection": name} | more
    return int(client.post("/v1/items", json=body, headers=bearer(entry)).status_code)


def names(client: TestClient, entry: str) -> list[str]:
    answer = client.get("/v1/collections", headers=bearer(entry))
    return [one["name"] for one in answer.json()["collections"]]


def test_a_tenant_sees_its_own_collections_only(client: TestClient) -> None:
    assert store(client, ACME, "of_acme") == store(client, BOLT, "of_bolt") == 200
    assert store(client, WRITE, "of_nobody") == 200
    assert names(client, ACME) == ["of_acme"]
    assert names(client, BOLT) == ["of_bolt"]
    assert names(client, READ) == ["of_acme", "of_bolt", "of_nobody"]
    for name in ("of_bolt", "of_nobody", "none"):
        body = {"query": "red", "collection": name}
        for method, path, sent in (
            ("GET", f"/v1/collections/{name}", None),
            ("DELETE", f"/v1/collections/{name}", None),
            ("POST", "/v1/search", body),
            ("POST", "/v1/embed", {"texts": ["a"], "collection": name}),
            ("POST", "/v1/items/delete", {"paths": ["note"], "collection": name}),
            ("GET", f"/v1/map?collection={name}", None),
            ("GET", f"/v1/items?collection={name}", None),
        ):
            answer = client.request(method, path, json=sent, headers=bearer(ACME))
            told = {key: value for key, value in answer.json().items() if key != "instance"}
            assert (answer.status_code, told["detail"]) == (404, "there is no such collection")
    answer = client.post("/v1/search", json=body | {"collection": "of_acme"}, headers=bearer(ACME))
    assert answer.status_code == 200


def test_the_default_collection_answers_a_tenant_that_has_nothing_yet(client: TestClient) -> None:
    """Its name is no secret, and a page that finds nothing says so better than an error."""
    assert store(client, BOLT, "twinlens") == 200
    found = client.post("/v1/search", json={"query": "red"}, headers=bearer(ACME))
    assert (found.status_code, found.json()["hits"]) == (200, [])
    assert names(client, ACME) == []


def test_a_tenant_may_not_make_any_number_of_collections(client: TestClient) -> None:
    assert [store(client, ACME, f"c{n}") for n in range(4)] == [200, 200, 400, 400]
    assert names(client, ACME) == ["c0", "c1"]
    assert store(client, ACME, "c1") == 200  # its own it may use
    assert store(client, BOLT, "c0") == 200
    assert store(client, BOLT, "c1") == 200
    assert store(client, BOLT, "b0") == 400  # those of others count, too
    assert client.delete("/v1/collections/c0", headers=bearer(ACME)).status_code == 204
    assert store(client, ACME, "c2") == 200
    body = {"items": [TEXT], "collection": "c3"}
    told = client.post("/v1/items", json=body, headers=bearer(ACME)).json()
    assert (told["type"], told["detail"][:35]) == (
        "/problems/usage",
        "this key's tenant has 2 collections",
    )
    assert store(client, ACME, "c3", dry_run=True) == 200


def test_the_server_has_a_limited_number_of_collections(client: TestClient) -> None:
    assert [store(client, WRITE, f"c{n}") for n in range(6)] == [200] * 5 + [400]
    assert store(client, WRITE, "c0") == 200
    assert store(client, ACME, "new") == 400


def test_a_collection_goes_with_its_last_tenant(client: TestClient) -> None:
    """Otherwise a tenant could make a new one after each deletion."""
    for _ in range(3):
        assert store(client, ACME, "c0") == store(client, BOLT, "c0") == 200
        assert client.delete("/v1/collections/c0", headers=bearer(ACME)).status_code == 204
        assert names(client, READ) == ["c0"]
        assert client.delete("/v1/collections/c0", headers=bearer(ACME)).status_code == 404
        assert client.delete("/v1/collections/c0", headers=bearer(BOLT)).status_code == 204
        assert names(client, READ) == []
    assert store(client, ACME, "twinlens") == 200
    assert client.delete("/v1/collections/twinlens", headers=bearer(ACME)).status_code == 204
    assert names(client, READ) == ["twinlens"]  # its index and model are the operator's choice


def test_a_tenant_cannot_use_a_collection_without_tenants(client: TestClient) -> None:
    assert store(client, WRITE, "whole") == 200
    body = {"items": [TEXT], "collection": "whole"}
    answer = client.post("/v1/items", json=body, headers=bearer(ACME))
    assert answer.status_code == 400
    assert "choose another name" in answer.json()["detail"]


def test_the_limits_hold_for_writes_at_the_same_time(tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos")
    with twinlens.open(tmp_path / "many.db", "c0", model=ColourEncoder(), tenant="acme") as index:
        index.ingest(photos / "red.png")
    database = Database(str(tmp_path / "many.db"))
    memberships = Memberships(database)
    inside, most, refused = [0], [0], []

    def join(number: int) -> None:
        try:
            with memberships.joining(f"n{number}", "acme", most=9, most_of_tenant=2):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1
        except UsageError as error:
            refused.append(error)

    try:
        threads = [threading.Thread(target=join, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (most[0], refused) == (1, [])
        with pytest.raises(UsageError, match="has 1 collections"):
            memberships.joining("n", "acme", most=9, most_of_tenant=1).__enter__()
    finally:
        database.close()

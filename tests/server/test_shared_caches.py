"""What is cached for a tenant, or of a collection that is gone, is never another's answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.policies import RULES
from support.serving import bearer, paint, serving

import twinlens
from twinlens.ingest.upload import Upload
from twinlens.search.analysis.policy.file import read_policy
from twinlens.search.errors import UsageError
from twinlens.search.records import image_id

ACME = f"acme:write:{'1' * 16}:acme"
BOLT = f"bolt:write:{'2' * 16}:bolt"
TENANTS = {"acme": ("red", "green", "white"), "bolt": ("blue", "yellow", "black")}
POLICY = {"name": "rules", "version": "1", "concepts": {"red": {"texts": ["red"]}}}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return paint(tmp_path / "photos")


@pytest.fixture
def client(tmp_path: Path, photos: Path) -> Iterator[TestClient]:
    """A server of one collection with different pictures of two tenants."""
    for tenant, colours in TENANTS.items():
        with twinlens.open(tmp_path / "caches.db", model=ColourEncoder(), tenant=tenant) as index:
            index.ingest(*(photos / f"{colour}.png" for colour in colours))
    with serving(tmp_path / "caches.db", keys=(ACME, BOLT)) as opened:
        yield opened


def get(client: TestClient, entry: str, path: str, **headers: str) -> Any:
    return client.get(path, headers=bearer(entry) | headers)


def post(client: TestClient, entry: str, path: str, body: dict[str, Any]) -> Any:
    return client.post(path, json=body, headers=bearer(entry))


def id_of(photos: Path, colour: str) -> str:
    return image_id((photos / f"{colour}.png").read_bytes())


def drawn(client: TestClient, entry: str, **headers: str) -> Any:
    while (answer := get(client, entry, "/v1/map", **headers)).status_code == 202:
        pass
    return answer


def test_pictures(client: TestClient, photos: Path) -> None:
    """Thumbnails are cached by the hash of the picture, and browsers send its ETag."""
    red, blue = id_of(photos, "red"), id_of(photos, "blue")
    for kind in ("thumbnail", "image"):
        first = get(client, ACME, f"/v1/items/{red}/{kind}")
        assert first.status_code == 200
        assert get(client, ACME, f"/v1/items/{red}/{kind}").content == first.content
        tag = {"If-None-Match": first.headers["etag"]}
        assert get(client, ACME, f"/v1/items/{red}/{kind}", **tag).status_code == 304
        for headers in ({}, tag, {"If-None-Match": "*"}):
            assert get(client, BOLT, f"/v1/items/{red}/{kind}", **headers).status_code == 404
        assert get(client, BOLT, f"/v1/items/{blue}/{kind}", **tag).status_code == 200
        assert first.headers["cache-control"].startswith("private")


def test_searches(client: TestClient) -> None:
    """The embedding of a query is cached for all; a cursor holds what was shown."""
    for _ in range(2):
        for entry, tenant in ((ACME, "acme"), (BOLT, "bolt")):
            answer = post(client, entry, "/v1/search", {"query": "red", "limit": 9}).json()
            assert {Path(hit["path"]).stem for hit in answer["hits"]} == {*TENANTS[tenant]}
    asked = {"query": "red", "limit": 1, "with_cursor": True}
    cursor = post(client, ACME, "/v1/search", asked).json()["cursor"]
    answer = post(client, BOLT, "/v1/search", {"cursor": cursor, "limit": 9})
    assert answer.status_code == 200
    found = {Path(hit["path"]).stem for hit in answer.json()["hits"]}
    assert found
    assert found <= {*TENANTS["bolt"]}


def test_maps(client: TestClient, photos: Path) -> None:
    first, second = drawn(client, ACME), drawn(client, BOLT)
    assert (first.status_code, second.status_code) == (200, 200)
    assert bytes.fromhex(id_of(photos, "red")) in first.content
    assert bytes.fromhex(id_of(photos, "red")) not in second.content
    tag = {"If-None-Match": first.headers["etag"]}
    assert drawn(client, ACME, **tag).status_code == 304
    assert drawn(client, BOLT, **tag).status_code == 200
    placed = post(client, BOLT, "/v1/map/pictures", {"ids": [id_of(photos, "red")]})
    assert placed.json() == {"pictures": {}}


def test_counts_descriptions_and_policies(client: TestClient, photos: Path) -> None:
    red, blue = id_of(photos, "red"), id_of(photos, "blue")
    for entry, own, other in ((ACME, red, blue), (BOLT, blue, red)):
        (listed,) = get(client, entry, "/v1/collections").json()["collections"]
        assert (listed["images"], listed["tenants"]) == (3, None)
        assert post(client, entry, "/v1/describe", {"ids": [own]}).status_code == 200
        assert post(client, entry, "/v1/describe", {"ids": [other]}).status_code == 400
        body = {"labels": ["red", "blue"], "ids": [other]}
        assert post(client, entry, "/v1/classify", body).status_code == 400
    policy = post(client, ACME, "/v1/policies", {"policy": POLICY}).json()["policy"]
    items = [{"uri": "a", "kind": "text", "captions": ["a"]}]
    body = {"items": items, "policy": policy}
    assert post(client, ACME, "/v1/items", body).status_code == 200
    assert post(client, BOLT, "/v1/items", body).status_code == 400


def test_a_collection_that_was_dropped_and_made_again(client: TestClient, photos: Path) -> None:
    note = {"items": [{"uri": "a", "kind": "text", "captions": ["a red note"]}], "collection": "c"}
    assert post(client, ACME, "/v1/items", note).status_code == 200
    asked = {"query": "red", "target": "texts", "collection": "c"}
    assert len(post(client, ACME, "/v1/search", asked).json()["hits"]) == 1
    policy = post(client, ACME, "/v1/policies", {"policy": POLICY, "collection": "c"}).json()
    assert client.delete("/v1/collections/c", headers=bearer(ACME)).status_code == 204
    note["items"][0]["captions"] = ["a blue note"]  # type: ignore[index]
    assert post(client, BOLT, "/v1/items", note).status_code == 200
    (hit,) = post(client, BOLT, "/v1/search", asked).json()["hits"]
    assert hit["text"] == "a blue note"
    assert post(client, ACME, "/v1/search", asked).status_code == 404
    told = post(client, ACME, "/v1/items", note | {"policy": policy["policy"]})
    assert (told.status_code, "send it to /v1/policies" in told.text) == (400, True)


def test_a_policy_of_another_model_judges_nothing(tmp_path: Path, photos: Path) -> None:
    """The collection may have been made again with another model since the policy was sent."""
    (tmp_path / "rules.toml").write_text(RULES)
    policy = read_policy(str(tmp_path / "rules.toml"))
    with twinlens.open(tmp_path / "one.db", model=ColourEncoder("old")) as index:
        index.ingest(photos)
        judge = index.open_judge(policy)
    with twinlens.open(tmp_path / "two.db", model=ColourEncoder("new")) as index:
        index.ingest(photos)
        judge.check_model(ColourEncoder("old").fingerprint)
        with pytest.raises(UsageError, match="for another model than new"):
            index.intake(judge).put([Upload("a", kind="text", captions=("a",))])

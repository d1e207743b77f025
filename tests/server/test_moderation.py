"""Moderation over HTTP: policies for uploads, the review, and who sees what is held back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder
from support.serving import READ, WRITE, bearer, paint, served, serving

import twinlens
from twinlens.search.errors import UnsupportedError, UsageError

RULES = """
version = 1
[concepts.red]
texts = ["red"]
examples = ["photos/red.png"]
false_alarms = 0.1
action = "hold"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and a policy."""
    folder = tmp_path_factory.mktemp("moderation")
    paint(folder / "photos")
    (folder / "rules.toml").write_text(RULES)
    return folder


@pytest.fixture(scope="module")
def client(place: Path) -> Iterator[TestClient]:
    """A server that requires keys, over a moderated collection."""
    db = place / "moderated.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(place / "photos", policy=place / "rules.toml")
    with serving(db, keys=(READ, WRITE)) as opened:
        yield opened


def get(client: TestClient, path: str, key: str = WRITE) -> Any:
    return client.get(path, headers=bearer(key))


def post(client: TestClient, path: str, body: dict[str, Any], key: str = WRITE) -> Any:
    return client.post(path, json=body, headers=bearer(key))


def red(client: TestClient) -> str:
    (one,) = get(client, "/v1/items?where=held == true").json()["items"]
    return str(one["id"])


def test_only_write_keys_see_what_is_held_back(client: TestClient) -> None:
    key = red(client)
    text = get(client, f"/v1/items/{key}").json()["texts"][0]["id"]
    for path in (f"/v1/items/{key}", f"/v1/items/{key}/thumbnail", f"/v1/items/{key}/image",
                 f"/v1/items/{text}", f"/v1/items/{text}/thumbnail"):  # fmt: skip
        assert get(client, path).status_code == 200, path
        assert get(client, path, READ).status_code == 404, path
    assert get(client, "/v1/items?where=held == true", READ).json()["items"] == []
    assert len(get(client, "/v1/items", READ).json()["items"]) == len(COLOURS) - 1
    assert len(get(client, "/v1/items").json()["items"]) == len(COLOURS)
    for path, body in [
        ("/v1/classify", {"labels": ["red", "blue"], "ids": [key]}),
        ("/v1/match", {"texts": ["red"], "ids": [key]}),
        ("/v1/match", {"pairs": [{"text": "red", "id": key}]}),
        ("/v1/describe", {"ids": [key]}),
    ]:
        assert post(client, path, body).status_code == 200, path
        assert post(client, path, body, READ).status_code == 404, path


def test_searches_leave_it_out(client: TestClient) -> None:
    key = red(client)

    def found(**body: Any) -> set[str]:
        answer = post(client, "/v1/search", {"query": "red", "limit": 20, **body})
        return {hit["image_id"] for hit in answer.json()["hits"]}

    assert len(found()) == len(COLOURS) - 1
    assert key not in found() | found(target="texts")
    assert key in found(include_held=True) & found(include_held=True, target="texts")
    for path, query in (
        ("/v1/search", {"query": "red"}),
        ("/v1/search/many", {"queries": ["red"]}),
    ):
        refused = post(client, path, {**query, "include_held": True}, READ)
        assert refused.status_code == 403
        assert "scope write" in refused.json()["detail"]


def test_it_is_not_on_the_map(client: TestClient) -> None:
    key = red(client)
    assert bytes.fromhex(key) not in get(client, "/v1/map").content
    answer = post(client, "/v1/map/pictures", {"ids": [key]})
    assert answer.json() == {"pictures": {}}


def test_the_review_is_for_write_keys(client: TestClient) -> None:
    key = red(client)
    assert get(client, "/v1/review", READ).status_code == 403
    body = {"ids": [key], "decision": "released"}
    assert post(client, "/v1/review", body, READ).status_code == 403
    (item,) = get(client, "/v1/review").json()["items"]
    assert item["id"] == key
    assert item["flags"][0]["concept"] == "red"
    assert item["policy"] == "rules@1"
    assert item["held"]
    assert get(client, item["thumbnail"]).status_code == 200
    assert post(client, "/v1/review", body).json() == {"decided": 1}
    assert get(client, "/v1/review").json() == {"items": [], "next": ""}
    assert get(client, f"/v1/items/{key}", READ).status_code == 200
    assert get(client, f"/v1/items/{key}/thumbnail", READ).status_code == 200
    (decided,) = get(client, "/v1/review?state=decided").json()["items"]
    assert decided["review"] == "released"
    assert post(client, "/v1/review", body | {"decision": "held"}).json() == {"decided": 1}
    assert get(client, f"/v1/items/{key}", READ).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"ids": ["0" * 32], "decision": "held"}, 400, "no picture with the id"),
        ({"ids": [], "decision": "held"}, 422, "ids"),
        ({"ids": ["0" * 32], "decision": "delete"}, 422, "decision"),
    ],
)
def test_a_wrong_decision_is_refused(
    client: TestClient, body: dict[str, Any], status: int, says: str
) -> None:
    answer = post(client, "/v1/review", body)
    assert answer.status_code == status
    assert says in answer.text


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({}, "version is missing"),
        ({"name": "a", "version": "1", "concepts": {"a": {"examples": [3]}}}, "of the files"),
        ({"name": "a", "version": "1", "concepts": {"a": {"examples": ["/etc/passwd"]}}}, "files"),
        ({"name": "../a", "version": "1", "concepts": {"a": {"texts": ["x"]}}}, "name must be"),
    ],
)
def test_a_wrong_policy_is_refused(client: TestClient, policy: Any, says: str) -> None:
    answer = post(client, "/v1/policies", {"policy": policy})
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


def test_uploads_are_judged(place: Path, tmp_path: Path) -> None:
    with served(tmp_path / "uploads.db", keys=(WRITE,)) as url:
        key = WRITE.split(":")[2]
        with twinlens.connect(url, key=key) as index:
            report = index.ingest(place / "photos", policy=place / "rules.toml")
            assert (report.images, report.flagged, report.held) == (len(COLOURS), 1, 1)
            assert len(index.search("red", limit=20)) == len(COLOURS) - 1
            (held,) = index.review()
            assert held.flags[0][0] == "red"
            assert index.decide("released", held.id) == 1
            assert len(index.search("red", limit=20)) == len(COLOURS)
            assert index.review() == []
            with pytest.raises(UnsupportedError, match="moderate does not work over HTTP"):
                index.moderate(place / "rules.toml")
        with twinlens.connect(url, key=key) as index, pytest.raises(UsageError, match="policy"):
            index._uploads.put([], policy="0123")

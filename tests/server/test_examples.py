"""``/v1/examples``: the searches on the start screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.serving import READ, bearer, painted_db, serving

from twinlens.search.query.hits import Hit, Hits
from twinlens.server.routes import examples
from twinlens.server.routes.examples import DEPTH, EXAMPLES, choose


def _hits(*found: tuple[str, float], far: bool = False) -> Hits:
    hits = [
        Hit("images", name, 0.3, f"/{name}.jpg", image_id=name, relevance=relevance,
            metadata={"width": 40, "height": 30})
        for name, relevance in found
    ]  # fmt: skip
    return Hits(hits, nothing_close=far)


def test_the_most_relevant_come_first_and_no_picture_twice() -> None:
    results = [Hits() for _ in EXAMPLES]
    results[0] = _hits(("a", 0.5), ("b", 0.45))
    results[1] = _hits(("a", 0.9))
    results[2] = _hits(("c", 0.39))
    results[3] = _hits(("d", 0.95), far=True)
    results[4] = _hits(("a", 0.41), ("b", 0.1))
    chosen = choose(results, "photos")
    assert [(one["words"], one["id"]) for one in chosen] == [
        (EXAMPLES[1], "a"), (EXAMPLES[0], "b")
    ]  # fmt: skip
    assert chosen[0]["thumbnail"] == "/v1/items/a/thumbnail?collection=photos"
    assert (chosen[0]["width"], chosen[0]["height"]) == (40, 30)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return painted_db(tmp_path)


def _ask(client: TestClient, **headers: str) -> list[str]:
    answer = client.get("/v1/examples", headers=headers)
    assert answer.status_code == 200, answer.text
    return [one["words"] for one in answer.json()["examples"]]


def test_examples_are_searched_once_until_something_is_written(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("a red picture", "a blue picture", "a green picture")
    monkeypatch.setattr(examples, "EXAMPLES", words)
    monkeypatch.setattr(examples, "MIN_RELEVANCE", 0.0)
    encoder = ColourEncoder()
    with serving(db, encoder) as client:
        assert sorted(_ask(client)) == sorted(words)
        seen = encoder.texts_seen
        assert seen >= len(words)
        assert sorted(_ask(client)) == sorted(words)
        assert encoder.texts_seen == seen
        red = client.post("/v1/search", json={"query": "red", "limit": 1}).json()["hits"][0]
        assert client.delete(f"/v1/items/{red['id']}").status_code == 200
        ids = {one["id"] for one in client.get("/v1/examples").json()["examples"]}
        assert red["id"] not in ids
        assert client.get("/v1/examples?collection=other").status_code == 404
    assert DEPTH > 1


def test_examples_need_a_key_where_searches_do(db: Path) -> None:
    with serving(db, keys=(READ,)) as client:
        assert client.get("/v1/examples").status_code == 401
        assert client.get("/v1/examples", headers=bearer(READ)).status_code == 200

"""Searching over HTTP by words, images, ids and vectors, alone and together."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder
from support.serving import paint, serving

import twinlens
from twinlens.search.records import image_id


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("served") / "photos")


@pytest.fixture(scope="module")
def client(photos: Path) -> Iterator[TestClient]:
    db = photos.parent / "served.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with serving(db) as opened:
        yield opened


def found(client: TestClient, **asked: Any) -> list[str]:
    """The names of the pictures that a query finds."""
    answer = client.post("/v1/search", json=asked)
    assert answer.status_code == 200, answer.text
    return [Path(hit["path"]).stem for hit in answer.json()["hits"]]


def picture(photos: Path, colour: str) -> dict[str, Any]:
    data = (photos / f"{colour}.png").read_bytes()
    return {"image": {"base64": base64.b64encode(data).decode()}}


def test_words_find_pictures(client: TestClient, photos: Path) -> None:
    answer = client.post("/v1/search", json={"query": "a red picture", "limit": 2})
    said = answer.json()
    (first, second) = said["hits"]
    key = image_id((photos / "red.png").read_bytes())
    assert first["path"] == str(photos / "red.png")
    assert first["id"] == first["image_id"] == key
    assert first["score"] > second["score"]
    assert first["captions"] == ["a red picture"]
    assert first["thumbnail"] == f"/v1/items/{key}/thumbnail?collection=twinlens"
    assert first["image"] == f"/v1/items/{key}/image?collection=twinlens"
    assert said["collection"] == "twinlens"
    assert said["cursor"] == ""
    assert said["took_ms"] > 0
    assert answer.headers["cache-control"] == "no-store"


def test_hits_are_those_of_the_library(client: TestClient) -> None:
    over_http = client.post("/v1/search", json={"query": "a blue picture", "limit": 3}).json()
    ctx = client.app.state.context  # type: ignore[attr-defined]
    hits = ctx.library.index().engine.search("a blue picture", limit=3)
    shown = [hit.to_dict() for hit in hits]
    assert [{name: hit[name] for name in shown[0]} for hit in over_http["hits"]] == shown


def test_a_picture_finds_pictures_and_texts(client: TestClient, photos: Path) -> None:
    assert found(client, query=picture(photos, "green"), limit=1) == ["green"]
    answer = client.post(
        "/v1/search", json={"query": picture(photos, "green"), "target": "texts", "limit": 1}
    )
    (hit,) = answer.json()["hits"]
    assert hit["text"] == "a green picture"
    assert hit["image_id"] == image_id((photos / "green.png").read_bytes())


def test_parts_count_together(client: TestClient, photos: Path) -> None:
    asked = [{"text": "a red picture", "weight": 0.2}, "a blue picture", {"not": "a red picture"}]
    assert found(client, query=asked, limit=1) == ["blue"]
    asked = [picture(photos, "white"), {"not": {"text": "white"}, "weight": 2}, "yellow"]
    assert found(client, query=asked, limit=1) == ["yellow"]


def test_items_similar_to_a_stored_one(client: TestClient, photos: Path) -> None:
    key = image_id((photos / "red.png").read_bytes())
    nearest = found(client, query={"id": key}, limit=1)
    assert nearest == found(client, like=[key], limit=1)
    assert nearest[0] != "red"  # nobody asks for what they have
    assert found(client, query="black", unlike=[key], limit=1) == ["black"]


def test_a_vector_finds_its_row(client: TestClient, photos: Path) -> None:
    key = image_id((photos / "orange.png").read_bytes())
    vector = client.get(f"/v1/items/{key}?vector=true").json()["vector"]
    assert found(client, query={"vector": vector}, limit=1) == ["orange"]
    refused = client.post("/v1/search", json={"query": {"vector": vector[:-1]}})
    assert refused.status_code == 400
    assert "16 finite numbers" in refused.json()["detail"]


def test_images_in_a_form(client: TestClient, photos: Path) -> None:
    red, blue = ((photos / f"{colour}.png").read_bytes() for colour in ("red", "blue"))
    alone = client.post("/v1/search", files={"image": ("red.png", red, "image/png")})
    assert Path(alone.json()["hits"][0]["path"]).stem == "red"
    request = {"query": [{"image": {"file": 1}, "weight": 9}], "limit": 1}
    both = client.post(
        "/v1/search",
        data={"request": json.dumps(request)},
        files=[("image", ("a.png", red)), ("image", ("b.png", blue))],
    )
    assert [Path(hit["path"]).stem for hit in both.json()["hits"]] == ["blue"]
    without = {"query": [{"image": {"file": 1}}, {"not": {"image": {"file": 0}}}], "limit": 1}
    less = client.post(
        "/v1/search",
        data={"request": json.dumps(without)},
        files=[("image", ("a.png", red)), ("image", ("b.png", blue))],
    )
    assert [Path(hit["path"]).stem for hit in less.json()["hits"]] == ["blue"]


def test_a_cursor_continues_a_search(client: TestClient) -> None:
    asked = {"query": "a red picture", "limit": 3, "with_cursor": True}
    first = client.post("/v1/search", json=asked).json()
    assert 0 < len(first["cursor"]) < 300
    second = client.post("/v1/search", json={"cursor": first["cursor"], "limit": 5}).json()
    ids = [hit["id"] for hit in first["hits"] + second["hits"]]
    assert len(set(ids)) == len(COLOURS)
    changed = client.post("/v1/search", json={"cursor": first["cursor"], "target": "texts"})
    assert changed.status_code == 400
    assert "another search" in changed.json()["detail"]


def test_filters_and_offsets(client: TestClient) -> None:
    assert found(client, query="a red picture", where='path endswith "blue.png"') == ["blue"]
    whole = found(client, query="a red picture", limit=4)
    assert found(client, query="a red picture", limit=2, offset=2) == whole[2:]
    wrong = client.post("/v1/search", json={"query": "red", "where": "yeer > 3"})
    assert wrong.status_code == 400
    assert wrong.json()["type"] == "/problems/filter"
    assert "yeer" in wrong.json()["detail"]


def test_full_text_search(client: TestClient) -> None:
    assert found(client, query="purple", mode="text") == ["purple"]
    assert found(client, query="purple", mode="hybrid", limit=1) == ["purple"]


def test_many_queries_at_once(client: TestClient, photos: Path) -> None:
    queries: list[Any] = ["a red picture", picture(photos, "blue"), ["green", {"not": "red"}]]
    said = client.post("/v1/search/many", json={"queries": queries, "limit": 1}).json()
    stems = [[Path(hit["path"]).stem for hit in one["hits"]] for one in said["results"]]
    assert stems == [["red"], ["blue"], ["green"]]
    assert said["collection"] == "twinlens"
    refused = client.post("/v1/search/many", json={"queries": ["red", {"id": "nobody"}]})
    assert refused.status_code == 400
    assert "nobody" in refused.json()["detail"]
    much = client.post("/v1/search/many", json={"queries": ["red"] * 11, "limit": 1_000})
    assert much.status_code == 400
    assert "10,000 hits" in much.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({}, 400, "the query is empty"),
        ({"query": ""}, 422, "query"),
        ({"query": "  "}, 400, "empty"),
        ({"query": []}, 400, "the query is empty"),
        ({"query": [{"not": "red"}]}, 400, "needs something to find"),
        ({"query": "x" * 10_001}, 422, "10000"),
        ({"query": 5}, 422, "query"),
        ({"query": {"text": "red", "wieght": 2}}, 422, "wieght"),
        ({"query": {"text": "red", "weight": 0}}, 422, "greater than 0"),
        ({"query": {"text": "red", "weight": 1e9}}, 422, "less than or equal"),
        ({"query": {"txt": "red"}}, 422, "text, image, id, vector, not"),
        ({"query": {"image": {"path": "/etc/passwd"}}}, 422, "base64, file, url"),
        ({"query": {"image": "/etc/passwd"}}, 422, "base64, file, url"),
        ({"query": {"image": {"base64": "?" * 8}}}, 400, "not valid base64"),
        ({"query": {"image": {"file": 0}}}, 400, "no file 0"),
        ({"query": {"image": {"url": "http://a.b/"}}}, 400, "does not fetch images from URLs"),
        ({"query": {"image": {"base64": base64.b64encode(b"<svg/>").decode()}}}, 422, "not an"),
        ({"query": {"id": "../../etc/passwd"}}, 400, "nothing with the id or path"),
        ({"query": {"id": "a\u0000b"}}, 400, "nothing with the id or path"),
        ({"query": {"not": {"not": "red"}}}, 422, "text, image, id, vector"),
        ({"query": ["red"] * 65}, 422, "64"),
        ({"query": "red", "limit": 0}, 422, "limit"),
        ({"query": "red", "limit": 1_001}, 422, "limit"),
        ({"query": "red", "limit": 10**30}, 422, "limit"),
        ({"query": "red", "limit": "5"}, 422, "limit"),
        ({"query": "red", "limit": 2.5}, 422, "limit"),
        ({"query": "red", "limit": True}, 422, "limit"),
        ({"query": "red", "offset": -1}, 422, "offset"),
        ({"query": "red", "offset": 10**9}, 422, "offset"),
        ({"query": "red", "target": "files"}, 422, "target"),
        ({"query": "red", "mode": "magic"}, 422, "mode"),
        ({"query": "red", "min_score": 2}, 422, "min_score"),
        ({"query": "red", "collapse": 0}, 422, "collapse"),
        ({"query": "red", "cursor": "nonsense"}, 400, "cursor"),
        ({"cursor": "nonsense"}, 400, "cursor"),
        ({"query": "red", "collection": "nobody"}, 404, "nobody"),
        ({"query": "red", "collection": "no/body"}, 400, "is not a valid collection name"),
        ({"query": "red", "like": "an id"}, 422, "like"),
        ({"query": "red", "surprise": 1}, 422, "surprise"),
        ({"query": {"vector": ["a"]}}, 422, "vector"),
        ({"query": {"vector": [0.0] * 16}}, 400, "not all zero"),
    ],
)
def test_errors_are_one_line(
    client: TestClient, asked: dict[str, Any], status: int, says: str
) -> None:
    answer = client.post("/v1/search", json=asked)
    said = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said["status"] == status
    assert said["instance"] == "/v1/search"
    assert says in said["detail"] + str(said.get("errors", ""))
    assert "\n" not in said["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b'{"query": "\xff"}', 400),
        (b'{"query": "\\ud800"}', 400),
        (b"[" * 100_000, 400),
        (b'{"query":' * 50_000, 400),
        (b'{"query": "red", "min_score": NaN}', 400),
        (b'{"query": "red", "min_score": -Infinity}', 400),
        (b'{"query": {"vector": [1e999]}}', 422),
        (b'{"query": "red", "limit": ' + b"9" * 5_000 + b"}", 400),
        (b"null", 422),
        (b'"red"', 422),
        (b"[]", 422),
    ],
)
def test_malformed_bodies(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 5_000


def test_bodies_of_another_media_type(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.post("/v1/search", content=b"query=red", headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["type"]) == (415, "/problems/media-type")


def test_malformed_forms(client: TestClient, photos: Path) -> None:
    red = (photos / "red.png").read_bytes()
    broken = client.post(
        "/v1/search",
        content=b"--x\r\nContent-Disposition: nothing\r\n\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert broken.status_code == 400
    unbounded = client.post(
        "/v1/search", content=b"", headers={"Content-Type": "multipart/form-data"}
    )
    assert unbounded.status_code == 400
    many = client.post("/v1/search", files=[("image", ("a.png", red))] * 9)
    assert many.status_code == 400
    assert "8" in many.json()["detail"]
    strange = client.post("/v1/search", files={"picture": ("a.png", red)})
    assert strange.status_code == 422
    assert "picture" in strange.json()["detail"]
    twice = client.post(
        "/v1/search", files=[("request", (None, b"{}")), ("request", (None, b"{}"))]
    )
    assert twice.status_code == 422


def test_a_decompression_bomb(client: TestClient) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9))
    for path in ("/v1/search", "/v1/embed"):
        answer = client.post(path, files={"image": ("bomb.png", bomb)})
        assert answer.status_code == 422
        assert answer.json()["type"] == "/problems/image"
        assert "pixels" in answer.json()["detail"]


def test_collapse_without_hits(client: TestClient) -> None:
    assert found(client, query="unheard-of", mode="text", collapse=0.5) == []

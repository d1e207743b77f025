"""The other routes: collections, items, embeddings, labels, health, metrics."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder
from support.serving import paint, serving

import twinlens
from twinlens.index import Index
from twinlens.search.records import image_id
from twinlens.server.openai_errors import speaks_openai
from twinlens.server.routes import collections
from twinlens.server.tei_errors import speaks_tei


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("routes") / "photos")


@pytest.fixture(scope="module")
def client(photos: Path) -> Iterator[TestClient]:
    db = photos.parent / "routes.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with serving(db) as opened:
        yield opened


@pytest.fixture
def own(tmp_path: Path, photos: Path) -> Iterator[TestClient]:
    """A server that a test may change."""
    db = tmp_path / "own.db"
    for name in ("twinlens", "other"):
        with twinlens.open(db, name, model=ColourEncoder()) as index:
            index.ingest(photos)
    with serving(db) as opened:
        yield opened


def bytes_of(photos: Path, colour: str) -> bytes:
    return (photos / f"{colour}.png").read_bytes()


def id_of(photos: Path, colour: str) -> str:
    return image_id(bytes_of(photos, colour))


def test_health(client: TestClient) -> None:
    said = client.get("/healthz").json()
    assert said == {"service": "twinlens", "version": twinlens.__version__, "status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ok"
    assert ready.json()["backend"].startswith("Milvus Lite")


def test_a_server_that_is_stopping_is_not_ready(own: TestClient) -> None:
    own.app.state.context.state.stopping = True  # type: ignore[attr-defined]
    answer = own.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "stopping")
    assert answer.headers["connection"] == "close"


def test_collections_are_described(client: TestClient) -> None:
    said = client.get("/v1/collections").json()
    (one,) = said["collections"]
    assert said["default"] == one["name"] == "twinlens"
    assert (one["images"], one["texts"], one["failed"]) == (len(COLOURS), len(COLOURS), 0)
    assert one["model"]["label"] == "colours:none"
    assert one["model"]["dim"] == 16
    assert one["model"]["digest"] == ColourEncoder().fingerprint.digest
    assert one["fields"]["images"]["path"] == "path"
    assert one["modes"] == ["dense", "hybrid", "text"]
    assert client.get("/v1/collections/twinlens").json() == one


def test_collections_are_counted_concurrently_and_cached(
    own: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    both = threading.Barrier(2)
    info = Index.info

    def slowly(self: Index) -> Any:
        counted.append(self.collection)
        if len(counted) <= 2:
            both.wait(10)
        return info(self)

    monkeypatch.setattr(Index, "info", slowly)
    monkeypatch.setattr(collections, "CACHE_SECONDS", 60.0)
    first = own.get("/v1/collections").json()
    assert sorted(counted) == ["other", "twinlens"]
    assert own.get("/v1/collections").json() == first
    assert len(counted) == 2
    own.delete(f"/v1/items/{id_of(photos, 'red')}?collection=other")
    after = {one["name"]: one["images"] for one in own.get("/v1/collections").json()["collections"]}
    assert after == {"other": len(COLOURS) - 1, "twinlens": len(COLOURS)}
    monkeypatch.setattr(collections, "CACHE_SECONDS", 0.0)
    before = len(counted)
    own.get("/v1/collections")
    assert len(counted) == before + 2


def test_a_collection_can_be_dropped(own: TestClient, photos: Path) -> None:
    assert own.delete("/v1/collections/other").status_code == 204
    assert [one["name"] for one in own.get("/v1/collections").json()["collections"]] == ["twinlens"]
    assert own.get("/v1/collections/other").status_code == 404
    assert own.delete("/v1/collections/other").status_code == 404
    assert own.post("/v1/search", json={"query": "red"}).status_code == 200
    assert (photos / "red.png").is_file()


def test_missing_collections_are_not_found(client: TestClient) -> None:
    for path, status in (("nobody", 404), ("no%2Fbody", 404), ("..", 404), ("1st", 400)):
        answer = client.get(f"/v1/collections/{path}")
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_an_item_has_all_its_fields(client: TestClient, photos: Path) -> None:
    key = id_of(photos, "red")
    said = client.get(f"/v1/items/{key}").json()
    assert (said["id"], said["image_id"], said["target"]) == (key, key, "images")
    assert said["path"] == str(photos / "red.png")
    assert said["relative_path"] == "red.png"
    assert said["paths"] == [str(photos / "red.png")]
    assert said["captions"] == ["a red picture"]
    assert [one["text"] for one in said["texts"]] == ["a red picture"]
    assert said["metadata"]["width"] == 40
    assert said["collection"] == "twinlens"
    assert said["thumbnail"] == f"/v1/items/{key}/thumbnail?collection=twinlens"
    assert "vector" not in said
    text = client.get(f"/v1/items/{said['texts'][0]['id']}").json()
    assert (text["target"], text["text"], text["image_id"]) == ("texts", "a red picture", key)


def test_an_items_vector_is_of_length_one(client: TestClient, photos: Path) -> None:
    vector = client.get(f"/v1/items/{id_of(photos, 'red')}?vector=true").json()["vector"]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "key",
    ["0" * 32, "x", "..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..", "%00", "a" * 5_000, "%ff",
     'a"%20or%20id%20!=%20"'],
)  # fmt: skip
def test_missing_items_are_not_found(client: TestClient, key: str) -> None:
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"/v1/items/{key}")
        assert answer.status_code in (404, 405, 422), answer.text
        assert answer.headers["content-type"] == "application/problem+json"


def test_an_item_is_not_found_by_its_path(client: TestClient, photos: Path) -> None:
    assert client.get("/v1/items/red.png").status_code == 404


def test_items_can_be_deleted(own: TestClient, photos: Path) -> None:
    key = id_of(photos, "red")
    assert own.delete(f"/v1/items/{key}?collection=other").json()["deleted"] == 1
    assert own.get(f"/v1/items/{key}?collection=other").status_code == 404
    assert own.delete(f"/v1/items/{key}?collection=other").status_code == 404
    assert own.get(f"/v1/items/{key}").status_code == 200
    hits = own.post("/v1/search", json={"query": "a red picture", "collection": "other"}).json()
    assert key not in [hit["id"] for hit in hits["hits"]]
    assert (photos / "red.png").is_file()


def test_a_pictures_text_is_not_deleted_alone(own: TestClient, photos: Path) -> None:
    (text,) = own.get(f"/v1/items/{id_of(photos, 'red')}").json()["texts"]
    answer = own.delete(f"/v1/items/{text['id']}")
    assert answer.status_code == 400
    assert own.get(f"/v1/items/{text['id']}").status_code == 200


def test_texts_are_embedded(client: TestClient) -> None:
    said = client.post("/v1/embed", json={"texts": ["red", "blue"]}).json()
    assert (said["model"], said["dim"]) == ("colours:none", 16)
    assert np.allclose(said["vectors"], ColourEncoder().texts(["red", "blue"]))


def test_pictures_are_embedded(client: TestClient, photos: Path) -> None:
    red, blue = bytes_of(photos, "red"), bytes_of(photos, "blue")
    in_json = {"images": [{"base64": base64.b64encode(red).decode()}]}
    (first,) = client.post("/v1/embed", json=in_json).json()["vectors"]
    stored = client.get(f"/v1/items/{id_of(photos, 'red')}?vector=true").json()["vector"]
    assert np.allclose(first, stored)
    both = client.post("/v1/embed", files=[("image", ("a", red)), ("image", ("b", blue))])
    assert np.allclose(both.json()["vectors"][0], first)
    assert len(both.json()["vectors"]) == 2


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 400),
        ({"texts": []}, 400),
        ({"texts": ["a"] * 65}, 422),
        ({"texts": [""]}, 422),
        ({"texts": [1]}, 422),
        ({"texts": ["a"], "images": [{"base64": "aaaa"}]}, 400),
        ({"images": [{"base64": "!!!!"}]}, 400),
        ({"images": [{"base64": "aaaa"}]}, 422),
        ({"images": [{"url": "http://127.0.0.1"}]}, 400),
        ({"texts": ["a"], "collection": "nobody"}, 404),
    ],
)
def test_what_cannot_be_embedded(client: TestClient, asked: dict[str, Any], status: int) -> None:
    answer = client.post("/v1/embed", json=asked)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_stored_and_sent_pictures_are_classified(client: TestClient, photos: Path) -> None:
    sent = base64.b64encode(bytes_of(photos, "blue")).decode()
    broken = base64.b64encode(b"nothing").decode()
    asked = {
        "labels": ["red", "blue"],
        "ids": [id_of(photos, "red")],
        "images": [{"base64": sent}, {"base64": broken}],
        "top": 1,
    }
    first, second, third = client.post("/v1/classify", json=asked).json()["results"]
    assert (first["id"], first["labels"][0]["label"]) == (id_of(photos, "red"), "red")
    assert (second["index"], second["labels"][0]["label"]) == (0, "blue")
    assert second["labels"][0]["probability"] > 0.9
    assert third["index"] == 1
    assert "not an image" in third["error"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"labels": ["red", "blue"]}, 400),
        ({"labels": ["red"], "ids": ["0" * 32]}, 422),
        ({"labels": ["red", "red"], "ids": ["0" * 32]}, 400),
        ({"labels": ["red", "blue"], "ids": ["0" * 32]}, 400),
        ({"labels": ["red", "blue"], "ids": ["../x"]}, 400),
        ({"labels": ["red", "blue"], "ids": ["0" * 32], "templates": ["none"]}, 400),
        ({"labels": ["red", "blue"], "ids": ["0" * 32], "top": 0}, 422),
        ({"labels": [f"{n}" for n in range(2_000)], "ids": ["0" * 32]}, 400),
        ({"labels": ["a"] * 10_001, "ids": ["0" * 32]}, 422),
    ],
)
def test_what_cannot_be_classified(client: TestClient, asked: dict[str, Any], status: int) -> None:
    answer = client.post("/v1/classify", json=asked)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_stored_and_sent_pictures_are_matched(client: TestClient, photos: Path) -> None:
    broken = base64.b64encode(b"nothing").decode()
    asked = {
        "texts": ["a red picture", "a blue picture"],
        "ids": [id_of(photos, "red")],
        "images": [{"base64": broken}],
        "references": ["so red"],
    }
    files = {"image": bytes_of(photos, "blue")}
    answer = client.post("/v1/match", data={"request": json.dumps(asked)}, files=files).json()
    assert answer["model"] == "colours:none"
    stored, failed, sent = answer["results"]
    assert (stored["id"], failed["index"], sent["index"]) == (id_of(photos, "red"), 0, 1)
    assert [one["verdict"] for one in stored["matches"]] == ["match", "mismatch"]
    assert [one["verdict"] for one in sent["matches"]] == ["mismatch", "match"]
    assert sum(one["probability"] for one in sent["matches"]) == pytest.approx(1)
    assert stored["matches"][0]["ref_clip_score"] > sent["matches"][1]["ref_clip_score"]
    assert "not an image" in failed["error"]
    assert set(stored["matches"][0]) == {
        "text", "cosine", "match", "verdict", "probability", "clip_score", "ref_clip_score"
    }  # fmt: skip


def test_pairs_are_matched_each_by_itself(client: TestClient, photos: Path) -> None:
    asked = {
        "pairs": [
            {"image": {"file": 0}, "text": "a blue picture"},
            {"id": id_of(photos, "red"), "text": "a blue picture"},
            {"image": {"file": 0}, "text": "a red picture"},
        ]
    }
    files = {"image": bytes_of(photos, "blue")}
    results = client.post("/v1/match", data={"request": json.dumps(asked)}, files=files).json()
    first, second, third = results["results"]
    assert (first["index"], second["id"], third["index"]) == (0, id_of(photos, "red"), 2)
    verdicts = [one["matches"][0]["verdict"] for one in (first, second, third)]
    assert verdicts == ["match", "mismatch", "mismatch"]
    assert first["matches"][0]["probability"] is None


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"texts": ["red"]}, 400, "or the ids of stored pictures"),
        ({"ids": ["0" * 32]}, 400, "send texts"),
        ({"texts": ["red"], "ids": ["0" * 32]}, 400, "nothing with the id"),
        ({"texts": [" "], "ids": ["ID"]}, 400, "a text to match is empty"),
        ({"texts": [""], "ids": ["ID"]}, 422, ""),
        ({"texts": [f"{n}" for n in range(6_000)], "ids": ["ID", "ID"]}, 400, "at most 10000"),
        ({"texts": ["red"], "ids": ["ID"] * 65}, 422, ""),
        ({"pairs": [{"text": "red"}]}, 400, "either an image or the id"),
        ({"pairs": [{"text": "red", "id": "ID"}], "texts": ["red"]}, 400, "not both"),
        ({"pairs": [{"text": "red", "id": "ID", "label": 1}]}, 422, ""),
        ({"texts": ["red"], "ids": ["ID"], "references": ["x"] * 65}, 422, ""),
    ],
)
def test_what_cannot_be_matched(
    client: TestClient, photos: Path, asked: dict[str, Any], status: int, said: str
) -> None:
    body = json.dumps(asked).replace("ID", id_of(photos, "red"))
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/match", content=body, headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_a_file_that_no_pair_names_is_refused(client: TestClient, photos: Path) -> None:
    asked = {"pairs": [{"id": id_of(photos, "red"), "text": "red"}]}
    files = {"image": bytes_of(photos, "blue")}
    answer = client.post("/v1/match", data={"request": json.dumps(asked)}, files=files)
    assert (answer.status_code, "no pair names" in answer.json()["detail"]) == (400, True)


def test_metrics_count_requests(own: TestClient) -> None:
    own.post("/v1/search", json={"query": "red"})
    own.post("/v1/search", json={})
    own.get("/nowhere")
    answer = own.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    page = answer.text
    searched = 'method="POST",route="/v1/search",status='
    assert f'twinlens_request_seconds_count{{{searched}"200"}} 1.0' in page
    assert f'twinlens_request_seconds_count{{{searched}"400"}} 1.0' in page
    assert 'route="other",status="404"' in page
    assert "/nowhere" not in page
    assert 'twinlens_errors_total{status="400"} 1.0' in page
    for stage in ("decode", "encode", "search"):
        assert f'twinlens_stage_seconds_count{{stage="{stage}"}} 1.0' in page
    assert "twinlens_batch_queries_count 1.0" in page
    assert "twinlens_queue_queries 0.0" in page


def test_a_database_without_the_collection(tmp_path: Path) -> None:
    with serving(tmp_path / "empty.db") as client:
        assert client.get("/v1/collections").json() == {"collections": [], "default": "twinlens"}
        assert client.get("/readyz").status_code == 200
        answer = client.post("/v1/search", json={"query": "red"})
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/collection")
        assert str(tmp_path) not in answer.text


def test_the_openapi_document_describes_every_body(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert schemas["SearchBody"]["properties"]["limit"]["maximum"] == 1_000
    search = document["paths"]["/v1/search"]["post"]
    assert search["requestBody"]["content"].keys() == {"application/json", "multipart/form-data"}
    assert "HTTPValidationError" not in str(document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status >= "4" and path != "/readyz":
                    other = speaks_openai(path) or speaks_tei(path)
                    kind = "json" if other else "problem+json"
                    assert answer["content"].keys() == {f"application/{kind}"}, path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/items?limits=3", "limits"),
        ("/v1/items?wher=year>1", "wher"),
        ("/v1/collections?x=1", "x"),
        ("/v1/collections/twinlens?x=1", "x"),
        (f"/v1/items/{'0' * 32}?vectors=true", "vectors"),
        (f"/v1/items/{'0' * 32}/thumbnail?width=3", "width"),
        ("/v1/map?methods=pca", "methods"),
        ("/v1/files?root=/&limits=3", "limits"),
    ],
)
def test_unknown_query_parameters_are_refused(client: TestClient, path: str, name: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    (problem,) = answer.json()["errors"]
    assert problem["at"] == f"query.{name}"
    assert problem["problem"].startswith("unknown parameter")


def test_pages_accept_any_query_parameter(client: TestClient) -> None:
    for path in ("/?q=red&x=1", "/map?q=red", "/static/search/main.js?v=3", "/healthz?x=1"):
        assert client.get(path).status_code == 200
    assert client.post("/v1/search?x=1", json={"query": "red"}).status_code == 422


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ({"image": {"url": 5}}, "query.image.url"),
        ({"text": ""}, "query.text"),
        ([{"text": "a", "weight": -1}], "query.0.weight"),
        ([{"text": "a", "colour": 1}], "query.0.colour"),
        ("", "query"),
        (["red", {"not": ""}], "query.1.not"),
        ([{"not": {"image": {"file": -1}}}], "query.0.not.image.file"),
        ({"vector": [1, "x"]}, "query.vector.1"),
        ({"image": {"path": "x"}}, "query.image"),
        (7, "query"),
    ],
)
def test_an_error_names_the_field(client: TestClient, query: object, at: str) -> None:
    answer = client.post("/v1/search", json={"query": query})
    assert answer.status_code == 422
    assert [one["at"] for one in answer.json()["errors"]] == [at]
    assert answer.json()["detail"].startswith(f"{at}: ")


def test_an_error_names_the_missing_field(client: TestClient) -> None:
    said = client.post("/v1/classify", json={"images": []}).json()
    assert [one["at"] for one in said["errors"]] == ["labels"]
    said = client.post("/v1/search", json={"query": "red", "limit": 10**30}).json()
    assert [one["at"] for one in said["errors"]] == ["limit"]
    said = client.post("/v1/map/pictures", json={"ids": ["x"]}).json()
    assert [one["at"] for one in said["errors"]] == ["ids.0"]


def test_cached_embeddings_are_counted(own: TestClient) -> None:
    for query in ("something red", "something red", {"id": "red.png"}):
        own.post("/v1/search", json={"query": query})
    page = own.get("/metrics").text
    assert 'twinlens_query_embeddings_total{cache="hit"} 1.0' in page
    assert 'twinlens_query_embeddings_total{cache="miss"} 1.0' in page


def test_the_access_log_has_no_query_and_no_key(
    own: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "twinlens.access"):
        own.post("/v1/search", json={"query": "a secret"})
        own.get("/v1/items?where=path == 'secret'", headers={"Authorization": "Bearer secret"})
        own.get("/nothing%0Ahere%C3%A9")
    lines = [one.getMessage() for one in caplog.records if one.name == "twinlens.access"]
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines] == [
        "testclient - POST /v1/search 200",
        "testclient - GET /v1/items 200",
        r"testclient - GET /nothing\nhere\xe9 404",
    ]
    assert all(line.endswith(" ms") for line in lines)


def test_no_thread_is_left_behind(tmp_path: Path, photos: Path) -> None:
    db = tmp_path / "threads.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos / "red.png")
    with serving(db) as client:
        assert client.get(f"/v1/items/{id_of(photos, 'red')}/thumbnail").status_code == 200
        assert client.get("/v1/map").status_code == 200
        assert left() == {"twinlens-lookup", "twinlens-map", "twinlens-media"}
    end = time.monotonic() + 10
    while left() and time.monotonic() < end:
        time.sleep(0.02)
    assert left() == set()


def left() -> set[str]:
    """The kinds of running server threads."""
    names = {thread.name.rpartition("_")[0] for thread in threading.enumerate()}
    return names & {"twinlens-lookup", "twinlens-map", "twinlens-media"}

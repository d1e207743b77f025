"""``/embed``, ``/info`` and ``/health``, asked by Hugging Face's own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.serving import READ, bearer, painted_db, served, serving

OTHER = "other:read:other-key-0123456789:ann"
KEY = READ.split(":")[2]
TEXTS = ["a red picture", "blue, and green"]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("tei"))


@pytest.fixture(scope="module")
def address(db: Path) -> Iterator[str]:
    """A server with keys."""
    with served(db, keys=(READ, OTHER)) as found:
        yield found


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[TestClient]:
    """A client of a server with small limits."""
    with serving(db, max_embed=4, max_body=1 << 20) as opened:
        yield opened


@pytest.mark.parametrize("path", ["", "/", "/embed", "/embed?collection=twinlens"])
def test_hugging_faces_client_gets_the_models_rows(address: str, path: str) -> None:
    client = InferenceClient(address + path, api_key=KEY)
    rows = client.feature_extraction(TEXTS, normalize=True, truncate=True)
    assert rows == pytest.approx(ColourEncoder().texts(TEXTS), abs=1e-7)
    (single,) = client.feature_extraction(TEXTS[0])
    assert np.array_equal(single, rows[0])


def test_a_wrong_key_is_an_error_of_the_client(address: str) -> None:
    for key in ("wrong", OTHER.split(":")[2]):
        with pytest.raises(HfHubHTTPError) as caught:
            InferenceClient(address, api_key=key).feature_extraction("red")
        assert caught.value.response.status_code == (401 if key == "wrong" else 404)
        assert caught.value.response.json()["error_type"] == "Validation"


def test_data_urls_are_pictures(client: TestClient, db: Path) -> None:
    data = (db.parent / "photos" / "red.png").read_bytes()
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    text, picture = np.array(client.post("/embed", json={"inputs": ["red", url]}).json())
    assert text @ picture > 0.9


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"inputs": ["a"] * 5}, 413, "at most 4 inputs"),
        ({"inputs": []}, 422, "inputs"),
        ({"inputs": ""}, 422, "inputs"),
        ({"inputs": ["a", ""]}, 422, "inputs.1"),
        ({"inputs": [[1, 2]]}, 422, "inputs.0"),
        ({"inputs": {"text": "a"}}, 422, "a list of texts"),
        ({"inputs": "a" * 10_001}, 400, "10,000 characters"),
        ({"inputs": "data:image/png;base64,AAAAAAAA"}, 422, "image"),
        ({"inputs": "red", "dimensions": 8}, 400, "16 dimensions"),
        ({"inputs": "red", "truncation_direction": "left"}, 422, "truncation_direction"),
        ({"inputs": "red", "prompt_name": "query"}, 422, "prompt_name"),
        ({"inputs": "red", "input": "red"}, 422, "input"),
        ({"inputs": "a " * 1_001, "truncate": False}, 422, "truncate: true"),
        ({}, 422, "inputs"),
    ],
)
def test_mistakes_are_errors_as_tei_sends_them(
    client: TestClient, body: dict[str, Any], status: int, says: str
) -> None:
    for path in ("/embed", "/"):
        answer = client.post(path, json=body)
        assert answer.status_code == status, answer.text
        assert answer.json().keys() == {"error", "error_type"}
        assert says in answer.json()["error"]
        assert answer.json()["error_type"] == "Validation"


def test_bodies_are_bounded_as_elsewhere(client: TestClient) -> None:
    large = client.post("/embed", json={"inputs": "a" * (1 << 20)})
    assert (large.status_code, large.json()["error_type"]) == (413, "Validation")
    form = client.post("/", data={"inputs": "red"})
    assert (form.status_code, form.json()["error_type"]) == (415, "Validation")


def test_long_texts_are_truncated_unless_the_client_says_no(client: TestClient) -> None:
    (row,) = client.post("/embed", json={"inputs": "red " * 2_000}).json()
    assert len(row) == 16
    short: dict[str, Any] = {
        "inputs": TEXTS,
        "truncate": False,
        "normalize": False,
        "dimensions": 16,
    }
    short["truncation_direction"] = "Right"
    assert len(client.post("/embed", json=short).json()) == 2


def test_the_model_is_described_as_tei_does(client: TestClient) -> None:
    said = client.get("/info").json()
    assert said["model_id"] == "colours:none"
    assert (said["max_client_batch_size"], said["auto_truncate"]) == (4, True)
    assert said["max_batch_tokens"] == 4 * said["max_input_length"]
    assert client.get("/info?collection=none").json()["error_type"] == "Validation"


def test_the_rate_limit_is_overloaded(db: Path) -> None:
    with serving(db, rate=60, burst=1, keys=(READ,)) as client:
        headers = bearer(READ)
        assert client.get("/info", headers=headers).status_code == 200
        refused = client.post("/", json={"inputs": "red"}, headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error_type"] == "Overloaded"
        health = client.get("/health")  # neither limited nor with a key
    assert (health.status_code, health.content) == (200, b"")


def test_a_server_that_stops_is_unhealthy(db: Path) -> None:
    with serving(db) as client:
        client.app.state.context.state.stopping = True  # type: ignore[attr-defined]
        answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"error": "stopping", "error_type": "Unhealthy"}


def test_the_page_is_still_at_the_root(client: TestClient) -> None:
    assert client.get("/").headers["content-type"].startswith("text/html")
    refused = client.put("/")
    assert (refused.status_code, refused.json()["type"]) == (405, "/problems/method")

"""Send the server its OpenAPI document's examples, then valid and invalid requests at random."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import ASGIClient, shutdown_lifespans
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.colours import ColourEncoder
from support.serving import library_of, paint, serving

import twinlens
from twinlens.server.app import create_app
from twinlens.server.schemas.examples import ID, PNG
from twinlens.server.settings import Settings

#: Requests for each operation.
EXAMPLES = 15
#: Valid and invalid requests.
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    photos = paint(tmp_path_factory.mktemp("schema") / "photos")
    db = photos.parent / "schema.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    library = library_of(db, ColourEncoder())
    try:
        yield create_app(library, Settings(warm=False, media=photos.parent / "media"))
        shutdown_lifespans()
    finally:
        library.close()


def test_every_operation_says_what_it_does_in_a_short_sentence(app: FastAPI) -> None:
    summaries = {
        operation["operationId"]: operation["summary"]
        for path in app.openapi()["paths"].values()
        for operation in path.values()
    }
    assert (
        summaries["tei_health"] == "Whether the server can answer searches, as TEI tells it: 200 "
        "without a body, or 503"
    )
    assert summaries["thumbnail"] == "A small version of a picture"
    for name, summary in summaries.items():
        assert summary != name.replace("_", " ").title()
        assert 10 < len(summary) < 160
        assert not summary.endswith(".")


def test_no_request_makes_the_server_fail(app: FastAPI) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    with ASGIClient(app) as client:
        for operation in operations:
            _ask(operation, client)


def _in_the_collection(body: Any) -> Any:
    """The same body for the default collection, since a generated name hardly ever exists."""
    if not isinstance(body, dict):
        return body
    return {name: value for name, value in body.items() if name != "collection"}


def _ask(operation: Any, client: ASGIClient) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in MODES)))
    def ask(case: schemathesis.Case) -> None:
        for body in (case.body, _in_the_collection(case.body)):
            case.body = body
            response = case.call(session=client)
            case.validate_response(response, checks=CHECKS)

    ask()


# ---- the examples

#: Paths whose examples delete what the others need, in the order to send them.
LAST = ["/v1/items/gone", f"/v1/items/{ID}", "/v1/items/delete", "/v1/collections/twinlens"]

#: Only the answer of ``POST /v1/zip`` tells the address; the test follows it.
TICKET = "/v1/zip/{ticket}"


@pytest.fixture(scope="module")
def example_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the picture of the examples, and some others to compare it with."""
    folder = paint(tmp_path_factory.mktemp("examples") / "photos")
    (folder / "example.png").write_bytes(base64.b64decode(PNG))
    (folder / "example.json").write_text('{"caption": "two dogs in snow", "year": 2021}')
    (folder / "rules.toml").write_text(
        'version = 1\n[concepts.blue]\ntexts = ["blue"]\nfalse_alarms = 0.5\naction = "flag"\n'
    )
    return folder


def _requests_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Method, path with parameters and body of each example in an OpenAPI document."""
    for path, operations in document["paths"].items():
        if path == TICKET:
            continue
        for method, operation in operations.items():
            query = {}
            address = path
            for parameter in operation.get("parameters", ()):
                name, examples = parameter["name"], parameter["schema"].get("examples", ())
                assert examples or not parameter["required"], f"{method} {path}: {name}"
                if parameter["in"] == "path":
                    address = address.replace(f"{{{name}}}", examples[0])
                elif examples:
                    query[name] = examples[0]
            address += f"?{urlencode(query)}" if query else ""
            content = operation.get("requestBody", {}).get("content", {})
            if not content:
                yield method, address, None
                continue
            examples = content["application/json"]["examples"]
            assert examples, f"{method} {path} has no example"
            for example in examples.values():
                yield method, address, example["value"]


def test_every_example_is_accepted(example_photos: Path) -> None:
    db = example_photos.parent / "examples.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(example_photos, policy=example_photos / "rules.toml")
    with serving(db) as client:
        requests = list(_requests_of(client.get("/openapi.json").json()))
        requests.sort(
            key=lambda one: LAST.index(one[1]) if one[1] in LAST and one[0] != "get" else -1
        )
        refused = []
        for method, path, body in requests:
            answer = client.request(method, path, json=body)
            if not answer.is_success:
                refused.append((method, path, body, answer.status_code, answer.text))
            elif path == "/v1/zip":
                assert client.get(answer.json()["address"]).content.startswith(b"PK")
    assert refused == []
    assert {path for _, path, body in requests if body} >= {
        "/v1/search", "/v1/embeddings", "/v1/classify", "/v1/match", "/v1/describe",
        "/v1/policies", "/v1/review", "/v1/zip",
    }  # fmt: skip

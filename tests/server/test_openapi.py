"""Fuzz the server from its OpenAPI document, with valid and invalid requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
from support.serving import library_of, paint

import twinlens
from twinlens.server.app import create_app
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
        deadline=None,
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

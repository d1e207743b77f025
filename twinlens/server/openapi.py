"""Complete FastAPI's OpenAPI document: error responses, and bodies that routes read themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twinlens.server.problems import MEDIA_TYPE
from twinlens.server.schemas.openai import ErrorOut
from twinlens.server.schemas.responses import ProblemOut
from twinlens.server.schemas.tei import TeiErrorOut

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.routing import APIRoute
    from pydantic import BaseModel

#: The first sentence of a text, and the end of it.
_SENTENCE = re.compile(r"(.+?)\.(?:\s|$)", re.DOTALL)
#: The ``$ref`` of a schema by its name.
REFERENCE = "#/components/schemas/{model}"
DESCRIPTION = (
    "Find pictures by words, words by pictures, pictures by pictures. Every error is a problem "
    "as in RFC 9457: `type` tells them apart, `detail` is one line for people."
)
_DESCRIPTIONS = {
    400: "The request is not valid.",
    401: "A key is missing or wrong.",
    403: "The key does not allow this.",
    404: "Not found.",
    408: "The body took too long.",
    409: "The collection was made with another model.",
    413: "The body is too large.",
    415: "The body has another media type.",
    416: "The file has no such bytes.",
    422: "The request does not match this document, or an image cannot be decoded.",
    429: "Too many requests: try again after the seconds in Retry-After.",
}


def operation_id(route: APIRoute) -> str:
    """The name of an operation, which generated clients give to its function."""
    return route.name


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, beside those of every route."""
    return {status: _problem(_DESCRIPTIONS[status]) for status in statuses}


def common_problems(keys: bool) -> dict[int | str, dict[str, Any]]:
    """The error responses of every route; 401 and 403 where keys are required."""
    return {
        **problems(400, 413, 422, 429, *((401, 403) if keys else ())),
        "4XX": _problem("Any other mistake of the client."),
        "5XX": _problem("An error of the server."),
    }


def openai_problems(keys: bool) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route that speaks OpenAI's API; 401 and 403 if keys are required."""
    return _problems_as(ErrorOut, keys)


def tei_problems(keys: bool) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route that speaks TEI's API; 401 and 403 if keys are required."""
    return _problems_as(TeiErrorOut, keys)


def complete_document(app: FastAPI) -> None:
    """Complete the document that FastAPI makes.

    Schemas that routes bring in their ``openapi_extra`` move to the components. An operation's
    summary is the first sentence of its description, not its name in capitals.
    """
    build = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = build()
            schemas = made["components"]["schemas"]
            schemas["Problem"] = ProblemOut.model_json_schema() | {"title": "Problem"}
            for path in made["paths"].values():
                for operation in path.values():
                    _summarise(operation)
                    for content in operation.get("requestBody", {}).get("content", {}).values():
                        schemas.update(content["schema"].pop("$defs", {}))
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign]


def _summarise(operation: dict[str, Any]) -> None:
    if operation["summary"] != operation["operationId"].replace("_", " ").title():
        return  # the route has one of its own
    found = _SENTENCE.match(operation["description"])
    assert found is not None  # every route has a docstring
    operation["summary"] = " ".join(found[1].split())
    rest = operation.pop("description")[found.end() :].lstrip()
    if rest:
        operation["description"] = rest


def _problems_as(model: type[BaseModel], keys: bool) -> dict[int | str, dict[str, Any]]:
    statuses: list[int | str] = [400, 404, 413, 415, 422, 429, "4XX", "5XX"]
    if keys:
        statuses += [401, 403]
    described = common_problems(keys) | problems(404, 415)
    return {
        status: {"model": model, "description": described[status]["description"]}
        for status in statuses
    }


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model="Problem")}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}

"""The OpenAPI document: FastAPI's, with the bodies that routes read by themselves, and the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from twinlens.server.auth import COOKIE
from twinlens.server.problems import MEDIA_TYPE
from twinlens.server.schemas import responses as answers

if TYPE_CHECKING:
    from fastapi import FastAPI

    from twinlens.server.context import Context

_REFERENCE = "#/components/schemas/{model}"
_SAID = {
    400: "It makes no sense as asked.",
    401: "A key is needed, or this is none.",
    403: "The key does not allow this.",
    404: "There is no such thing.",
    408: "The body took too long.",
    409: "The collection is of another model.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "It is not of the form documented here, or a picture cannot be decoded.",
    429: "Too much at once: try again after the seconds in Retry-After.",
}
_TEXT = (
    "Find pictures by words, words by pictures, pictures by pictures. Every error is a problem "
    "as in RFC 9457: `type` tells them apart, `detail` is one line for people."
)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's ``responses``: the errors that are its own."""
    return {status: _problem(status) for status in statuses}


def describe(app: FastAPI, ctx: Context) -> None:
    """Make ``/openapi.json`` complete; the document is built when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title="twinlens", version=app.version, description=_TEXT, routes=app.routes
            )
            components = made.setdefault("components", {})
            described = components.setdefault("schemas", {})
            described.update(ctx.docs.schemas())
            described["Problem"] = answers.Problem.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):
                described.pop(name, None)
            for path in made["paths"].values():
                for operation in path.values():
                    _complete(operation, bool(ctx.keys))
            if ctx.keys:
                components["securitySchemes"] = {
                    "key": {"type": "http", "scheme": "bearer"},
                    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
                }
                made["security"] = [{"key": []}, {"session": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], keys: bool) -> None:
    """What every operation may answer; FastAPI's own 422 is none of ours."""
    answers = operation["responses"]
    for status in (400, 413, 422, 429, *((401, 403) if keys else ())):
        if "HTTPValidationError" in str(answers.get(str(status), "HTTPValidationError")):
            answers[str(status)] = _problem(status)
    for statuses, said in (("4XX", "Any other mistake."), ("5XX", "The server's own trouble.")):
        answers[statuses] = _problem(400) | {"description": said}


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _SAID[status], "content": {MEDIA_TYPE: {"schema": schema}}}


class BodyDocs:
    """Says in the document what ``bodies.read_body`` takes: routes cannot say so by themselves."""

    def __init__(self) -> None:
        self._models: dict[str, type[BaseModel]] = {}

    def json(
        self,
        model: type[BaseModel],
        examples: dict[str, Any],
        *,
        field_name: str = "",
        file_name: str = "",
        required: bool = True,
    ) -> dict[str, Any]:
        """A route's ``openapi_extra``.

        Args:
            model: what the JSON is.
            examples: by what they show.
            field_name, file_name: see ``read_body``.
            required: whether there must be a body.
        """
        self._models[model.__name__] = model
        reference = {"$ref": _REFERENCE.format(model=model.__name__)}
        shown = {name: {"value": value} for name, value in examples.items()}
        content: dict[str, Any] = {"application/json": {"schema": reference, "examples": shown}}
        if field_name:
            files = {"type": "array", "items": {"type": "string", "format": "binary"}}
            content["multipart/form-data"] = {
                "schema": {
                    "type": "object",
                    "properties": {field_name: reference, file_name: files},
                    "additionalProperties": False,
                },
                "encoding": {field_name: {"contentType": "application/json"}},
            }
        return {"requestBody": {"required": required, "content": content}}

    def schemas(self) -> dict[str, Any]:
        """The models' schemas, for the document's components."""
        wanted = [(model, "validation") for model in self._models.values()]
        _, schema = models_json_schema(wanted, ref_template=_REFERENCE)  # type: ignore[arg-type]
        found: dict[str, Any] = schema.get("$defs", {})
        return found

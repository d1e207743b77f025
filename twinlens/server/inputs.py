"""Read and check what a request carries: query parameters, JSON, and forms with JSON and files.

FastAPI itself takes either JSON or a form at one path, and parses JSON without limits. Here both
are taken at the same path. A body is counted as it arrives, ``json_text`` bounds what JSON costs
to parse, and pydantic's parser refuses lone surrogates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi import Path, Query, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from twinlens.search.records import MAX_PATH_BYTES
from twinlens.server.json_text import check_json
from twinlens.server.middleware.admission import too_large
from twinlens.server.openapi import REFERENCE
from twinlens.server.problems import MAX_ERRORS, Problem, invalid_request
from twinlens.server.schemas.examples import ID
from twinlens.server.settings import Settings

if TYPE_CHECKING:
    from twinlens.server.context import Context

M = TypeVar("M", bound=BaseModel)
#: Bytes; larger JSON is parsed in a thread, so that other requests do not wait.
SMALL = 64 << 10
#: Bytes of the JSON in a form.
MAX_FIELD = 8 << 20
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})
#: The tags of the unions in ``twinlens.server.schemas.requests``: pydantic puts them into paths.
_TAGS = frozenset(
    {"words", "list", "text", "image", "id", "vector", "not", "base64", "file", "url", "image_url"}
)

CollectionParameter = Annotated[
    str, Query(description="A collection; the server's default if left out.")
]
NameParameter = Annotated[str, Path(description="A collection.", examples=[Settings.collection])]
IdParameter = Annotated[
    str,
    Path(
        alias="id",
        description="The id of a picture or a text.",
        max_length=128,
        examples=[ID],
    ),
]
AfterParameter = Annotated[
    str, Query(max_length=MAX_PATH_BYTES, description="`next` of the page before.")
]


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency of every API route: refuse query parameters that the route does not have.

    A misspelled ``where`` must not return everything.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not request.url.path.startswith("/v1/"):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            detail = f"unknown parameter; use {', '.join(known)}" if known else "unknown parameter"
            raise invalid_request([{"loc": ("query", name), "msg": detail}])


def has_current_copy(request: Request, etag: str) -> bool:
    """Whether the client has the response with this ETag in its cache (If-None-Match)."""
    tags = request.headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in tags)


@dataclass(frozen=True, slots=True)
class Body(Generic[M]):
    """A parsed request body: the JSON as a model, and the bytes and names of the files in order."""

    data: M
    files: tuple[bytes, ...] = field(default=(), repr=False)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class BodyReader(Generic[M]):
    """Reads and documents the request body of a route.

    Attributes:
        ctx: the server.
        model: what the JSON must be; it must forbid unknown fields.
        examples: for the documentation, by what they show.
        json_field: the form field with the JSON, which may be left out. "" to take JSON only.
        file_field: the form field, repeated, with the files.
        max_files: how many files a form may have.
        max_bytes: the largest body; 0 for the largest that the server takes from anybody.
    """

    ctx: Context
    model: type[M]
    examples: dict[str, Any]
    json_field: str = ""
    file_field: str = ""
    max_files: int = 0
    max_bytes: int = 0

    @property
    def limit(self) -> int:
        """Bytes of the largest body."""
        most = self.ctx.settings.max_body
        return min(self.max_bytes, most) if self.max_bytes else most

    def openapi(self) -> dict[str, Any]:
        """The route's ``openapi_extra``; see ``twinlens.server.openapi.complete_document``."""
        _, schema = models_json_schema([(self.model, "validation")], ref_template=REFERENCE)
        reference = {"$ref": REFERENCE.format(model=self.model.__name__)}
        content: dict[str, Any] = {
            "application/json": {
                "schema": {**reference, "$defs": schema["$defs"]},
                "examples": {name: {"value": value} for name, value in self.examples.items()},
            }
        }
        if self.json_field:
            files = {"type": "array", "items": {"type": "string", "format": "binary"}}
            content["multipart/form-data"] = {
                "schema": {
                    "type": "object",
                    "properties": {self.json_field: reference, self.file_field: files},
                    "additionalProperties": False,
                },
                "encoding": {self.json_field: {"contentType": "application/json"}},
            }
        return {
            "requestBody": {
                # With several media types, openapi-python-client's code needs it to be optional.
                "required": not self.json_field,
                "description": f"At most {self.limit:,} bytes.",
                "content": content,
            }
        }

    async def read(self, request: Request) -> Body[M]:
        """Read and check the body.

        Raises:
            Problem: 400 if the JSON or the form is malformed, 413 if it is too large, 415 for
                another media type, 422 for JSON that does not match the model.
        """
        sent, _, parameters = request.headers.get("content-type", "").partition(";")
        kind = sent.strip().lower()
        if kind == "application/json":
            return Body(await self._parse(await self._read_json(request)))
        if kind == "multipart/form-data" and self.json_field:
            _check_charset(parameters)
            return await self._read_form(request)
        form = " or multipart/form-data" if self.json_field else ""
        detail = f"send application/json{form}, not {kind[:100] or 'a body without Content-Type'}"
        raise Problem(415, "media-type", detail)

    async def _read_json(self, request: Request) -> bytearray:
        """The bytes of the body; too many are not read."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.limit:
            raise too_large(self.limit)
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > self.limit:
                raise too_large(self.limit)
        return data

    async def _read_form(self, request: Request) -> Body[M]:
        text = ""
        files: list[bytes] = []
        names: list[str] = []
        limits = {"max_files": self.max_files, "max_fields": 2, "max_part_size": MAX_FIELD}
        async with request.form(**limits) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile) and name == self.file_field:
                    files.append(await value.read())
                    names.append(value.filename or "")
                elif isinstance(value, str) and name == self.json_field and not text:
                    text = value
                else:
                    known = f"{self.json_field} (JSON, once) and {self.file_field} (files)"
                    detail = f"a form has the fields {known}, not {name[:64]!r}"
                    raise Problem(422, "validation", detail)
        parsed = await self._parse(text.encode("utf-8", "replace") or b"{}")
        return Body(parsed, tuple(files), tuple(names))

    async def _parse(self, data: bytes | bytearray) -> M:
        if len(data) > SMALL:
            return await self.ctx.run(_validated, self.model, data)
        return _validated(self.model, data)


def _check_charset(parameters: str) -> None:
    """Refuse other encodings of a form than UTF-8: decoding Punycode takes quadratic time."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' \t"').lower() not in _UTF8:
            raise Problem(415, "media-type", "send the form in UTF-8, without another charset")


def _validated(model: type[M], data: bytes | bytearray) -> M:
    check_json(data)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            raise Problem(400, "body", errors[0]["msg"][:200]) from None
        sent = from_json(data)
        listed = [
            {"loc": _path(one["loc"], sent) or one["loc"], "msg": one["msg"]}
            for one in errors[:MAX_ERRORS]
        ]
        raise invalid_request(listed) from None


def _path(steps: tuple[int | str, ...], sent: Any) -> tuple[int | str, ...] | None:
    """Remove the tags of unions from the path of an error, since the client did not write them.

    ``None`` if the path leads nowhere in what was sent.
    """
    if not steps:
        return ()
    first, rest = steps[0], steps[1:]
    if isinstance(sent, dict):
        exists = first in sent
    else:
        exists = isinstance(sent, list) and isinstance(first, int) and first < len(sent)
    if exists and (deeper := _path(rest, sent[first])) is not None:
        return first, *deeper
    if first in _TAGS and (found := _path(rest, sent)) is not None:
        return found
    return None if rest or not isinstance(sent, dict) else (first,)  # a missing field

"""Reads what a request carries: JSON, or a form with JSON and files, checked against a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from twinlens.server.problems import MAX_COMPLAINTS, Problem, invalid_request

if TYPE_CHECKING:
    from starlette.requests import Request

    from twinlens.server.context import Context

M = TypeVar("M", bound=BaseModel)
#: Bytes of JSON beyond which it is read in a thread, for the others' sake.
SMALL = 64 << 10
#: Bytes of the JSON in a form.
MAX_FIELD = 8 << 20
#: What the unions of ``twinlens.server.schemas.requests`` call their members; pydantic says it in its paths.
_TAGS = frozenset(
    {"words", "list", "text", "image", "id", "vector", "not", "base64", "file", "url"}
)


@dataclass(frozen=True, slots=True)
class Body(Generic[M]):
    """What came: the JSON as a model, and the files' bytes in order."""

    said: M
    files: tuple[bytes, ...] = field(default=(), repr=False)


async def read_body(
    ctx: Context,
    request: Request,
    model: type[M],
    *,
    field_name: str = "",
    file_name: str = "",
    max_files: int = 0,
) -> Body[M]:
    """Read and check a request's body.

    Args:
        ctx: of the server.
        request: whose body.
        model: what the JSON must be; it forbids what it does not know.
        field_name: the field of a form that holds the JSON; it may be left out. "" for JSON only.
        file_name: the fields of a form that hold files.
        max_files: how many of them.

    Raises:
        Problem: 400 for what is no JSON or no form, 415 for another type, 422 for other JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Body(await _parse(ctx, model, await request.body()))
    if kind == "multipart/form-data" and field_name:
        return await _read_form(ctx, request, model, field_name, file_name, max_files)
    also = " or multipart/form-data" if field_name else ""
    raise Problem(415, "media-type", f"send application/json{also}, not {kind[:100] or 'nothing'}")


async def _read_form(
    ctx: Context,
    request: Request,
    model: type[M],
    field_name: str,
    file_name: str,
    max_files: int,
) -> Body[M]:
    said = ""
    files: list[bytes] = []
    async with request.form(max_files=max_files, max_fields=2, max_part_size=MAX_FIELD) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name == file_name:
                files.append(await value.read())
            elif isinstance(value, str) and name == field_name and not said:
                said = value
            else:
                one = f"{field_name} (JSON, once) and {file_name} (files)"
                raise Problem(422, "validation", f"a form has {one}, not {name[:64]!r}")
    return Body(await _parse(ctx, model, said.encode("utf-8", "replace") or b"{}"), tuple(files))


async def _parse(ctx: Context, model: type[M], data: bytes) -> M:
    return await ctx.run(_validated, model, data) if len(data) > SMALL else _validated(model, data)


def _validated(model: type[M], data: bytes) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        complaints = error.errors(include_url=False, include_context=False, include_input=False)
        if complaints[0]["type"] == "json_invalid":
            raise Problem(400, "body", complaints[0]["msg"][:200]) from None
        said = from_json(data)
        listed = [
            {"loc": _path(one["loc"], said) or one["loc"], "msg": one["msg"]}
            for one in complaints[:MAX_COMPLAINTS]
        ]
        raise invalid_request(listed) from None


def _path(steps: tuple[int | str, ...], said: Any) -> tuple[int | str, ...] | None:
    """Where in what was sent a complaint belongs: without the tags of unions, which nobody wrote.

    ``None`` where it cannot be found.
    """
    if not steps:
        return ()
    first, rest = steps[0], steps[1:]
    if isinstance(said, dict):
        there = first in said
    else:
        there = isinstance(said, list) and isinstance(first, int) and first < len(said)
    if there and (deeper := _path(rest, said[first])) is not None:
        return first, *deeper
    if first in _TAGS and (found := _path(rest, said)) is not None:
        return found
    return None if rest or not isinstance(said, dict) else (first,)  # one that is missing

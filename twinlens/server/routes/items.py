"""``/v1/items``: what is stored, listed, or one by one, to look at and to take out."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from twinlens.search.errors import UsageError
from twinlens.search.filters import compile_filter
from twinlens.search.query.stored import find_item
from twinlens.search.query.stored import list_pictures
from twinlens.search.query.parts import MAX_QUERY_TEXT
from twinlens.server.context import Context
from twinlens.server.library import Served
from twinlens.server.media import is_id
from twinlens.server.openapi import problems
from twinlens.server.problems import Problem
from twinlens.server.routes.parameters import After, CollectionName, Id
from twinlens.server.routes.search import addresses
from twinlens.server.schemas import responses as answers
from twinlens.server.writing import Writable


def router(ctx: Context) -> APIRouter:
    """The routes of what is stored."""
    routes = APIRouter(prefix="/v1/items", tags=["items"])

    @routes.get(
        "",
        response_model=answers.ItemsListed,
        responses=problems(400, 404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def listed(
        request: Request,
        where: Annotated[str, Query(max_length=MAX_QUERY_TEXT, description="A filter.")] = "",
        after: After = "",
        collection: CollectionName = "",
    ) -> JSONResponse:
        """The stored pictures that satisfy a filter, in the order of their ids."""
        index = await ctx.index(request, collection)
        rows = await ctx.run(_pictures, index, where, after)
        items = [{"id": row["id"], "path": row["path"]} for row in rows]
        return JSONResponse({"items": items, "next": items[-1]["id"] if items else ""})

    @routes.get(
        "/{id}",
        response_model=answers.Item,
        responses=problems(400, 404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def item(
        request: Request, key: Id, collection: CollectionName = "", vector: bool = False
    ) -> JSONResponse:
        """Everything that is known of it; with `vector`, its embedding, too."""
        index = await ctx.index(request, collection)
        return JSONResponse(await ctx.run(describe, index, key, vector=vector))

    @routes.delete(
        "/{id}",
        response_model=answers.Deleted,
        responses=problems(400, 404),
        dependencies=[ctx.need("write", tenants=True)],
    )
    async def delete(request: Request, key: Id, collection: CollectionName = "") -> JSONResponse:
        """Take it out, with the texts of a picture. Files are left alone."""

        def work(index: Served) -> int:
            describe(index, key)
            done = cast(Writable, index).intake().remove(ids=[key])
            ctx.uploads.drop(done.images)
            return done.count

        async with ctx.writes.of(collection or ctx.library.default):
            deleted = await ctx.run(work, await ctx.index(request, collection))
        return JSONResponse({"deleted": deleted})

    return routes


def describe(index: Served, key: str, *, vector: bool = False) -> dict[str, Any]:
    """An item as plain types, for JSON.

    Raises:
        Problem: 404, there is none.
    """
    if not is_id(key):
        raise _unknown(key)
    collection = index.engine.collection
    try:
        item = find_item(collection, key)
    except UsageError:
        raise _unknown(key) from None
    plain: dict[str, Any] = {
        "id": item.id,
        "target": item.target,
        "path": item.path,
        "relative_path": item.relative_path,
        "paths": list(item.paths),
        "captions": list(item.captions),
        "text": item.text,
        "image_id": item.image_id,
        "metadata": dict(item.metadata),
        "texts": [{"id": of, "text": text} for of, text in item.texts],
        "collection": index.collection,
    }
    if vector:
        (row,) = collection.get(item.target, [item.id], ["vector"])
        plain["vector"] = [float(value) for value in row["vector"]]
    return plain | addresses(item.image_id, index.collection)


def _pictures(index: Served, where: str, after: str) -> list[dict[str, Any]]:
    collection = index.engine.collection
    expression = compile_filter(where, collection.fields("images"), collection.capabilities)
    return list_pictures(collection, expression, after)


def _unknown(key: str) -> Problem:
    return Problem(404, "not-found", f"nothing with the id {key[:64]!r} is stored")

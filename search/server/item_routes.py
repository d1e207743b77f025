"""``/v1/items/{id}``: one stored picture or text, to look at and to take out."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from search.errors import UsageError
from search.item import find_item
from search.server import schemas
from search.server.context import Context
from search.server.library import Served
from search.server.media import is_id
from search.server.openapi import problems
from search.server.parameters import Collection, Id
from search.server.problems import Problem
from search.server.search_routes import addresses
from search.server.writing import Writable


def router(ctx: Context) -> APIRouter:
    """The routes of single items."""
    routes = APIRouter(prefix="/v1/items", tags=["items"])

    @routes.get(
        "/{id}",
        response_model=schemas.Item,
        responses=problems(400, 404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def item(
        request: Request, key: Id, collection: Collection = "", vector: bool = False
    ) -> JSONResponse:
        """Everything that is known of it; with `vector`, its embedding, too."""
        index = await ctx.index(request, collection)
        return JSONResponse(await ctx.run(describe, index, key, vector=vector))

    @routes.delete(
        "/{id}",
        response_model=schemas.Deleted,
        responses=problems(400, 404),
        dependencies=[ctx.need("write", tenants=True)],
    )
    async def delete(request: Request, key: Id, collection: Collection = "") -> JSONResponse:
        """Take it out, with the texts of a picture. Files are left alone."""

        def work(index: Served) -> int:
            describe(index, key)
            done = cast(Writable, index).intake().forget(ids=[key])
            ctx.kept.drop(done.pictures)
            return done.count

        async with ctx.turns.of(collection or ctx.library.default):
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
    corpus = index.engine.corpus
    try:
        item = find_item(corpus, key)
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
        (row,) = corpus.get(item.target, [item.id], ["vector"])
        plain["vector"] = [float(value) for value in row["vector"]]
    return plain | addresses(item.image_id, index.collection)


def _unknown(key: str) -> Problem:
    return Problem(404, "not-found", f"nothing with the id {key[:64]!r} is stored")

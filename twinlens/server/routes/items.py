"""``/v1/items`` and ``/v1/files``: list, show and delete stored items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.ingest.receiver import Receiver
from twinlens.ingest.upload import Removed
from twinlens.search.errors import UsageError
from twinlens.search.filters import compile_filter, compile_visible
from twinlens.search.query.parts import MAX_QUERY_TEXT
from twinlens.search.query.stored import PAGE, find_item, list_images, list_paths
from twinlens.search.records import HELD, MAX_PATH_BYTES, Row, is_id
from twinlens.server.context import Context
from twinlens.server.inputs import AfterParameter, BodyReader, CollectionParameter, IdParameter
from twinlens.server.item_fields import chosen, columns_of, parse_fields
from twinlens.server.openapi import problems
from twinlens.server.problems import Problem
from twinlens.server.routes.search import picture_paths
from twinlens.server.schemas.examples import ID
from twinlens.server.schemas.requests import DeleteIn, MissingIn
from twinlens.server.schemas.responses import (
    DeletedOut,
    ItemOut,
    ItemsListed,
    MissingOut,
    PathsListed,
)

#: Bytes of a body of ``MAX_DELETED`` paths.
MAX_PATHS_BYTES = 8 << 20
#: Characters of the names of fields.
MAX_FIELDS = 2_000
LimitParameter = Annotated[int, Query(ge=1, le=PAGE, description="How many, at most.")]
_DELETE = {
    "a folder": {"paths": ["/photos/2019"]},
    "a picture": {"ids": [ID]},
}
_MISSING = {"moved": {"paths": ["/photos/a.jpg"]}}


def router(ctx: Context) -> APIRouter:
    """The routes of stored items."""
    routes = APIRouter(prefix="/v1", tags=["items"])
    reading = [ctx.need("read", tenants=True)]
    writing = [ctx.need("write", tenants=True)]
    deleting = BodyReader(ctx, DeleteIn, _DELETE, max_bytes=MAX_PATHS_BYTES)
    missing = BodyReader(ctx, MissingIn, _MISSING, max_bytes=MAX_PATHS_BYTES)

    async def remove(
        request: Request, name: str | None, work: Callable[[Index, Receiver], Removed]
    ) -> Removed:
        """Remove items when earlier writes are done, then uploaded pictures without an item."""

        def run(index: Index) -> Removed:
            removed = work(index, index.intake())
            ctx.uploads.delete_unused(removed.images)
            return removed

        async with ctx.writes.turn(name or ctx.library.default):
            return await ctx.run(run, await ctx.index(request, name))

    @routes.get("/items", response_model=ItemsListed, responses=problems(404), dependencies=reading)
    async def list_items(
        request: Request,
        where: Annotated[str, Query(max_length=MAX_QUERY_TEXT, description="A filter.")] = "",
        after: AfterParameter = "",
        limit: LimitParameter = PAGE,
        fields: Annotated[
            str,
            Query(
                max_length=MAX_FIELDS,
                description="What to return of each picture beside its id: names of fields, "
                "`thumbnail` and `image`, separated by commas.",
                examples=["path,captions,thumbnail"],
            ),
        ] = "path",
        collection: CollectionParameter = "",
    ) -> JSONResponse:
        """The stored pictures that match a filter, sorted by id.

        What a moderation policy holds back is listed for keys with the scope write only.
        """
        index = await ctx.index(request, collection)

        def work() -> tuple[list[dict[str, Any]], str]:
            names = parse_fields(fields, index.engine.collection)
            rows = _matching(
                index, where, after, limit, columns_of(names), held=ctx.sees_held(request)
            )
            items = [
                chosen(row, names, picture_paths(row["id"], index.collection))
                for row in rows[:limit]
            ]
            return items, items[-1]["id"] if len(rows) > limit else ""

        items, following = await ctx.run(work)
        return JSONResponse({"items": items, "next": following})

    @routes.get(
        "/items/{id}", response_model=ItemOut, responses=problems(404), dependencies=reading
    )
    async def show_item(
        request: Request,
        key: IdParameter,
        collection: CollectionParameter = "",
        vector: bool = False,
    ) -> JSONResponse:
        """A stored picture or text with all its fields; with `vector`, its embedding, too."""
        index = await ctx.index(request, collection)
        shown = await ctx.run(describe, index, key, vector=vector)
        if shown["metadata"].get(HELD) and not ctx.sees_held(request):
            raise _not_stored(key)
        return JSONResponse(shown)

    @routes.delete(
        "/items/{id}", response_model=DeletedOut, responses=problems(404), dependencies=writing
    )
    async def delete_item(
        request: Request, key: IdParameter, collection: CollectionParameter = ""
    ) -> JSONResponse:
        """Delete a picture with its texts, or a text. Files are not touched."""

        def work(index: Index, receiver: Receiver) -> Removed:
            describe(index, key)
            return receiver.remove(ids=[key])

        removed = await remove(request, collection, work)
        return JSONResponse({"deleted": removed.count, "paths": removed.paths})

    @routes.post(
        "/items/delete",
        response_model=DeletedOut,
        responses=problems(404, 415),
        dependencies=writing,
        openapi_extra=deleting.openapi(),
    )
    async def delete_items(request: Request) -> JSONResponse:
        """Delete paths with everything below them, or items by their ids. Files are not touched."""
        sent = (await deleting.read(request)).data
        if bool(sent.paths) == bool(sent.ids):
            raise UsageError("send either paths or ids to delete")
        removed = await remove(
            request, sent.collection, lambda _, receiver: receiver.remove(sent.paths, sent.ids)
        )
        return JSONResponse({"deleted": removed.count, "paths": removed.paths})

    @routes.post(
        "/items/gone",
        response_model=MissingOut,
        responses=problems(404, 415),
        dependencies=writing,
        openapi_extra=missing.openapi(),
    )
    async def remove_missing(request: Request) -> JSONResponse:
        """Remove paths that no longer exist on the client's disk.

        A picture without another path is kept, unless `prune` is set.
        """
        sent = (await missing.read(request)).data
        removed = await remove(
            request,
            sent.collection,
            lambda _, receiver: receiver.remove_missing(sent.paths, prune=sent.prune),
        )
        return JSONResponse({"removed": sorted(removed.images), "missing": removed.missing})

    @routes.get("/files", response_model=PathsListed, responses=problems(404), dependencies=writing)
    async def list_files(
        request: Request,
        root: Annotated[
            str,
            Query(
                max_length=MAX_PATH_BYTES,
                description="An ingested path.",
                examples=["/photos"],
            ),
        ],
        after: AfterParameter = "",
        limit: LimitParameter = PAGE,
        collection: CollectionParameter = "",
    ) -> JSONResponse:
        """The stored paths below a root, sorted, so that a client can find missing files."""
        index = await ctx.index(request, collection)
        collected = index.engine.collection
        paths = await ctx.run(list_paths, collected, root, after, limit=limit + 1)
        following = paths[limit - 1] if len(paths) > limit else ""
        return JSONResponse({"paths": paths[:limit], "next": following})

    return routes


def describe(index: Index, key: str, *, vector: bool = False) -> dict[str, Any]:
    """A stored item as plain types, for JSON.

    Raises:
        Problem: 404, there is no such item.
    """
    if not is_id(key):
        raise _not_stored(key)
    collection = index.engine.collection
    try:
        item = find_item(collection, key)
    except UsageError:
        raise _not_stored(key) from None
    plain = {name: getattr(item, name) for name in item.__dataclass_fields__}
    plain |= {
        "metadata": dict(item.metadata),
        "texts": [{"id": of, "text": text} for of, text in item.texts],
        "collection": index.collection,
    }
    if vector:
        (row,) = collection.get(item.target, [item.id], ["vector"])
        plain["vector"] = [float(value) for value in row["vector"]]
    return plain | picture_paths(item.image_id, index.collection)


def _matching(
    index: Index, where: str, after: str, limit: int, columns: list[str], *, held: bool
) -> list[Row]:
    """One picture more than the limit, if there is one, so that the last page is known."""
    collection = index.engine.collection
    compiled = compile_filter if held else compile_visible
    expression = compiled(where, collection.fields("images"), collection.capabilities)
    return list_images(collection, expression, after, limit=limit + 1, fields=columns)


def _not_stored(key: str) -> Problem:
    return Problem(404, "not-found", f"nothing with the id {key[:64]!r} is stored")

"""``/v1/searches``: list, save and delete the saved searches of a collection."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from twinlens.search.errors import UsageError
from twinlens.search.query.saved import CANNOT_SAVE, MAX_NAME, SavedSearch
from twinlens.server.context import Context
from twinlens.server.inputs import BodyReader, CollectionParameter
from twinlens.server.openapi import problems
from twinlens.server.query_parts import ImageReader, QueryInput
from twinlens.server.schemas.requests import BoundedModels
from twinlens.server.schemas.responses import SavedSearchesOut, SavedSearchOut

#: Bytes of a body: more than a saved search may have.
MAX_BODY = 1 << 20
_NAME = "Dogs, no people"
_EXAMPLES = {
    "words and a filter": {
        "name": _NAME,
        "search": {"query": ["two dogs", {"not": "people"}], "where": "width > 3"},
    },
    "a filter alone": {"name": "Wide", "search": {"where": "width > 1000"}},
}


def router(ctx: Context) -> APIRouter:
    """The routes of saved searches."""
    routes = APIRouter(prefix="/v1/searches", tags=["search"])
    reader = BodyReader(ctx, BoundedModels(ctx.settings).save, _EXAMPLES, max_bytes=MAX_BODY)
    images = ImageReader(ctx.settings)

    @routes.get(
        "",
        response_model=SavedSearchesOut,
        responses=problems(404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def saved_searches(
        request: Request, collection: CollectionParameter = ""
    ) -> JSONResponse:
        """The saved searches, sorted by name. Send `search` to `POST /v1/search` to run one."""
        index = await ctx.index(request, collection)
        found = await ctx.run(index.saved_searches)
        listed = [_plain(saved) for saved in found]
        return JSONResponse({"searches": listed, "collection": index.collection})

    @routes.put(
        "",
        response_model=SavedSearchOut,
        responses=problems(404, 415),
        dependencies=[ctx.need("write", tenants=True)],
        openapi_extra=reader.openapi(),
    )
    async def save_search(request: Request) -> JSONResponse:
        """Save a search with the collection, in place of one of the same name.

        Paths of stored items become their ids. Pictures and embeddings cannot be saved.
        """
        sent = (await reader.read(request)).data
        query = QueryInput(sent.search.query)
        if not query.quick:
            raise UsageError(CANNOT_SAVE)
        parts, options = query.parts(images), sent.search.options()
        async with ctx.writes.turn(sent.collection or ctx.library.default):
            index = await ctx.index(request, sent.collection)
            saved = await ctx.run(index.save_search, sent.name, parts, **options)
        return JSONResponse(_plain(saved))

    @routes.delete(
        "",
        status_code=204,
        response_class=Response,
        responses=problems(404),
        dependencies=[ctx.need("write", tenants=True)],
    )
    async def delete_saved_search(
        request: Request,
        name: Annotated[
            str,
            Query(
                min_length=1,
                max_length=MAX_NAME,
                description="Of the saved search.",
                examples=[_NAME],
            ),
        ],
        collection: CollectionParameter = "",
    ) -> Response:
        """Delete a saved search."""
        async with ctx.writes.turn(collection or ctx.library.default):
            index = await ctx.index(request, collection)
            await ctx.run(index.delete_saved_search, name)
        return Response(status_code=204)

    return routes


def _plain(saved: SavedSearch) -> dict[str, Any]:
    return {"name": saved.name, "search": saved.to_json()}

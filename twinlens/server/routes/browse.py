"""``/v1/browse`` and ``/v1/facets``: list pictures by date, count fields' values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.search.query.browse import MAX_PAGE
from twinlens.search.query.parts import MAX_QUERY_TEXT
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import CollectionParameter
from twinlens.server.openapi import problems
from twinlens.server.routes.search import picture_paths
from twinlens.server.schemas.responses import BrowseOut, FacetsOut

_Where = Annotated[
    str, Query(max_length=MAX_QUERY_TEXT, description="A filter.", examples=["width >= 640"])
]
_Held = Annotated[
    bool,
    Query(description="Also what a moderation policy holds back; needs a key with scope write."),
]


def router(ctx: Context) -> APIRouter:
    """The routes of browsing."""
    routes = APIRouter(
        route_class=AbandonableRoute,
        prefix="/v1",
        tags=["search"],
        dependencies=[ctx.need("read", tenants=True)],
    )

    @routes.get("/browse", response_model=BrowseOut, responses=problems(404))
    async def browse(
        request: Request,
        where: _Where = "",
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=0, le=MAX_PAGE)] = 60,
        include_held: _Held = False,
        collection: CollectionParameter = "",
    ) -> JSONResponse:
        """The stored pictures, newest first, and how many each month has.

        The date is `taken` where it is known, else the last change of the file.
        """
        ctx.check_held(request, include_held)
        index = await ctx.index(request, collection)

        def work() -> dict[str, Any]:
            found = index.browse(where, offset=offset, limit=limit, include_held=include_held)
            name = index.collection
            return {
                "items": [hit.to_dict() | picture_paths(hit.id, name) for hit in found.items],
                "total": found.total,
                "months": [asdict(month) for month in found.months],
                "collection": name,
            }

        return JSONResponse(await ctx.run(work))

    @routes.get("/facets", response_model=FacetsOut, responses=problems(404))
    async def facets(
        request: Request,
        where: _Where = "",
        include_held: _Held = False,
        collection: CollectionParameter = "",
    ) -> JSONResponse:
        """Fields with few different values, how often each occurs, and the filter that selects it.

        With `where`, only the pictures that match it are counted. Parts of it that choose values
        of a field (`year == 2019`, `camera in (…)`) do not apply to the values of that field, which
        has them as `clauses`: so the other values can still be chosen, in place of these or with
        them.
        """
        ctx.check_held(request, include_held)
        index = await ctx.index(request, collection)
        return JSONResponse(await ctx.run(_facets, index, where, include_held))

    return routes


def _facets(index: Index, where: str, include_held: bool) -> dict[str, Any]:
    found = index.facets(where, include_held=include_held)
    return {"facets": [asdict(facet) for facet in found], "collection": index.collection}

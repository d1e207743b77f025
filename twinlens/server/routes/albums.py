"""``/v1/albums``: list albums, put pictures into them, and take them out."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.errors import UsageError
from twinlens.server.context import Context
from twinlens.server.inputs import BodyReader, CollectionParameter
from twinlens.server.openapi import problems
from twinlens.server.schemas.examples import ID
from twinlens.server.schemas.requests import AlbumIn
from twinlens.server.schemas.responses import AlbumChangedOut, AlbumsOut

_EXAMPLES = {
    "add": {"album": "Rome 2019", "add": [ID]},
    "remove": {"album": "Rome 2019", "remove": [ID]},
}


def router(ctx: Context) -> APIRouter:
    """The routes of albums."""
    routes = APIRouter(prefix="/v1/albums", tags=["items"])
    reader = BodyReader(ctx, AlbumIn, _EXAMPLES)

    @routes.get(
        "",
        response_model=AlbumsOut,
        responses=problems(404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def albums(request: Request, collection: CollectionParameter = "") -> JSONResponse:
        """The albums, sorted by name."""
        index = await ctx.index(request, collection)
        found = await ctx.run(index.albums)
        listed = [asdict(album) for album in found]
        return JSONResponse({"albums": listed, "collection": index.collection})

    @routes.post(
        "",
        response_model=AlbumChangedOut,
        responses=problems(404, 415),
        dependencies=[ctx.need("write", tenants=True)],
        openapi_extra=reader.openapi(),
    )
    async def change(request: Request) -> JSONResponse:
        """Put pictures into an album, or take them out. An album exists while it has pictures."""
        sent = (await reader.read(request)).data
        if bool(sent.add) == bool(sent.remove):
            raise UsageError("send either pictures to add, or pictures to remove")
        async with ctx.writes.turn(sent.collection or ctx.library.default):
            index = await ctx.index(request, sent.collection)
            work = index.add_to_album if sent.add else index.remove_from_album
            changed = await ctx.run(work, sent.album, *(sent.add or sent.remove))
        return JSONResponse({"changed": changed})

    return routes

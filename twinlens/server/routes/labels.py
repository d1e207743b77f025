"""``/v1/albums`` and ``/v1/tags``: list albums and tags, and change those of pictures."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from twinlens.search.errors import UsageError
from twinlens.search.query.facets import LabelField
from twinlens.server.context import Context
from twinlens.server.inputs import BodyReader, CollectionParameter
from twinlens.server.openapi import problems
from twinlens.server.schemas.examples import ID
from twinlens.server.schemas.requests import AlbumIn, TagIn
from twinlens.server.schemas.responses import AlbumsOut, LabelChangedOut, TagsOut

_ALBUM_EXAMPLES = {
    "add": {"album": "Rome 2019", "add": [ID]},
    "remove": {"album": "Rome 2019", "remove": [ID]},
}
_TAG_EXAMPLES = {
    "add": {"tag": "to print", "add": [ID]},
    "remove": {"tag": "to print", "remove": [ID]},
}


def router(ctx: Context) -> APIRouter:
    """The routes of albums and tags."""
    routes = APIRouter(prefix="/v1", tags=["items"])
    albums_in = BodyReader(ctx, AlbumIn, _ALBUM_EXAMPLES)
    tags_in = BodyReader(ctx, TagIn, _TAG_EXAMPLES)

    async def listed(request: Request, collection: str, field: LabelField) -> JSONResponse:
        index = await ctx.index(request, collection)
        found = await ctx.run(index.albums if field == "albums" else index.tags)
        labels = [asdict(label) for label in found]
        return JSONResponse({field: labels, "collection": index.collection})

    async def change(request: Request, sent: AlbumIn | TagIn) -> JSONResponse:
        if bool(sent.add) == bool(sent.remove):
            raise UsageError("send either pictures to add, or pictures to remove")
        async with ctx.writes.turn(sent.collection or ctx.library.default):
            index = await ctx.index(request, sent.collection)
            if isinstance(sent, AlbumIn):
                name, work = sent.album, (index.remove_from_album, index.add_to_album)
            else:
                name, work = sent.tag, (index.remove_tag, index.add_tag)
            changed = await ctx.run(work[bool(sent.add)], name, *(sent.add or sent.remove))
        return JSONResponse({"changed": changed})

    @routes.get(
        "/albums",
        response_model=AlbumsOut,
        responses=problems(404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def albums(request: Request, collection: CollectionParameter = "") -> JSONResponse:
        """The albums, sorted by name."""
        return await listed(request, collection, "albums")

    @routes.post(
        "/albums",
        response_model=LabelChangedOut,
        responses=problems(404, 415),
        dependencies=[ctx.need("write", tenants=True)],
        openapi_extra=albums_in.openapi(),
    )
    async def change_album(request: Request) -> JSONResponse:
        """Put pictures into an album, or take them out. An album exists while it has pictures."""
        return await change(request, (await albums_in.read(request)).data)

    @routes.get(
        "/tags",
        response_model=TagsOut,
        responses=problems(404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def tags(request: Request, collection: CollectionParameter = "") -> JSONResponse:
        """The tags, sorted by name."""
        return await listed(request, collection, "tags")

    @routes.post(
        "/tags",
        response_model=LabelChangedOut,
        responses=problems(404, 415),
        dependencies=[ctx.need("write", tenants=True)],
        openapi_extra=tags_in.openapi(),
    )
    async def change_tag(request: Request) -> JSONResponse:
        """Tag pictures, or remove a tag from them. A tag exists while a picture has it."""
        return await change(request, (await tags_in.read(request)).data)

    return routes

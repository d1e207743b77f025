"""``/v1/items/{id}/thumbnail`` and ``/image``: send stored pictures."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from enum import IntEnum
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from twinlens.search.images.originals import GoneError, ThumbnailFormat
from twinlens.search.records import HELD, Row, is_id
from twinlens.server.context import Context
from twinlens.server.disconnects import AbandonableRoute
from twinlens.server.inputs import CollectionParameter, IdParameter, has_current_copy
from twinlens.server.media import BROWSER_TYPES, LARGEST_SIDE, EncodedPicture
from twinlens.server.openapi import problems
from twinlens.server.problems import Problem
from twinlens.server.ranges import file_response

T = TypeVar("T")
#: The bytes behind an id never change: it is their hash.
CACHE_FOREVER = "private, max-age=31536000, immutable"
#: An original may be deleted: the browser asks again, and gets a 304 while it is there.
REVALIDATE = "private, no-cache"
#: A picture that is opened by itself must not run scripts.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


class Side(IntEnum):
    """Pixels of the longer side of a thumbnail, at most."""

    SMALL = 160
    MIDDLE = 320
    LARGE = LARGEST_SIDE


def router(ctx: Context) -> APIRouter:
    """The routes of pictures."""
    routes = APIRouter(
        route_class=AbandonableRoute,
        prefix="/v1/items",
        tags=["items"],
        dependencies=[ctx.need("read", tenants=True)],
    )

    async def made_of(future: Future[EncodedPicture]) -> EncodedPicture:
        try:
            return await _wait(future)
        except GoneError as error:
            raise Problem(404, "changed", str(error)) from error
        except asyncio.CancelledError:  # the client has disconnected
            ctx.media.leave(future)
            raise

    async def find(request: Request, name: str, key: str) -> Row:
        collection = (await ctx.index(request, name)).engine.collection
        row = await _wait(ctx.lookup.find(collection, key)) if is_id(key) else None
        if row is None or (row.get(HELD) and not ctx.sees_held(request)):
            raise Problem(404, "not-found", f"no picture with the id {key[:64]!r} is stored")
        return row

    @routes.get(
        "/{id}/thumbnail",
        summary="A small version of a picture",
        response_class=Response,
        responses=_responses("image/jpeg", "image/webp"),
    )
    @routes.head("/{id}/thumbnail", include_in_schema=False)
    async def thumbnail(
        request: Request,
        key: IdParameter,
        size: Side = Side.MIDDLE,
        collection: CollectionParameter = "",
    ) -> Response:
        """Upright, in sRGB, without metadata; WebP if the request accepts `image/webp`."""
        encoding: ThumbnailFormat = "WEBP" if _accepts_webp(request) else "JPEG"
        row = await find(request, collection, key)
        tag = f'"{row["id"]}-{size}-{encoding.lower()}"'
        headers = {"ETag": tag, "Cache-Control": CACHE_FOREVER, "Vary": "Accept", **_HEADERS}
        if has_current_copy(request, tag):
            return Response(status_code=304, headers=headers)
        cached = await ctx.run(ctx.media.cached, row["id"], size, encoding)
        if cached is not None:
            return file_response(request, cached, headers, BROWSER_TYPES[encoding])
        made = await made_of(ctx.media.thumbnail(row, size, encoding))
        return file_response(request, made.data, headers, made.type)

    @routes.get(
        "/{id}/image",
        summary="A picture as it is",
        response_class=Response,
        responses=_responses(*BROWSER_TYPES.values()),
    )
    @routes.head("/{id}/image", include_in_schema=False)
    async def image(
        request: Request, key: IdParameter, collection: CollectionParameter = ""
    ) -> Response:
        """The original bytes if browsers show the format, else an upright JPEG made of them.

        `Range` and `If-Range` ask for a part of them.
        """
        row = await find(request, collection, key)
        tag = f'"{row["id"]}"'
        headers = {"ETag": tag, "Cache-Control": REVALIDATE, **_HEADERS}
        if has_current_copy(request, tag):
            return Response(status_code=304, headers=headers)
        made = await made_of(ctx.media.original(row))
        return file_response(request, made.data, headers, made.type)

    return routes


def _responses(*types: str) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {"content": dict.fromkeys(types, schema)},
        206: {
            "description": "The part that `Range` asks for.",
            "content": dict.fromkeys(types, schema),
        },
        304: {"description": "The client's copy is current."},
        **problems(404, 416),
    }


async def _wait(future: Future[T]) -> T:
    """Wait for a shared future, which must not be cancelled when this client disconnects."""
    return await asyncio.shield(asyncio.wrap_future(future))


def _accepts_webp(request: Request) -> bool:
    """Whether the request accepts WebP by name; programs that send ``*/*`` get JPEG."""
    accepted = request.headers.get("accept", "").lower().replace(" ", "").split(",")
    return any(
        kind.partition(";")[0] == "image/webp" and not kind.endswith(";q=0") for kind in accepted
    )

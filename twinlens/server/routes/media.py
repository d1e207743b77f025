"""``/v1/items/{id}/thumbnail`` and ``/image``: pictures by id."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from enum import IntEnum
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from twinlens.search.images.originals import GoneError
from twinlens.search.images.thumbnails import Encoding
from twinlens.search.records import Row
from twinlens.server.context import Context
from twinlens.server.media import SHOWN, Blob, is_id
from twinlens.server.openapi import problems
from twinlens.server.problems import Problem
from twinlens.server.routes.parameters import CollectionName, Id

T = TypeVar("T")
#: A picture's bytes never change, its id being their hash.
FOREVER = "private, max-age=31536000, immutable"
#: An original may be taken out or go: it is asked for again, and answered 304 while it is there.
REVALIDATED = "private, no-cache"
#: Even where it is opened by itself, a picture runs nothing and is nothing else.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
_PICTURES = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in SHOWN.values()}


class Side(IntEnum):
    """Pixels of a thumbnail's longer side, at most."""

    SMALL = 160
    MIDDLE = 320
    LARGE = 640


def router(ctx: Context) -> APIRouter:
    """The routes of pictures."""
    routes = APIRouter(
        prefix="/v1/items", tags=["items"], dependencies=[ctx.need("read", tenants=True)]
    )

    async def find(request: Request, name: str, key: str) -> Row:
        collection = (await ctx.index(request, name)).engine.collection
        row = await _wait(ctx.lookup.find(collection, key)) if is_id(key) else None
        if row is None:
            raise Problem(404, "not-found", f"no picture with the id {key[:64]!r} is stored")
        return row

    @routes.get(
        "/{id}/thumbnail",
        summary="A picture, small",
        response_class=Response,
        responses={
            200: {"content": {k: _PICTURES[k] for k in ("image/jpeg", "image/webp")}},
            304: {"description": "It is the one that you have."},
            **problems(404, 422, 429),
        },
    )
    async def thumbnail(
        request: Request, key: Id, size: Side = Side.MIDDLE, collection: CollectionName = ""
    ) -> Response:
        """Upright, in sRGB, without metadata; WebP where the request accepts it by name."""
        encoding: Encoding = "WEBP" if _takes_webp(request) else "JPEG"
        row = await find(request, collection, key)
        tag = f'"{row["id"]}-{size}-{encoding.lower()}"'
        headers = {"ETag": tag, "Cache-Control": FOREVER, "Vary": "Accept", **_HEADERS}
        if _has(request, tag):
            return Response(status_code=304, headers=headers)
        kept = await ctx.run(ctx.media.cached, row["id"], size, encoding)
        if kept is not None:
            return Response(kept, headers=headers, media_type=SHOWN[encoding])
        made = await _made(ctx.media.thumbnail(row, size, encoding))
        return Response(made.data, headers=headers, media_type=made.type)

    @routes.get(
        "/{id}/image",
        summary="A picture as it is",
        response_class=Response,
        responses={
            200: {"content": _PICTURES},
            304: {"description": "It is the one that you have."},
            **problems(404, 422, 429),
        },
    )
    async def image(request: Request, key: Id, collection: CollectionName = "") -> Response:
        """The original bytes where browsers show them, else an upright JPEG made of them."""
        row = await find(request, collection, key)
        tag = f'"{row["id"]}"'
        headers = {"ETag": tag, "Cache-Control": REVALIDATED, **_HEADERS}
        if _has(request, tag):
            return Response(status_code=304, headers=headers)
        made = await _made(ctx.media.original(row))
        return Response(made.data, headers=headers, media_type=made.type)

    return routes


async def _made(future: Future[Blob]) -> Blob:
    try:
        return await _wait(future)
    except GoneError as error:
        raise Problem(404, "changed", str(error)) from error


async def _wait(future: Future[T]) -> T:
    """Wait for what others may be waiting for, too: giving up must not cancel it."""
    return await asyncio.shield(asyncio.wrap_future(future))


def _takes_webp(request: Request) -> bool:
    """Whether WebP is accepted by name; programs that say ``*/*`` get what all can read."""
    accepted = request.headers.get("accept", "").lower().replace(" ", "").split(",")
    return any(
        kind.partition(";")[0] == "image/webp" and not kind.endswith(";q=0") for kind in accepted
    )


def _has(request: Request, tag: str) -> bool:
    known = request.headers.get("if-none-match", "").split(",")
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in known)

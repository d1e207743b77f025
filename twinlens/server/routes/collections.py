"""``/v1/collections``: what the database holds."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from twinlens.search.errors import StoreError, UsageError
from twinlens.server.auth import key_of
from twinlens.server.context import Context
from twinlens.server.counts import Counts, describe
from twinlens.server.openapi import problems
from twinlens.server.schemas import responses as answers


def router(ctx: Context) -> APIRouter:
    """The routes of collections."""
    routes = APIRouter(prefix="/v1/collections", tags=["collections"])
    counts = Counts(lambda: ctx.turns.written)

    async def described(request: Request, name: str) -> dict[str, Any] | None:
        """A collection; ``None`` where it is none for who asks."""
        key = key_of(request)
        with suppress(UsageError):  # not divided among tenants: none for a tenant's key
            try:
                index = await ctx.index(request, name)
                return await counts.of(index, key.tenant if key is not None else "")
            except StoreError:  # dropped meanwhile
                if await ctx.run(ctx.library.database.exists, name):
                    raise
        return None

    @routes.get(
        "", response_model=answers.Collections, dependencies=[ctx.need("read", tenants=True)]
    )
    async def collections(request: Request) -> JSONResponse:
        """All collections of the database, with their counts and models.

        With a tenant's key only those that are divided among tenants, as that tenant sees them.
        """
        names = await ctx.run(ctx.library.names)
        found = await asyncio.gather(*(described(request, name) for name in names))
        there = [one for one in found if one is not None]
        return JSONResponse({"collections": there, "default": ctx.library.default})

    @routes.get(
        "/{name}",
        response_model=answers.Collection,
        responses=problems(400, 404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def collection(request: Request, name: str) -> JSONResponse:
        """One collection."""
        return JSONResponse(await ctx.run(describe, await ctx.index(request, name)))

    @routes.delete(
        "/{name}",
        status_code=204,
        response_class=Response,
        responses=problems(400, 404),
        dependencies=[ctx.need("write", tenants=True)],
    )
    async def drop(request: Request, name: str) -> Response:
        """Delete a collection; of a tenant's, the tenant's rows. Files are left alone."""
        index = await ctx.index(request, name)

        def work() -> None:
            kept = ctx.kept.of(index)
            try:
                index.drop()
            finally:
                ctx.library.forget(name)
            ctx.kept.drop(kept)

        async with ctx.turns.of(name):
            await ctx.run(work)
        return Response(status_code=204)

    return routes

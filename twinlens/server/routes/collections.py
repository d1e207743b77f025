"""``/v1/collections``: describe and drop collections.

A Milvus server counts by reading, which takes a second or two for each collection. So the list
counts several collections at once, and caches the counts for some seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, get_args

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from twinlens.index import Index
from twinlens.search.errors import StoreError
from twinlens.search.records import Target
from twinlens.server.answer_cache import AnswerCache
from twinlens.server.auth import tenant_of
from twinlens.server.context import Context
from twinlens.server.inputs import NameParameter
from twinlens.server.openapi import problems
from twinlens.server.schemas.responses import CollectionOut, CollectionsOut

#: Seconds for which counts are cached, unless this server wrote something.
CACHE_SECONDS = 5.0
#: How many collections are counted at once.
CONCURRENT_COUNTS = 6


def router(ctx: Context) -> APIRouter:
    """The routes of collections."""
    routes = APIRouter(prefix="/v1/collections", tags=["collections"])
    counts: AnswerCache[dict[str, Any]] = AnswerCache(lambda: ctx.writes.written)
    limiter = CapacityLimiter(CONCURRENT_COUNTS)

    async def count(index: Index) -> dict[str, Any]:
        return await run_sync(describe, index, limiter=limiter)

    async def described(request: Request, name: str) -> dict[str, Any] | None:
        """Describe a collection; ``None`` if it does not exist for the client."""
        tenant = tenant_of(request)
        try:
            index = await ctx.index(request, name)
            return await counts.get(index, tenant, count, CACHE_SECONDS)
        except StoreError:  # dropped in the meantime
            if name in await ctx.run(ctx.library.names, tenant):
                raise
        return None

    @routes.get("", response_model=CollectionsOut, dependencies=[ctx.need("read", tenants=True)])
    async def collections(request: Request) -> JSONResponse:
        """All collections of the database, with their counts and models.

        A tenant's key sees only the collections that the tenant has rows in, with its counts.
        """
        names = await ctx.run(ctx.library.names, tenant_of(request))
        found = await asyncio.gather(*(described(request, name) for name in names))
        listed = [one for one in found if one is not None]
        return JSONResponse({"collections": listed, "default": ctx.library.default})

    @routes.get(
        "/{name}",
        response_model=CollectionOut,
        responses=problems(404),
        dependencies=[ctx.need("read", tenants=True)],
    )
    async def collection(request: Request, name: NameParameter) -> JSONResponse:
        """One collection."""
        return JSONResponse(await ctx.run(describe, await ctx.index(request, name)))

    @routes.delete(
        "/{name}",
        status_code=204,
        response_class=Response,
        responses=problems(404),
        dependencies=[ctx.need("write", tenants=True)],
    )
    async def drop_collection(request: Request, name: NameParameter) -> Response:
        """Delete a collection; with a tenant's key, the tenant's rows. Files are not touched.

        The collection goes with the rows of its last tenant, unless it is the server's default.
        """
        index = await ctx.index(request, name)

        def work() -> None:
            uploaded = ctx.uploads.of(index)
            try:
                index.drop()
                keep = name == ctx.library.default
                ctx.library.memberships.leave(name, index.tenant, keep=keep)
            finally:
                ctx.library.reopen(name)
                ctx.policies.forget(name, index.tenant)
            ctx.uploads.delete_unused(uploaded)

        async with ctx.writes.turn(name):
            await ctx.run(work)
        return Response(status_code=204)

    return routes


def describe(index: Index) -> dict[str, Any]:
    """A collection as plain types, for JSON."""
    info = asdict(index.info())
    del info["fingerprint"]
    collection = index.engine.collection
    model = collection.fingerprint
    fields = {
        target: dict(sorted(collection.fields(target, all_tenants=True).items()))
        for target in get_args(Target)
    }
    return info | {
        "model": asdict(model) | {"label": model.label, "digest": model.digest},
        "backend": index.backend,
        "fields": fields,
        "modes": list(index.modes),
    }

"""``/v1/collections``: what the database holds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from search.errors import StoreError, UsageError
from search.request import MODES
from search.server import schemas
from search.server.context import Context
from search.server.library import Served
from search.server.openapi import problems


def router(ctx: Context) -> APIRouter:
    """The routes of collections."""
    routes = APIRouter(prefix="/v1/collections", tags=["collections"])

    @routes.get(
        "", response_model=schemas.Collections, dependencies=[ctx.need("read", tenants=True)]
    )
    async def collections(request: Request) -> JSONResponse:
        """All collections of the database, with their counts and models.

        With a tenant's key only those that are divided among tenants, as that tenant sees them.
        """
        described = []
        for name in await ctx.run(ctx.library.names):
            # Not divided among tenants: none for a tenant's key.
            with suppress(UsageError):
                try:
                    described.append(await ctx.run(describe, await ctx.index(request, name)))
                except StoreError:  # dropped meanwhile
                    if await ctx.run(ctx.library.store.exists, name):
                        raise
        return JSONResponse({"collections": described, "default": ctx.library.default})

    @routes.get(
        "/{name}",
        response_model=schemas.Collection,
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


def describe(index: Served) -> dict[str, Any]:
    """A collection as plain types, for JSON."""
    info = index.info()
    corpus = index.engine.corpus
    model = info.fingerprint
    return {
        "name": info.name,
        "images": info.images,
        "texts": info.texts,
        "files": info.files,
        "failed": info.failed,
        "model": asdict(model) | {"label": model.label, "digest": model.digest},
        "index": info.index,
        "vectors": info.vectors,
        "generation": info.generation,
        "unindexed": info.unindexed,
        "tenants": info.tenants,
        "backend": index.backend,
        "fields": {
            "images": dict(sorted(corpus.fields("images", everyones=True).items())),
            "texts": dict(sorted(corpus.fields("texts", everyones=True).items())),
        },
        "modes": list(MODES if corpus.full_text else MODES[:1]),
    }

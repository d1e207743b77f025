"""``create_app``: the whole server as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from anyio import CapacityLimiter
from fastapi import Depends, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from twinlens.search.errors import first_line
from twinlens.search.images.originals import Read, read_file
from twinlens.server import openapi, problems
from twinlens.server.auth import Keys
from twinlens.server.batching import Batcher
from twinlens.server.context import Context, State
from twinlens.server.library import Library
from twinlens.server.lookup import Lookup
from twinlens.server.maps import Maps
from twinlens.server.media import Media
from twinlens.server.metrics import Metrics
from twinlens.server.middleware.limits import Limits
from twinlens.server.middleware.security_headers import Neighbours, Outermost
from twinlens.server.openapi import BodyDocs
from twinlens.server.routes import (
    classify,
    collections,
    embed,
    health,
    items,
    map_points,
    media,
    page,
    search,
    session,
    writing,
)
from twinlens.server.routes.parameters import known_fields
from twinlens.server.settings import Settings
from twinlens.server.writing import Kept, Turns

log = logging.getLogger("twinlens.server")

_ROUTES = (
    health,
    session,
    collections,
    search,
    embed,
    classify,
    writing,
    items,
    media,
    map_points,
    page,
)
#: Turns for work that keeps the model busy for long: the rest of its time is for searches.
HEAVY = 1
#: Seconds after which loading the model is tried again.
WARM_AGAIN = 30.0


def create_app(library: Library, settings: Settings, *, read: Read = read_file) -> FastAPI:
    """An application that answers from a library; it does not close it.

    Args:
        library: the collections.
        settings: how to run.
        read: gets the bytes behind a stored path, to show pictures.

    Raises:
        UsageError: the keys cannot be read.
    """
    metrics = Metrics()
    media = Media(settings.media, read=read)
    ctx = Context(
        settings=settings,
        library=library,
        batcher=Batcher(
            max_batch=settings.max_batch,
            wait=settings.wait_ms / 1_000,
            queue=settings.queue,
            observe=metrics.observe,
        ),
        media=media,
        lookup=Lookup(),
        maps=Maps(),
        metrics=metrics,
        keys=Keys(settings.keys),
        state=State(),
        version=_version(),
        docs=BodyDocs(),
        limiter=CapacityLimiter(settings.threads),
        heavy=CapacityLimiter(HEAVY),
        turns=Turns(),
        kept=Kept(media, library),
    )
    metrics.queue(lambda: ctx.batcher.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ctx.state.warming = "loading" if settings.warm else ""
        warming = asyncio.create_task(_warm(ctx)) if settings.warm else None
        yield
        if warming is not None:
            warming.cancel()
            with suppress(asyncio.CancelledError):
                await warming
        await ctx.batcher.close()
        for part in (ctx.maps, ctx.lookup, ctx.media):
            await ctx.run(part.close)

    app = FastAPI(
        title="twinlens",
        version=ctx.version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=_middleware(ctx),
        redirect_slashes=False,
        dependencies=[Depends(known_fields)],
    )
    app.state.context = ctx
    problems.install(app)
    for module in _ROUTES:
        app.include_router(module.router(ctx))
    openapi.describe(app, ctx)
    return app


def _middleware(ctx: Context) -> list[Middleware]:
    settings = ctx.settings
    shared = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Retry-After"],
        max_age=600,
    )
    return [
        Middleware(Outermost, ctx.metrics, ctx.state, shared=bool(settings.cors)),
        Middleware(Neighbours, settings),
        *([shared] if settings.cors else []),
        Middleware(Limits, settings, ctx.keys),
    ]


async def _warm(ctx: Context) -> None:
    """Load the model before the first query needs it, until it is loaded; tell why it is not."""
    told = ""
    while ctx.state.warming:
        try:
            loading = await ctx.run(ctx.library.warm)
            if loading is not None:
                await asyncio.shield(asyncio.wrap_future(loading))
            ctx.state.warming = ""
        except Exception as error:  # noqa: BLE001 - torch has many, of a full device for one
            said = first_line(error)
            if said != told:
                told = said
                log.warning("%s", said)
            ctx.state.warming = "cannot be loaded"
            await asyncio.sleep(WARM_AGAIN)


def _version() -> str:
    try:
        return version("twinlens")
    except PackageNotFoundError:  # run from a folder
        return "0"

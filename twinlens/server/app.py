"""Build the whole server as an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from anyio import CapacityLimiter
from fastapi import Depends, FastAPI, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from twinlens.ingest.originals import Originals
from twinlens.search.errors import first_line
from twinlens.search.images.fetch import Fetcher, FetchLimits
from twinlens.server import openapi, problems
from twinlens.server.auth import COOKIE, Keys
from twinlens.server.batching import Batcher
from twinlens.server.context import Context, State
from twinlens.server.inputs import refuse_unknown_parameters
from twinlens.server.library import Library
from twinlens.server.maps import Maps
from twinlens.server.media import Media, PictureLookup
from twinlens.server.metrics import Metrics
from twinlens.server.middleware.compression import Compression
from twinlens.server.middleware.limits import Limits
from twinlens.server.middleware.security import OriginCheck, OuterMiddleware
from twinlens.server.middleware.tei import EmbedAtRoot
from twinlens.server.policies import Policies
from twinlens.server.routes import (
    browse,
    classify,
    collections,
    describe,
    download,
    embed,
    examples,
    health,
    images,
    items,
    labels,
    match,
    moderation,
    openai,
    page,
    saved,
    search,
    session,
    tei,
    upload,
)
from twinlens.server.routes import map as map_routes
from twinlens.server.settings import Settings
from twinlens.server.shares import Shares
from twinlens.server.thumbnails import keep_warm
from twinlens.server.writes import UploadedPictures, WriteQueue

log = logging.getLogger("twinlens.server")

_ROUTES = (
    health,
    session,
    collections,
    search,
    saved,
    browse,
    examples,
    embed,
    openai,
    tei,
    classify,
    match,
    describe,
    upload,
    moderation,
    items,
    images,
    download,
    labels,
    map_routes,
    page,
)
#: How many calls may occupy the model for long at once; the rest of its time is for searches.
HEAVY_CALLS = 1
#: Seconds before loading the model is tried again.
RETRY_SECONDS = 30.0


def create_app(library: Library, settings: Settings) -> FastAPI:
    """Make an application that serves a library; it does not close the library.

    Args:
        library: the collections.
        settings: how to run.

    Raises:
        UsageError: a key is not valid.
    """
    metrics = Metrics()
    keys = Keys(settings.keys)
    # One try: a client that waits for a page of thumbnails may ask again.
    media = Media(settings.media, read=Originals(Fetcher(FetchLimits(tries=1)).fetch))
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
        lookup=PictureLookup(),
        maps=Maps(),
        metrics=metrics,
        keys=keys,
        state=State(),
        version=_version(),
        limiter=CapacityLimiter(settings.threads),
        heavy=CapacityLimiter(HEAVY_CALLS),
        heavy_queue=Shares(settings.queue),
        writes=WriteQueue(),
        uploads=UploadedPictures(media, library),
        policies=Policies(),
    )
    metrics.queue(lambda: ctx.batcher.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ctx.state.warming = "loading" if settings.warm else ""
        background = [_warm(ctx), keep_warm(ctx)] if settings.warm else []
        tasks = [asyncio.create_task(one) for one in background]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await ctx.batcher.close()
        for part in (ctx.maps, ctx.lookup, ctx.media):
            await ctx.run(part.close)

    dependencies = [Depends(refuse_unknown_parameters)]
    if keys:  # for the OpenAPI document only: ``Limits`` reads the keys, ``ctx.need`` checks them
        dependencies += [
            Security(HTTPBearer(scheme_name="key", auto_error=False)),
            Security(APIKeyCookie(name=COOKIE, scheme_name="session", auto_error=False)),
        ]
    app = FastAPI(
        title="twinlens",
        description=openapi.DESCRIPTION,
        version=ctx.version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=_middleware(ctx),
        redirect_slashes=False,
        dependencies=dependencies,
        responses=openapi.common_problems(bool(keys)),
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.context = ctx
    problems.install(app)
    for module in _ROUTES:
        app.include_router(module.router(ctx))
    openapi.complete_document(app)
    return app


def _middleware(ctx: Context) -> list[Middleware]:
    settings = ctx.settings
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        # The server trusts these origins; OpenAI's client sends a dozen headers, X-Stainless-….
        allow_headers=["*"],
        expose_headers=["Retry-After"],
        allow_private_network=True,
        max_age=600,
    )
    return [
        Middleware(EmbedAtRoot),
        Middleware(OuterMiddleware, ctx.metrics, ctx.state, shared=bool(settings.cors)),
        Middleware(OriginCheck, settings),
        *([cors] if settings.cors else []),
        Middleware(Limits, settings, ctx.keys),
        Middleware(Compression),
    ]


async def _warm(ctx: Context) -> None:
    """Load the model before the first query needs it; log why it fails, and try again."""
    logged = ""
    while ctx.state.warming:
        try:
            loading = await ctx.run(ctx.library.warm)
            if loading is not None:
                await asyncio.shield(asyncio.wrap_future(loading))
            ctx.state.warming = ""
        except Exception as error:  # noqa: BLE001 - torch raises many kinds, such as a full device
            reason = first_line(error)
            if reason != logged:
                logged = reason
                log.warning("%s", reason)
            ctx.state.warming = "cannot be loaded"
            await asyncio.sleep(RETRY_SECONDS)


def _version() -> str:
    try:
        return version("twinlens")
    except PackageNotFoundError:  # run from a checkout
        return "0"

"""``/healthz``, ``/readyz`` and ``/metrics``: for machines that watch the server."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from twinlens.server import metrics
from twinlens.server.context import Context
from twinlens.server.schemas import responses as answers

#: Seconds in which the database must answer, for who asks whether it does.
PATIENCE = 2.0


def router(ctx: Context) -> APIRouter:
    """The routes of health."""
    routes = APIRouter(tags=["health"])
    checking: asyncio.Task[None] | None = None

    async def database() -> bool:
        """Whether the database answers; those who ask at once share the question."""
        nonlocal checking
        if checking is None or checking.done():
            checking = asyncio.create_task(ctx.run(ctx.library.check))
            checking.add_done_callback(lambda done: done.cancelled() or done.exception())
        asked = checking
        await asyncio.wait([asked], timeout=PATIENCE)
        return asked.done() and not asked.cancelled() and asked.exception() is None

    @routes.get("/healthz", response_model=answers.Health)
    async def healthz() -> JSONResponse:
        """Whether the server runs at all."""
        return JSONResponse({"service": "twinlens", "version": ctx.version, "status": "ok"})

    @routes.get(
        "/readyz",
        response_model=answers.Ready,
        responses={503: {"model": answers.Ready, "description": "Not yet, or not any more."}},
    )
    async def readyz() -> JSONResponse:
        """Whether searches would be answered now: the database answers, the model is loaded."""
        status = "ok"
        model = ctx.state.warming or ctx.library.model_state()
        if ctx.state.leaving:
            status = "stopping"
        elif model == "loading":
            status = "loading"
        elif not await database():
            status = "no database"
        elif ctx.state.warming:
            status = "no model"
        said: dict[str, Any] = {"status": status, "backend": ctx.library.backend, "model": model}
        return JSONResponse(said, 200 if status == "ok" else 503)

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        # Behind a proxy the loopback is everybody's.
        dependencies=[ctx.need("read", keyless=ctx.settings.loopback and not ctx.settings.proxies)],
    )
    async def prometheus() -> Response:
        """What the server measures of itself, for Prometheus."""
        return Response(ctx.metrics.page(), headers={"Content-Type": metrics.MEDIA_TYPE})

    return routes

"""``/healthz``, ``/readyz``, ``/health`` and ``/metrics``: let monitoring watch the server."""

from __future__ import annotations

import asyncio

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from twinlens.server import metrics
from twinlens.server.context import Context
from twinlens.server.openapi import tei_problems
from twinlens.server.schemas.responses import HealthOut, ReadyOut
from twinlens.server.tei_errors import HEALTH, tei_error

#: Seconds in which the database must answer for the server to be ready.
TIMEOUT = 2.0


def router(ctx: Context) -> APIRouter:
    """The routes of monitoring."""
    routes = APIRouter(tags=["health"])
    check: asyncio.Task[None] | None = None
    # A thread of its own: all others may be busy.
    limiter = CapacityLimiter(1)

    async def database_answers() -> bool:
        """Whether the database answers; concurrent calls share one check."""
        nonlocal check
        if check is None or check.done():
            check = asyncio.create_task(run_sync(ctx.library.check, limiter=limiter))
            check.add_done_callback(lambda done: done.cancelled() or done.exception())
        task = check
        await asyncio.wait([task], timeout=TIMEOUT)
        return task.done() and not task.cancelled() and task.exception() is None

    @routes.get("/healthz", response_model=HealthOut)
    async def healthz() -> JSONResponse:
        """Whether the server runs."""
        return JSONResponse({"service": "twinlens", "version": ctx.version, "status": "ok"})

    async def status_and_model() -> tuple[str, str]:
        """``ok`` or what keeps the server from answering searches, and the state of the model."""
        model = ctx.state.warming or ctx.library.model_state()
        if ctx.state.stopping:
            return "stopping", model
        if model == "loading":
            return "loading", model
        if not await database_answers():
            return "no database", model
        return "no model" if ctx.state.warming else "ok", model

    @routes.get(
        "/readyz",
        response_model=ReadyOut,
        responses={503: {"model": ReadyOut, "description": "The server cannot answer searches."}},
    )
    async def readyz() -> JSONResponse:
        """Whether the server can answer searches: the database answers, the model is loaded."""
        status, model = await status_and_model()
        body = {
            "status": status,
            "backend": ctx.library.backend,
            "model": model,
            "loading": ctx.library.loading_models(),
        }
        return JSONResponse(body, 200 if status == "ok" else 503)

    @routes.get(HEALTH, response_class=Response, responses=tei_problems(bool(ctx.keys)))
    async def tei_health() -> Response:
        """Whether the server can answer searches, as TEI tells it: 200 without a body, or 503."""
        status, _ = await status_and_model()
        return Response() if status == "ok" else tei_error(503, status, {})

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        dependencies=[ctx.need("read", keyless=not ctx.settings.reachable)],
    )
    async def prometheus() -> Response:
        """The metrics of the server, for Prometheus."""
        return Response(ctx.metrics.page(), headers={"Content-Type": metrics.MEDIA_TYPE})

    return routes

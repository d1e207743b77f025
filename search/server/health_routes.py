"""``/healthz``, ``/readyz`` and ``/metrics``: for machines that watch the server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

from search.errors import StoreError
from search.server import metrics, schemas
from search.server.context import Context


def router(ctx: Context) -> APIRouter:
    """The routes of health."""
    routes = APIRouter(tags=["health"])
    private = [] if ctx.settings.loopback else [ctx.need("read")]

    @routes.get("/healthz", response_model=schemas.Health)
    async def healthz() -> JSONResponse:
        """Whether the server runs at all."""
        return JSONResponse({"service": "twinlens", "version": ctx.version, "status": "ok"})

    @routes.get(
        "/readyz",
        response_model=schemas.Ready,
        responses={503: {"model": schemas.Ready, "description": "Not yet, or not any more."}},
    )
    async def readyz() -> JSONResponse:
        """Whether searches would be answered now: the database answers, the model is loaded."""
        status = "ok"
        if ctx.state.leaving:
            status = "stopping"
        elif ctx.library.model_state() == "loading":
            status = "loading"
        else:
            try:
                await ctx.run(ctx.library.check)
            except StoreError:
                status = "no database"
        said: dict[str, Any] = {
            "status": status,
            "backend": ctx.library.backend,
            "model": ctx.library.model_state(),
        }
        return JSONResponse(said, 200 if status == "ok" else 503)

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        dependencies=private,
    )
    async def prometheus() -> Response:
        """What the server measures of itself, for Prometheus."""
        return Response(ctx.metrics.page(), headers={"Content-Type": metrics.MEDIA_TYPE})

    return routes

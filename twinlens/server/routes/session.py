"""``/v1/session``: a key as a cookie, for people in a browser."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from twinlens.server.auth import COOKIE, SESSION_SECONDS
from twinlens.server.bodies import read_body
from twinlens.server.context import Context
from twinlens.server.openapi import problems
from twinlens.server.problems import Problem
from twinlens.server.schemas.requests import SignIn


def router(ctx: Context) -> APIRouter:
    """The routes of signing in and out."""
    routes = APIRouter(prefix="/v1/session", tags=["session"])

    @routes.post(
        "",
        status_code=204,
        response_class=Response,
        responses=problems(401, 415, 422),
        openapi_extra=ctx.docs.json(SignIn, {"a key": {"key": "0123456789abcdef"}}),
    )
    async def sign_in(request: Request) -> Response:
        """Turn a key into a cookie that may read."""
        said = (await read_body(ctx, request, SignIn)).said
        response = Response(status_code=204)
        if not ctx.keys:  # nobody needs one here
            return response
        key = ctx.keys.find(said.key)
        if key is None:
            detail = "that is no key of this server"
            raise Problem(401, "key", detail, {"WWW-Authenticate": "Bearer"})
        response.set_cookie(
            COOKIE,
            ctx.keys.session(key),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @routes.delete("", status_code=204, response_class=Response)
    async def sign_out() -> Response:
        """Forget the cookie."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return routes

"""``/v1/session``: exchange a key for a cookie, for people in a browser."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from twinlens.server.auth import COOKIE, SESSION_SECONDS
from twinlens.server.context import Context
from twinlens.server.inputs import BodyReader
from twinlens.server.openapi import problems
from twinlens.server.problems import Problem
from twinlens.server.schemas.requests import SignIn

#: Bytes of a body, which anybody may send: a key of ``MAX_KEY`` characters, escaped.
MAX_BYTES = 8 << 10
_EXAMPLES = {"a key": {"key": "0123456789abcdef"}}


def router(ctx: Context) -> APIRouter:
    """The routes of signing in and out."""
    routes = APIRouter(prefix="/v1/session", tags=["session"])
    reader = BodyReader(ctx, SignIn, _EXAMPLES, max_bytes=MAX_BYTES)

    @routes.post(
        "",
        status_code=204,
        response_class=Response,
        responses=problems(401, 415),
        openapi_extra=reader.openapi(),
    )
    async def sign_in(request: Request) -> Response:
        """Exchange a key for a cookie that allows reading."""
        sent = (await reader.read(request)).data
        response = Response(status_code=204)
        if not ctx.keys:  # the server requires no key
            return response
        key = ctx.keys.find(sent.key)
        if key is None:
            detail = "the key is not one of this server's"
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
        """Delete the cookie."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return routes

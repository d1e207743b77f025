"""Add security headers to responses, and refuse requests of other sites' pages (CSRF)."""

from __future__ import annotations

import asyncio
import logging
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from twinlens.server.metrics import log_request
from twinlens.server.problems import RETRY_AFTER, Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from twinlens.server.context import State
    from twinlens.server.metrics import Metrics
    from twinlens.server.settings import Settings

log = logging.getLogger("twinlens.server")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE = frozenset({"GET", "HEAD"})
#: Methods with their own label in the metrics.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class OuterMiddleware:
    """The outermost middleware: add headers, record metrics, and answer unexpected errors with 500.

    A header that a response already has is kept: pictures have a stricter policy. A server that is
    stopping asks its clients to close their connections, so that no further request is lost. What
    is still under way when its time is up is answered with 503.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, state: State, *, shared: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._state = state
        self._headers = {
            name: value
            for name, value in _HEADERS.items()
            if not (shared and name == "Cross-Origin-Resource-Policy")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def outgoing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
                if self._state.stopping:
                    headers["Connection"] = "close"
            await send(message)

        self._metrics.under_way(1)
        try:
            await self._app(scope, receive, outgoing)
        except ClientDisconnect:
            pass  # nobody to answer
        except asyncio.CancelledError:
            if status or not self._state.stopping:
                raise
            detail = "the server has stopped before it could answer: send the request again"
            stopped = Problem(503, "busy", detail, {"Retry-After": str(RETRY_AFTER)})
            await stopped.response(scope["path"])(scope, receive, outgoing)
        except Exception:
            log.exception("%s %r failed", scope["method"], scope["path"])
            if status:  # part of the response was sent: only closing the connection tells
                raise
            detail = "unexpected error: see the server's log"
            answer = Problem(500, "internal", detail).response(scope["path"])
            await answer(scope, receive, outgoing)
        finally:
            self._metrics.under_way(-1)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "other")
            took = time.perf_counter() - began
            self._metrics.request(method, route, status or 499, took)
            log_request(scope, status or 499, took)


class OriginCheck:
    """Refuse requests that a page of another site makes a browser send.

    Without keys, anybody who reaches the server may use it, and a browser on this machine reaches
    it on behalf of any page. So the origin of a write must be the server's own or a listed one; the
    browser itself keeps the responses of reads from other pages. On the loopback, the host name
    must be known, too, or another site could point its own name here (DNS rebinding). Addresses and
    names without a dot are always accepted, since no other site can own them.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._origins = {origin.lower() for origin in settings.cors}
        self._hosts = {host.lower() for host in (*settings.hosts, settings.host)}
        self._check_host = settings.loopback or bool(settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "").lower()
            problem = self._of_host(host) or self._of_origin(
                scope["method"], headers.get("origin", "").lower(), host
            )
            if problem is not None:
                await problem.response(scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _of_host(self, host: str) -> Problem | None:
        name = _host_name(host)
        known = not self._check_host or name in self._hosts or "." not in name or _is_address(name)
        if known or name.endswith(".localhost"):
            return None
        return Problem(
            421, "host", "the server does not have this host name: see its --name option"
        )

    def _of_origin(self, method: str, origin: str, host: str) -> Problem | None:
        if not origin or method in _SAFE or origin in self._origins:
            return None
        if origin.partition("://")[2] == host:
            return None
        return Problem(403, "origin", "pages of this origin may not call the server: see --cors")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return "no.host"


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

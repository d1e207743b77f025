"""Limit each client: requests a minute, bytes of a body, headers, and concurrent requests."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from cachetools import LRUCache
from starlette.datastructures import Headers

from twinlens.server.auth import COOKIE, Key, Keys
from twinlens.server.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from twinlens.server.settings import Settings

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 << 10
MAX_URL_BYTES = 8 << 10
MAX_QUERY_FIELDS = 64
#: How many clients the rate limit tracks; the least recently seen ones are dropped.
MAX_CLIENTS = 20_000
#: Not limited: monitoring polls these.
_UNLIMITED = frozenset({"/healthz"})
#: The cost of a thumbnail or a file of the page, which a browser requests by the dozen.
SMALL_COST = 0.1


class TokenBuckets:
    """A token bucket (https://en.wikipedia.org/wiki/Token_bucket) for each client.

    Args:
        per_minute: requests a minute in the long run; 0 for no limit.
        burst: how many requests may come at once.
        clock: monotonic seconds.
        max_clients: how many clients are tracked.
    """

    def __init__(
        self,
        per_minute: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._rate = per_minute / 60
        self._burst = float(burst)
        self._clock = clock
        #: The tokens that are left, and when they were counted.
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(max_clients)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str, cost: float = 1.0) -> float:
        """Take tokens from a client's bucket; the seconds to wait, 0 if there were enough."""
        if not self._rate:
            return 0.0
        now = self._clock()
        left, since = self._buckets.get(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        enough = left >= cost
        self._buckets[client] = (left - cost if enough else left, now)
        return 0.0 if enough else (cost - left) / self._rate


class Limits:
    """The middleware: find the key of a request, and refuse what is too much before reading it.

    The key goes into the request's state, for ``twinlens.server.auth.key_of``.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._buckets = TokenBuckets(settings.per_minute, settings.burst)
        self._in_progress = 0
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNLIMITED:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = self._key(headers) if self._keys else None
        scope.setdefault("state", {})["key"] = key
        problem = (
            self._of_head(scope, headers) or self._of_rate(scope, key) or self._of_length(headers)
        )
        if problem is not None:
            await problem.response(scope["path"])(scope, receive, send)
            return
        body = _LimitedBody(receive, self, self._settings)
        self._in_progress += 1
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._in_progress -= 1
            self._bytes -= body.size

    def add_bytes(self, size: int) -> bool:
        """Count bytes of a body in memory; return whether all bodies are within the limit."""
        self._bytes += size
        return self._bytes <= self._settings.max_bodies

    def _key(self, headers: Headers) -> Key | None:
        try:
            parsed = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            parsed = SimpleCookie()
        return self._keys.of(headers, {COOKIE: parsed[COOKIE].value} if COOKIE in parsed else {})

    def _of_head(self, scope: Scope, headers: Headers) -> Problem | None:
        raw = headers.raw
        if len(raw) > MAX_HEADERS or sum(len(n) + len(v) for n, v in raw) > MAX_HEADER_BYTES:
            return Problem(431, "too-large", "the request has too many headers, or too long ones")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            detail = f"send the body uncompressed, not with Content-Encoding {encoding[:40]}"
            return Problem(415, "media-type", detail, {"Accept-Encoding": "identity"})
        query: bytes = scope["query_string"]
        if len(query) + len(scope.get("raw_path") or b"") > MAX_URL_BYTES:
            return Problem(414, "too-large", f"the URL is longer than {MAX_URL_BYTES} bytes")
        if query.count(b"&") >= MAX_QUERY_FIELDS:
            return Problem(414, "too-large", f"the URL has more than {MAX_QUERY_FIELDS} parameters")
        return None

    def _of_rate(self, scope: Scope, key: Key | None) -> Problem | None:
        small = scope["method"] == "GET" and (
            scope["path"].startswith("/static/") or scope["path"].endswith("/thumbnail")
        )
        client = f"key {key.name}" if key is not None else _address(scope)
        seconds = self._buckets.take(client, SMALL_COST if small else 1.0)
        if seconds:
            return _too_many("rate", "too many requests: try again in a moment", seconds)
        if self._in_progress >= self._settings.max_requests:
            detail = f"{self._in_progress} requests are in progress: try again in a moment"
            return _too_many("busy", detail, 1)
        return None

    def _of_length(self, headers: Headers) -> Problem | None:
        declared = headers.get("content-length", "")
        if not declared.isascii() or not declared.isdigit():
            return None
        # The length first: int() is slow for thousands of digits.
        if len(declared) > 18 or int(declared) > self._settings.max_body:
            return too_large(self._settings.max_body)
        return None


class _LimitedBody:
    """Count the bytes of a request's body as it arrives, and stop waiting after a time."""

    def __init__(self, receive: Receive, limits: Limits, settings: Settings) -> None:
        self.size = 0
        self._receive = receive
        self._limits = limits
        self._settings = settings
        self._until = time.monotonic() + settings.body_seconds
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # the app only waits for the client to disconnect now
            return await self._receive()
        try:
            left = max(0.0, self._until - time.monotonic())
            message = await asyncio.wait_for(self._receive(), left)
        except TimeoutError:
            seconds = self._settings.body_seconds
            detail = f"the body took longer than {seconds:g} s"
            raise Problem(408, "body", detail, {"Connection": "close"}) from None
        if message["type"] == "http.request":
            length = len(message.get("body", b""))
            self.size += length
            self._complete = not message.get("more_body", False)
            room = self._limits.add_bytes(length)
            if self.size > self._settings.max_body:
                raise too_large(self._settings.max_body)
            if not room:
                raise _too_many("busy", "too many uploads at once: try again in a moment", 5)
        return message


def too_large(most: int) -> Problem:
    """The problem for a body that is too large."""
    detail = f"the body is larger than {most:,} bytes"
    return Problem(413, "too-large", detail, {"Connection": "close"})


def _too_many(slug: str, detail: str, seconds: float) -> Problem:
    return Problem(429, slug, detail, {"Retry-After": str(max(1, math.ceil(seconds)))})


def _address(scope: Scope) -> str:
    """The address of a client; for IPv6 its /64 network, since one client has a whole network."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{int(address) >> 64:x}/64"
    return host

"""How much one client may ask: requests a minute, bytes of a body, headers, and what is at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

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
#: Clients that the rate limit remembers; past that the one seen longest ago is forgotten.
MAX_CLIENTS = 20_000
#: Costs nothing, and is asked by machines that watch the server.
_FREE = frozenset({"/healthz"})
#: A page shows dozens of these at once: each counts for so much of a request.
SMALL = 0.1


class Buckets:
    """A token bucket (https://en.wikipedia.org/wiki/Token_bucket) for each client.

    Args:
        per_minute: requests that a client may make in the long run; 0 is no limit.
        burst: how many at once.
        clock: seconds that never go back.
    """

    def __init__(
        self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_minute / 60
        self._burst = float(burst)
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, client: str, cost: float = 1.0) -> float:
        """Take from a client's bucket; 0 where there was enough, else the seconds to wait."""
        if not self._rate:
            return 0.0
        now = self._clock()
        left, since = self._held.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        enough = left >= cost
        self._held[client] = (left - cost if enough else left, now)
        if len(self._held) > MAX_CLIENTS:
            self._held.popitem(last=False)
        return 0.0 if enough else (cost - left) / self._rate


class Limits:
    """The middleware: finds out who asks, and refuses what is too much before it is read.

    It leaves the key in the request's state, for ``twinlens.server.auth.need``.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._buckets = Buckets(settings.per_minute, settings.burst)
        self._under_way = 0
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _FREE:
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
        body = _Body(receive, self, self._settings)
        self._under_way += 1
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._under_way -= 1
            self._bytes -= body.size

    def hold(self, size: int) -> bool:
        """Count bytes of a body that are kept; whether there is room for them."""
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
            return Problem(431, "too-large", "the request has too many or too long headers")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            detail = f"send the body as it is, not with Content-Encoding {encoding[:40]}"
            return Problem(415, "media-type", detail, {"Accept-Encoding": "identity"})
        query: bytes = scope["query_string"]
        if len(query) + len(scope.get("raw_path") or b"") > MAX_URL_BYTES:
            return Problem(414, "too-large", f"an address has at most {MAX_URL_BYTES} bytes")
        if query.count(b"&") >= MAX_QUERY_FIELDS:
            return Problem(414, "too-large", f"an address has at most {MAX_QUERY_FIELDS} fields")
        return None

    def _of_rate(self, scope: Scope, key: Key | None) -> Problem | None:
        small = scope["method"] == "GET" and (
            scope["path"].startswith("/static/") or scope["path"].endswith("/thumbnail")
        )
        client = f"key {key.name}" if key is not None else _address(scope)
        seconds = self._buckets.take(client, SMALL if small else 1.0)
        if seconds:
            return _later("rate", "too many requests: wait a moment", seconds)
        if self._under_way >= self._settings.max_requests:
            return _later("busy", f"{self._under_way} requests are under way: wait a moment", 1)
        return None

    def _of_length(self, headers: Headers) -> Problem | None:
        declared = headers.get("content-length", "")
        if not declared.isascii() or not declared.isdigit():
            return None
        # Compared by their lengths first: a number of thousands of digits takes long to read.
        if len(declared) > 18 or int(declared) > self._settings.max_body:
            return too_large(self._settings.max_body)
        return None


class _Body:
    """A request's body as it comes in: counted, and not waited for without end."""

    def __init__(self, receive: Receive, limits: Limits, settings: Settings) -> None:
        self.size = 0
        self._receive = receive
        self._limits = limits
        self._settings = settings
        self._until = time.monotonic() + settings.body_seconds
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # only whether the client is still there is asked now
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
            room = self._limits.hold(length)
            if self.size > self._settings.max_body:
                raise too_large(self._settings.max_body)
            if not room:
                raise _later("busy", "too much is being uploaded at once: wait a moment", 5)
        return message


def too_large(most: int) -> Problem:
    """The answer to a body that is."""
    detail = f"a body has at most {most:,} bytes here"
    return Problem(413, "too-large", detail, {"Connection": "close"})


def _later(slug: str, detail: str, seconds: float) -> Problem:
    return Problem(429, slug, detail, {"Retry-After": str(max(1, math.ceil(seconds)))})


def _address(scope: Scope) -> str:
    """Who asks, by address; of IPv6 the network, for one client has a whole one of them."""
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

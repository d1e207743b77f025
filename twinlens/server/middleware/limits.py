"""Limit each client: requests a minute, headers, bodies, and concurrent requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cachetools import LRUCache
from starlette.datastructures import Headers

from twinlens.server.addresses import client_at
from twinlens.server.auth import Keys
from twinlens.server.middleware.admission import (
    KEYLESS_SECONDS,
    AdmittedRequest,
    Capacity,
    no_room,
    too_large,
    too_many,
)
from twinlens.server.problems import Problem
from twinlens.server.tei_errors import HEALTH

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from twinlens.server.settings import Settings

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 << 10
MAX_URL_BYTES = 8 << 10
MAX_QUERY_FIELDS = 64
#: How many clients the rate limit tracks; the least recently seen ones are dropped.
MAX_CLIENTS = 20_000
#: Always answered: monitoring polls these.
_UNLIMITED = frozenset({"/healthz", "/readyz", HEALTH})
#: Methods whose requests have no body.
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
#: The part of all slots that requests without a key may take where keys are required.
_KEYLESS_PART = 4
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

    Clients are told apart by key, or by address. Where keys are required, requests without one have
    a capacity of their own, so that they never keep out those with a key. The key and the client go
    into the request's state, for ``twinlens.server.auth``.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._buckets = TokenBuckets(settings.per_minute, settings.burst)
        most, seconds = settings.max_requests, settings.body_seconds
        self._usual = Capacity(most, settings.body_budget, seconds)
        self._keyless = self._usual
        if keys:
            slots = max(1, most // _KEYLESS_PART)
            self._keyless = Capacity(slots, settings.body_budget, min(seconds, KEYLESS_SECONDS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = self._keys.of(headers) if self._keys else None
        # Nobody else reads cookies, and FastAPI would parse them in quadratic time: ``Keys.of``.
        scope["headers"] = [(name, value) for name, value in headers.raw if name != b"cookie"]
        client = f"key {key.name}" if key is not None else _address(scope)
        scope.setdefault("state", {}).update(key=key, client=client)
        limited = scope["path"] not in _UNLIMITED
        capacity = self._keyless if key is None else self._usual
        request = AdmittedRequest(capacity, client, self._settings.max_body, receive, send)
        if scope["method"] in _WITHOUT_BODY:
            request.expect_no_body()
        try:
            problem = self._of_head(scope, headers) or self._of_length(headers, capacity)
            if limited:
                problem = problem or self._of_rate(scope, client)
            if limited and problem is None:
                if _has_body(scope, headers):
                    request.expect_body()
                else:
                    problem = request.start()
            if problem is not None:
                await problem.response(scope["path"])(scope, receive, send)
            else:
                await self._app(scope, request.receive, request.send)
        finally:
            request.close()

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

    def _of_rate(self, scope: Scope, client: str) -> Problem | None:
        small = scope["method"] == "GET" and (
            scope["path"].startswith("/static/") or scope["path"].endswith("/thumbnail")
        )
        seconds = self._buckets.take(client, SMALL_COST if small else 1.0)
        if not seconds:
            return None
        problem = too_many("rate", "too many requests: try again in a moment", seconds)
        if scope["method"] in _WITHOUT_BODY:  # drop what else was sent on this connection
            problem.headers = {**(problem.headers or {}), "Connection": "close"}
        return problem

    def _of_length(self, headers: Headers, capacity: Capacity) -> Problem | None:
        declared = headers.get("content-length", "")
        if not declared.isascii() or not declared.isdigit():
            return None
        # The length first: int() is slow for thousands of digits.
        if len(declared) > 18 or int(declared) > self._settings.max_body:
            return too_large(self._settings.max_body)
        if capacity.bytes.used + int(declared) > capacity.bytes.total:
            return no_room()
        return None


def _has_body(scope: Scope, headers: Headers) -> bool:
    if scope["method"] in _WITHOUT_BODY:
        return False
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _address(scope: Scope) -> str:
    return client_at((scope.get("client") or ("", 0))[0])

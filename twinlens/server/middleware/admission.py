"""Admit requests: a slot for each in progress, a place for each body that is still arriving."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from twinlens.server.problems import RETRY_AFTER, Problem
from twinlens.server.shares import Places, Shares

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

#: Seconds that any body may take to arrive, and bytes a second that a larger one must come with
#: after that.
BODY_GRACE = 10.0
BODY_RATE = 64 << 10
#: Seconds for the body of a request without a key, where keys are required: it is small.
KEYLESS_SECONDS = 5.0


class Capacity:
    """What the requests of a server share: slots, places for arriving bodies, and their memory.

    Args:
        requests: requests in progress, and bodies arriving.
        body_bytes: bytes of bodies in memory.
        body_seconds: how long a body may take to arrive.
    """

    def __init__(self, requests: int, body_bytes: int, body_seconds: float) -> None:
        self.slots = Shares(requests)
        self.arriving = Places(requests)
        self.bytes = Shares(body_bytes)
        self.body_seconds = body_seconds


class AdmittedRequest:
    """One request: what it takes of the capacity, from its first byte to its answer.

    A request is in progress from the end of its body until its response is made. One whose body is
    still arriving, or whose response is not read, does no work: it has no slot, so that clients
    that are slow on purpose keep nobody out.

    Args:
        capacity: what it takes from.
        client: whose share it takes.
        max_body: bytes of the largest body.
        receive, send: of the request.
    """

    def __init__(
        self, capacity: Capacity, client: str, max_body: int, receive: Receive, send: Send
    ) -> None:
        self._capacity = capacity
        self._client = client
        self._max_body = max_body
        self._receive = receive
        self._send = send
        self._began = time.monotonic()
        self._size = 0
        self._complete = False
        self._evicted = False
        self._started = False
        self._has_slot = False
        self._waiting: asyncio.Timeout | None = None

    def start(self) -> Problem | None:
        """Take a slot, once; the problem if there is none."""
        if not self._started:
            self._started = self._has_slot = self._capacity.slots.take(self._client)
        if self._started:
            return None
        count = self._capacity.slots.of(self._client) or self._capacity.slots.used
        return too_many("busy", f"{count} requests are in progress: try again in a moment", 1)

    def expect_no_body(self) -> None:
        """Neither count nor time what is received."""
        self._complete = True

    def expect_body(self) -> None:
        """Take a place for a body that will arrive."""
        self._capacity.arriving.enter(self._client, self, 1, self._evict)

    def close(self) -> None:
        """Give everything back."""
        self._release()
        self._capacity.arriving.leave(self._client, self)
        self._capacity.bytes.give_back(self._client, self._size)

    async def receive(self) -> Message:
        """The next message, of the body at first.

        Raises:
            Problem: 408 if it takes too long, 413 if it is too large, 429 if the client has too
                many requests in progress, 503 if there is no memory.
        """
        if self._complete:  # whoever receives now waits for the client to disconnect
            return await self._receive()
        try:
            left = max(0.0, self._seconds - (time.monotonic() - self._began))
            async with asyncio.timeout(0 if self._evicted else left) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            raise self._late() from None
        finally:
            self._waiting = None
        if message["type"] == "http.request":
            self._take_bytes(len(message.get("body", b"")))
            if not message.get("more_body", False):
                self._complete = True
                self._capacity.arriving.leave(self._client, self)
                problem = self.start()
                if problem is not None:
                    raise problem
        return message

    async def send(self, message: Message) -> None:
        """Send a message, without a slot; take it again for what else is made of the response."""
        self._release()
        await self._send(message)
        if message.get("more_body", False):
            self._has_slot = self._capacity.slots.take(self._client)

    @property
    def _seconds(self) -> float:
        return min(self._capacity.body_seconds, BODY_GRACE + self._size / BODY_RATE)

    def _take_bytes(self, length: int) -> None:
        if self._size + length > self._max_body:
            raise too_large(self._max_body)
        held = self._capacity.bytes
        only = held.of(self._client) == self._size  # the only body of the client
        if length and not held.take(self._client, length, whole=only):
            raise no_room()
        self._size += length

    def _release(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._capacity.slots.give_back(self._client)

    def _evict(self) -> None:
        """Stop waiting for the body: a newer request has its place."""
        self._evicted = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def _late(self) -> Problem:
        detail = f"the body took longer than {self._seconds:g} s"
        if self._evicted:
            detail = "too many bodies are arriving: this one was the slowest"
        return Problem(408, "body", detail, {"Connection": "close"})


def too_large(most: int) -> Problem:
    """The problem for a body that is too large."""
    detail = f"the body is larger than {most:,} bytes"
    return Problem(413, "too-large", detail, {"Connection": "close"})


def no_room() -> Problem:
    """The problem for a body that does not fit into memory beside the others."""
    detail = "the server has no memory for more bodies at once: try again in a moment"
    headers = {"Retry-After": str(RETRY_AFTER), "Connection": "close"}
    return Problem(503, "busy", detail, headers)


def too_many(slug: str, detail: str, seconds: float) -> Problem:
    """The problem for too many requests, which may be repeated after some seconds."""
    return Problem(429, slug, detail, {"Retry-After": str(max(1, math.ceil(seconds)))})

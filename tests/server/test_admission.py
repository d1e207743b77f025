"""One client cannot take what all need: slots, places for bodies, memory, the answers of others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.serving import READ, bearer

from twinlens.server.auth import Keys
from twinlens.server.middleware import admission
from twinlens.server.middleware.limits import Limits
from twinlens.server.problems import Problem
from twinlens.server.settings import Settings

ATTACKER, OTHER = "192.0.2.1", "192.0.2.2"
PATIENCE = 20.0


class Caller:
    """Calls a server's limits with an app that holds requests to ``/held`` until ``release``."""

    def __init__(self, *keys: str, **settings: Any) -> None:
        self.held = asyncio.Event()
        self.statuses: list[int] = []
        self.tasks: list[asyncio.Task[int]] = []
        self._limits = Limits(self._app, Settings(**settings), Keys(keys))

    async def ask(
        self, path: str = "/", host: str = ATTACKER, key: str = "", body: str = "", sent: str = ""
    ) -> int:
        """The status of one request; ``body`` is "whole", "never", or "" for a GET."""
        headers = [(b"content-length", b"2")] if body else []
        if key:
            headers.append((b"authorization", bearer(key)["Authorization"].encode()))
        status = 0

        async def receive() -> dict[str, Any]:
            if body == "never":
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"{}" if body else b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif sent == "never":
                await self.held.wait()

        scope = {
            "type": "http",
            "method": "POST" if body else "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "client": (host, 1),
        }
        try:
            await self._limits(scope, receive, send)
        except Problem as problem:
            status = problem.status_code
        return status

    async def start(self, count: int, **how: str) -> None:
        """Start requests that do not end."""
        self.tasks += [asyncio.create_task(self.ask(**how)) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)

    async def finish(self) -> list[int]:
        """Release the held requests; the statuses of all that were started."""
        self.held.set()
        for task in self.tasks:
            if not task.done():
                await asyncio.wait([task], timeout=0.05)
                task.cancel()
        done = await asyncio.gather(*self.tasks, return_exceptions=True)
        return [one for one in done if isinstance(one, int)]

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await receive()
        if scope["path"] == "/held":
            await self.held.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def run(check: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(check(), PATIENCE))


def test_bodies_that_never_come_keep_nobody_out() -> None:
    async def check() -> None:
        caller = Caller(max_requests=8)
        await caller.start(30, body="never")
        assert await caller.ask(host=OTHER, body="whole") == 200
        assert await caller.ask(host=OTHER) == 200
        # Not even the same client's own requests that are complete.
        assert await caller.ask(body="whole") == 200
        assert await caller.ask() == 200
        # The oldest were told that they are too slow.
        assert set(await caller.finish()) == {408}

    run(check)


def test_answers_that_nobody_reads_keep_nobody_out() -> None:
    async def check() -> None:
        caller = Caller(max_requests=2)
        await caller.start(30, sent="never")
        assert await caller.ask() == 200
        assert await caller.ask(host=OTHER) == 200
        assert set(await caller.finish()) == {200}

    run(check)


def test_one_client_leaves_slots_for_others() -> None:
    async def check() -> None:
        caller = Caller(max_requests=8)
        await caller.start(30, path="/held")
        assert await caller.ask() == 429
        assert await caller.ask(host=OTHER) == 200
        assert await caller.ask(host=OTHER, body="whole") == 200
        statuses = await caller.finish()
        assert (statuses.count(200), statuses.count(429)) == (4, 26)
        assert await caller.ask() == 200

    run(check)


def test_addresses_of_one_ipv6_network_share() -> None:
    async def check() -> None:
        caller = Caller(max_requests=8)
        for number in range(30):
            await caller.start(1, path="/held", host=f"2001:db8::{number:x}")
        assert await caller.ask(host="2001:db8::ffff") == 429
        assert await caller.ask(host="2001:db8:0:1::1") == 200
        await caller.finish()

    run(check)


def test_requests_without_a_key_keep_out_none_with_a_key() -> None:
    async def check() -> None:
        caller = Caller(READ, max_requests=8)
        for number in range(30):  # of many addresses
            await caller.start(1, path="/held", host=f"198.51.100.{number}")
            await caller.start(1, body="never", host=f"198.51.100.{number}")
        assert await caller.ask(host=OTHER) == 429
        assert await caller.ask(key=READ) == 200
        assert await caller.ask(key=READ, body="whole") == 200
        await caller.finish()

    run(check)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_monitoring_is_always_answered(path: str) -> None:
    async def check() -> None:
        caller = Caller(max_requests=1, rate=1, burst=1)
        await caller.start(3, path="/held")
        assert await caller.ask() == 429
        assert [await caller.ask(path) for _ in range(3)] == [200] * 3
        await caller.finish()

    run(check)


def test_a_small_body_has_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BODY_GRACE", 0.01)

    async def check() -> None:
        assert await Caller(body_seconds=3_600).ask(body="never") == 408

    run(check)


def test_a_body_without_a_key_has_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from twinlens.server.middleware import limits

    monkeypatch.setattr(limits, "KEYLESS_SECONDS", 0.01)

    async def check() -> None:
        caller = Caller(READ, body_seconds=3_600)
        await caller.start(1, body="never", key=READ)
        assert await caller.ask(body="never") == 408
        assert not caller.tasks[0].done()
        await caller.finish()

    run(check)


def test_one_clients_bodies_leave_memory_for_others() -> None:
    async def check() -> None:
        caller = Caller(max_bodies=12, max_body=4)
        await caller.start(10, path="/held", body="whole")
        assert await caller.ask(body="whole") == 503
        assert await caller.ask(body="whole", host=OTHER) == 200
        assert await caller.finish() == [200] * 3 + [503] * 7

    run(check)


def test_a_long_answer_is_not_cut_while_it_waits_for_a_disconnect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Starlette's streaming responses do."""
    monkeypatch.setattr(admission, "BODY_GRACE", 0.01)

    async def check() -> None:
        gone = asyncio.Event()
        first = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if first:
                return first.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            assert (await receive())["type"] == "http.request"
            asyncio.get_running_loop().call_later(0.05, gone.set)
            assert (await receive())["type"] == "http.disconnect"

        async def send(message: Any) -> None:
            """Nobody reads it."""

        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        limits = Limits(app, Settings(max_requests=1), Keys())
        await limits(scope, receive, send)

    run(check)


def test_a_long_answer_has_a_slot_while_it_is_made() -> None:
    async def check() -> None:
        made, statuses = asyncio.Event(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await made.wait()
            await send({"type": "http.response.body", "body": b"b"})

        async def receive() -> dict[str, Any]:
            raise AssertionError

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        limits = Limits(app, Settings(max_requests=1), Keys())
        first = asyncio.create_task(limits(dict(scope), receive, send))
        await asyncio.sleep(0)
        await limits(dict(scope), receive, send)
        assert 429 in statuses
        made.set()
        await first
        statuses.clear()
        await limits(dict(scope), receive, send)
        assert statuses[0] == 200

    run(check)

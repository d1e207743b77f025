"""Limits of each client: requests a minute, bytes, headers, and concurrent requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.serving import READ, bearer, painted_db, serving

from twinlens.server.auth import Keys
from twinlens.server.middleware import limits
from twinlens.server.middleware.limits import Limits, TokenBuckets
from twinlens.server.problems import Problem
from twinlens.server.settings import Settings

SMALL = 64 << 10


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("limits"))


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[TestClient]:
    with serving(db, max_body=SMALL, max_embed=8) as opened:
        yield opened


def json_of(size: int) -> bytes:
    """A valid search body of an exact number of bytes."""
    head, tail = b'{"query": "red"', b"}"
    return head + b" " * (size - len(head) - len(tail)) + tail


def test_a_body_of_exactly_the_limit_is_accepted(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    taken = client.post("/v1/search", content=json_of(SMALL), headers=headers)
    assert taken.status_code == 200
    refused = client.post("/v1/search", content=json_of(SMALL + 1), headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (413, "/problems/too-large")
    assert refused.headers["connection"] == "close"


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = client.post("/v1/search", content=b"\x1f\x8b", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/media-type")
    assert "gzip" in answer.json()["detail"]
    headers["Content-Encoding"] = "identity"
    assert client.post("/v1/search", content=json_of(60), headers=headers).status_code == 200


def test_a_body_without_a_length_is_counted_as_it_arrives(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(9):
            yield b" " * (SMALL // 8)

    answer = client.post(
        "/v1/search", content=chunks(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    form = client.post("/v1/search", files={"image": ("a.png", b"x" * SMALL)})
    assert form.status_code == 413


def test_a_content_length_that_is_not_a_number(client: TestClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": "9" * 5_000}
    answer = client.post("/v1/search", content=b"{}", headers=headers)
    assert answer.status_code == 413


def test_reading_stops_at_the_limit() -> None:
    """The rest of a body that is too large is never read."""
    asked = 0

    async def endless() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b" " * 1_000, "more_body": True}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    settings = Settings(max_body=10_000)
    middleware = Limits(app, settings, Keys())
    with pytest.raises(Problem) as raised:
        asyncio.run(middleware(_scope("/x"), endless, _nowhere))
    assert raised.value.status_code == 413
    assert asked == 11


def test_waiting_for_a_body_times_out() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    middleware = Limits(app, Settings(body_seconds=0.01), Keys())
    with pytest.raises(Problem) as raised:
        asyncio.run(middleware(_scope("/x"), never, _nowhere))
    assert raised.value.status_code == 408


def test_all_bodies_together_are_bounded() -> None:
    async def check() -> None:
        held = asyncio.Event()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x" * 600, "more_body": False}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if scope["path"] == "/first":
                await held.wait()

        middleware = Limits(app, Settings(max_body=1_000, max_bodies=1_000), Keys())
        first = asyncio.create_task(middleware(_scope("/first"), receive, _nowhere))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as raised:
            await middleware(_scope("/second"), receive, _nowhere)
        assert raised.value.status_code == 503
        assert raised.value.headers is not None
        assert int(raised.value.headers["Retry-After"]) > 0
        held.set()
        await first
        await middleware(_scope("/third"), receive, _nowhere)  # there is room again

    asyncio.run(check())


def test_concurrent_requests_are_bounded() -> None:
    async def check() -> None:
        held = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await held.wait()

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        middleware = Limits(app, Settings(max_requests=1), Keys())
        first = asyncio.create_task(middleware(_scope("/x"), _empty, send))
        await asyncio.sleep(0)
        await middleware(_scope("/x"), _empty, send)
        assert sent[0]["status"] == 429
        held.set()
        await first

    asyncio.run(check())


def test_headers_and_urls_are_bounded(client: TestClient) -> None:
    many = client.get("/v1/collections", headers={f"X-{n}": "x" for n in range(101)})
    assert many.status_code == 431
    long = client.get("/v1/collections", headers={"X": "x" * 17_000})
    assert long.status_code == 431
    query = client.get("/v1/collections?" + "x" * 9_000)
    assert query.status_code == 414
    fields = client.get("/v1/collections?" + "&".join(f"a{n}=1" for n in range(65)))
    assert fields.status_code == 414
    for answer in (many, long, query, fields):
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_bucket_empties_and_refills() -> None:
    now = 0.0
    buckets = TokenBuckets(per_minute=60, burst=3, clock=lambda: now)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(1)
    assert buckets.take("b") == 0
    now = 0.5
    assert buckets.take("a") == pytest.approx(0.5)
    now = 1.0
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    now = 1e9
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") > 0


def test_a_rate_of_0_is_no_limit() -> None:
    buckets = TokenBuckets(per_minute=0, burst=1)
    assert {buckets.take("a") for _ in range(100)} == {0.0}
    assert len(buckets) == 0


def test_the_rate_limit_tracks_a_bounded_number_of_clients() -> None:
    buckets = TokenBuckets(per_minute=60, burst=3, max_clients=10)
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets) == 10


def test_too_many_requests_get_a_429_with_retry_after(db: Path) -> None:
    with serving(db, rate=6, burst=2) as client:
        statuses = [client.get("/v1/collections").status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        answer = client.get("/v1/collections")
        assert answer.json()["type"] == "/problems/rate"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert client.get("/healthz").status_code == 200


def test_each_key_has_a_bucket_of_its_own(db: Path) -> None:
    other = "other:read:other-key-0123456789"
    with serving(db, rate=6, burst=1, keys=(READ, other)) as client:
        assert client.get("/v1/collections", headers=bearer(READ)).status_code == 200
        assert client.get("/v1/collections", headers=bearer(READ)).status_code == 429
        assert client.get("/v1/collections", headers=bearer(other)).status_code == 200
        # Guessing keys is counted by address.
        guesses = [
            client.get("/v1/collections", headers={"Authorization": f"Bearer {n}"}).status_code
            for n in range(2)
        ]
        assert guesses == [401, 429]


def test_clients_are_told_apart_by_address() -> None:
    def client(host: str) -> str:
        return limits._address({"client": (host, 1)})

    assert client("192.0.2.1") != client("192.0.2.2")
    assert client("2001:db8::1") == client("2001:db8::2")  # one network, one client
    assert client("2001:db8::1") != client("2001:db8:0:1::1")
    assert client("::ffff:192.0.2.1") == client("192.0.2.1")
    assert limits._address({"client": None}) == ""


def test_the_rate_is_limited_if_other_machines_can_reach_the_server() -> None:
    assert Settings(host="127.0.0.1").per_minute == 0
    assert Settings(host="0.0.0.0").per_minute > 0
    assert Settings(host="0.0.0.0", rate=0).per_minute == 0
    assert Settings(host="::1", rate=5).per_minute == 5


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.1", 1),
    }


async def _nowhere(message: Any) -> None:
    """Send nothing."""


async def _empty() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}

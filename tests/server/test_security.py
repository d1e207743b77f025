"""Security headers, requests of other sites' pages, and errors without internals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient
from support.serving import painted_db, serving

from twinlens.search import errors
from twinlens.server.batching import QueueFullError
from twinlens.server.middleware.security import CONTENT_SECURITY_POLICY
from twinlens.server.problems import Problem, install

HERE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("headers"))


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[TestClient]:
    with serving(db) as opened:
        yield opened


def test_every_response_has_the_security_headers(client: TestClient) -> None:
    for method, path in (("GET", "/healthz"), ("GET", "/nowhere"), ("PUT", "/v1/search"),
                         ("POST", "/v1/search")):  # fmt: skip
        headers = client.request(method, path).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/search", 405, "method"),
        ("BREW", "/v1/search", 405, "method"),
        ("GET", "/v1/collections/", 404, "not-found"),
        ("GET", "/v1/items/..%2f..%2fetc%2fpasswd", 404, "not-found"),
        ("GET", "//etc/passwd", 404, "not-found"),
        ("GET", "/v1/items/" + "0" * 32 + "?vector=maybe", 422, "validation"),
    ],
)
def test_the_frameworks_own_errors_are_problems(
    client: TestClient, method: str, path: str, status: int, slug: str
) -> None:
    answer = client.request(method, f"{HERE}{path}")
    said = answer.json()
    assert (answer.status_code, said["status"]) == (status, status)
    assert said["type"] == f"/problems/{slug}"
    assert said["title"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_pages_of_other_sites_cannot_write(client: TestClient) -> None:
    form = {"image": ("a.png", b"x")}  # what a page can send without asking
    foreign = client.post("/v1/search", files=form, headers={"Origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["type"]) == (403, "/problems/origin")
    opaque = client.post("/v1/search", json={"query": "red"}, headers={"Origin": "null"})
    assert opaque.status_code == 403
    own = client.post("/v1/search", json={"query": "red"}, headers={"Origin": HERE})
    assert own.status_code == 200
    preflight = client.options(
        "/v1/search",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 403


def test_unknown_host_names_are_refused_on_the_loopback(client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8640", "127.0.0.1.evil.example", "a]b.c"):
        answer = client.get("/v1/collections", headers={"Host": host})
        assert (answer.status_code, answer.json()["type"]) == (421, "/problems/host")
    for host in ("localhost:8640", "127.0.0.1", "[::1]:8640", "box", "app.localhost"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_listed_host_names_are_accepted(db: Path) -> None:
    with serving(db, hosts=("photos.example",)) as client:
        assert client.get("/healthz", headers={"Host": "photos.example"}).status_code == 200
        assert client.get("/healthz", headers={"Host": "other.example"}).status_code == 421
    with serving(db, host="0.0.0.0") as client:
        assert client.get("/healthz", headers={"Host": "other.example"}).status_code == 200


def test_listed_origins_may_call(db: Path) -> None:
    friend = {"Origin": "https://friend.example"}
    with serving(db, cors=("https://friend.example",)) as client:
        answer = client.post("/v1/search", json={"query": "red"}, headers=friend)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        assert "access-control-allow-credentials" not in answer.headers
        preflight = client.options(
            "/v1/search",
            headers=friend
            | {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert preflight.status_code == 200
        refused = client.post("/v1/search", json={}, headers=friend)
        assert refused.headers["access-control-allow-origin"] == "https://friend.example"
        foreign = client.get("/healthz", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    ("error", "status", "slug", "retry"),
    [
        (errors.UsageError("x"), 400, "usage", False),
        (errors.FilterError("x"), 400, "filter", False),
        (errors.ImageError("x"), 422, "image", False),
        (errors.SourceError("x"), 422, "source", False),
        (errors.ModelMismatchError("x"), 409, "model-mismatch", False),
        (errors.ModelError("x"), 503, "model", True),
        (errors.CollectionNotFoundError("x"), 404, "collection", False),
        (errors.UnsupportedError("x"), 422, "unsupported", False),
        (errors.StoreLockedError("x"), 503, "store-locked", True),
        (errors.StoreReadOnlyError("x"), 503, "store-read-only", True),
        (errors.StoreUnreachableError("x"), 503, "store-unreachable", True),
        (errors.StoreError("x"), 502, "store", False),
        (QueueFullError(3), 429, "busy", True),
        (Problem(418, "teapot", "x"), 418, "teapot", False),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int, slug: str, retry: bool) -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    async def fail(request: Request) -> None:
        raise error

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    said = answer.json()
    assert (answer.status_code, said["status"], said["type"]) == (
        status,
        status,
        f"/problems/{slug}",
    )
    assert said["detail"]
    assert ("retry-after" in answer.headers) == retry


def test_a_client_that_disconnects_is_not_an_error(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/search",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    sent: list[Any] = []

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, gone, send))  # type: ignore[arg-type]
    assert sent == []
    assert caplog.text == ""
    page = client.get("/metrics").text
    assert 'route="/v1/search",status="499"' in page


def test_unexpected_errors_show_no_internals(
    db: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("the secret of /etc/shadow")

    monkeypatch.setattr("twinlens.server.routes.collections.describe", fail)
    with serving(db) as client:
        answer = client.get("/v1/collections/twinlens")
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    for word in ("secret", "Traceback", "RuntimeError", ".py"):
        assert word not in answer.text
    assert "the secret of /etc/shadow" in caplog.text  # the log has it

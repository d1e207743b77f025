"""The real server as a process: it starts, answers, and stops without losing a request."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest
from support.colours import ColourEncoder
from support.process import running
from support.serving import paint, painted_db

import twinlens
from twinlens.search.errors import ModelMismatchError, UsageError
from twinlens.server.run import check_open, listen
from twinlens.server.settings import Settings


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("run"))


def test_a_request_that_takes_longer_is_still_answered(db: Path) -> None:
    with running(db, pause=1.5) as (process, host, port):
        with closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/search", '{"query": "a blue picture"}', headers)
            assert _get(host, port, "/healthz").status == 200  # the search is accepted by now
            process.send_signal(signal.SIGTERM)
            answer = connection.getresponse()
            assert answer.status == 200
            assert json.loads(answer.read())["hits"][0]["path"].endswith("blue.png")
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_websocket_request_logs_nothing(db: Path) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    with running(db, access_log=True) as (process, host, port):
        assert _get(host, port, "/", **upgrade).status == 200
        assert _get(host, port, "/v1/collections?x=secret").status == 422
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    lines = err.splitlines()
    assert len(lines) == 2, err
    assert " GET / 200 " in lines[0]
    assert " GET /v1/collections 422 " in lines[1]


def test_the_cookie_is_secure_behind_a_proxy_with_tls(db: Path) -> None:
    key = "me:read:0123456789abcdef"
    body = json.dumps({"key": key.split(":")[2]})
    for proxies, forwarded, secure in (
        (("127.0.0.1",), "https", True),
        (("127.0.0.1",), "http", False),
        (("10.0.0.0/8",), "https", False),
    ):
        with running(db, keys=(key,), proxies=proxies) as (process, host, port):
            with closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
                connection.request("POST", "/v1/session", body, {
                    "Content-Type": "application/json", "X-Forwarded-Proto": forwarded,
                    "X-Forwarded-For": "192.0.2.7"})  # fmt: skip
                answer = connection.getresponse()
            assert answer.status == 204
            assert ("; Secure" in str(answer.getheader("Set-Cookie"))) is secure
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def test_a_request_that_is_not_http_is_answered_and_closed(db: Path) -> None:
    with running(db) as (process, host, port):
        for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"GET\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000):  # fmt: skip
            with socket.create_connection((host, port), timeout=20) as raw:
                raw.sendall(sent)
                said = b"".join(iter(lambda: _received(raw), b""))
            assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n"), said
            assert b"application/problem+json" in said
        answer = _get(host, port, "/healthz")
        assert answer.status == 200
        assert answer.getheader("Server") is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_other_processes_read_beside_a_server_and_learn_where_to_write(db: Path) -> None:
    photos = paint(db.parent / "more")
    with running(db) as (_, host, port), twinlens.open(db, model=ColourEncoder()) as index:
        before = index.info().images
        with twinlens.connect(f"http://{host}:{port}") as remote:
            remote.ingest(photos)
        assert index.info().images >= before
        assert index.search("red", limit=1)
        with pytest.raises(
            twinlens.StoreLockedError, match=f"twinlens serve.* --db http://{host}:{port}"
        ):
            index.ingest(photos)


def test_a_public_address_needs_keys() -> None:
    with pytest.raises(UsageError, match=r"other machines can reach 0\.0\.0\.0"):
        check_open(Settings(host="0.0.0.0"))
    check_open(Settings(host="0.0.0.0", open=True))
    check_open(Settings(host="0.0.0.0", keys=("me:read:0123456789abcdef",)))
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.0.1"):
        check_open(Settings(host=host))
    with pytest.raises(UsageError, match=r"other machines can reach example\.org"):
        check_open(Settings(host="example.org"))


def test_addresses_that_cannot_be_listened_on() -> None:
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1 port"):
            listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UsageError, match="cannot listen"):
        listen("192.0.2.1", 0)
    with pytest.raises(UsageError, match="is not an address"):
        listen("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 70_000}, "must be from 0 to 65535"),
        ({"host": ""}, "name an address"),
        ({"cors": ("*",)}, "is not an origin"),
        ({"cors": ("https://a.example/path",)}, "is not an origin"),
        ({"collection": "1st"}, "is not a valid collection name"),
        ({"rate": -1.0}, "requests per minute"),
        ({"wait_ms": float("nan")}, "wait_ms"),
        ({"queue": 0}, "queue"),
        ({"proxies": ("banana",)}, "is not the address of a proxy"),
        ({"networks": ("banana",), "allow_urls": True}, "is not a network"),
        ({"networks": ("10.0.0.1/8",), "allow_urls": True}, "is not a network"),
        ({"networks": ("10.0.0.0/8",)}, "--allow-urls"),
        ({"colour": "red"}, "unknown setting 'colour'"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Settings.of(**settings)


@pytest.mark.parametrize("model", ["clip-b32", ColourEncoder("others")])
def test_another_model_than_the_collections_is_refused_at_the_start(
    db: Path, model: object
) -> None:
    with pytest.raises(ModelMismatchError, match="leave the model out"):
        twinlens.serve(db, port=0, model=model)  # type: ignore[arg-type]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from twinlens.server.run import check_extra

    check_extra()
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else real(name)
    )
    with pytest.raises(UsageError, match=r"pip install 'twinlens\[serve\]'"):
        check_extra()


def _get(host: str, port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    with closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer


def _received(raw: socket.socket) -> bytes:
    try:
        return raw.recv(65_536)
    except ConnectionResetError:
        return b""

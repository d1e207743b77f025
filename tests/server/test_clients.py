"""Many clients at once, and images at URLs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder
from support.serving import painted_db, serving

from twinlens.search.models.base import Rows


class Gated(ColourEncoder):
    """An encoder that waits for a gate, and records how many texts each call gets."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.passes: list[int] = []

    def texts(self, texts: Sequence[str]) -> Rows:
        self.entered.set()
        assert self.gate.wait(30)
        self.passes.append(len(texts))
        return super().texts(texts)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("clients"))


def _waiting(client: TestClient, count: int) -> None:
    """Wait until a number of searches are accepted and not answered."""
    batcher = client.app.state.context.batcher  # type: ignore[attr-defined]
    pause = threading.Event()
    for _ in range(3_000):
        if batcher.waiting >= count:
            return
        pause.wait(0.01)
    pytest.fail(f"only {batcher.waiting} of {count} searches came")


def _ask(client: TestClient, query: str) -> tuple[int, list[str], str]:
    answer = client.post("/v1/search", json={"query": query, "limit": 1})
    stems = [Path(hit["path"]).stem for hit in answer.json().get("hits", [])]
    return answer.status_code, stems, answer.headers.get("retry-after", "")


def test_concurrent_clients_share_batches_and_get_their_own_answers(db: Path) -> None:
    encoder = Gated()
    encoder.gate.set()
    colours = list(COLOURS) * 3
    with serving(db, encoder) as client, ThreadPoolExecutor(len(colours)) as pool:
        _ask(client, "warm up")  # the calibration is made
        encoder.gate.clear()
        encoder.passes.clear()
        encoder.entered.clear()
        queries = [f"a {colour} picture, {number}" for number, colour in enumerate(colours)]
        answers = [pool.submit(_ask, client, query) for query in queries]
        _waiting(client, len(colours))
        encoder.gate.set()
        found = [answer.result(60) for answer in answers]
    assert found == [(200, [colour], "") for colour in colours]
    assert sum(encoder.passes) == len(colours)
    assert len(encoder.passes) < len(colours) / 2


def test_clients_beyond_the_queue_get_a_429_with_retry_after(db: Path) -> None:
    encoder = Gated()
    with (
        serving(db, encoder, queue=6, max_batch=1) as client,  # half of it for one client
        ThreadPoolExecutor(4) as pool,
    ):
        held = [pool.submit(_ask, client, f"a red picture {number}") for number in range(3)]
        _waiting(client, 3)
        status, _, retry = _ask(client, "one too many")
        assert (status, int(retry) >= 1) == (429, True)
        ready = client.get("/healthz")  # the rest goes on
        assert ready.status_code == 200
        encoder.gate.set()
        assert [one.result(60)[:2] for one in held] == [(200, ["red"])] * 3
        assert _ask(client, "a blue picture")[:2] == (200, ["blue"])


@contextmanager
def _web(answers: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine, and the requested paths."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_image_urls_are_fetched_only_if_allowed(db: Path) -> None:
    red = (db.parent / "photos" / "red.png").read_bytes()
    answers = {
        "/red.png": (200, {}, red),
        "/gone.png": (404, {}, b""),
        "/page": (200, {}, b"<html>"),
        "/away": (302, {"Location": "http://169.254.169.254/latest/meta-data"}, b""),
    }

    def ask(client: TestClient, url: str) -> tuple[int, str]:
        answer = client.post("/v1/search", json={"query": {"image": {"url": url}}, "limit": 1})
        return answer.status_code, json.dumps(answer.json())

    with _web(answers) as (here, asked):
        with serving(db) as client:
            status, said = ask(client, f"{here}/red.png")
            assert (status, "does not fetch images from URLs" in said) == (400, True)
        with serving(db, allow_urls=True) as client:
            status, said = ask(client, f"{here}/red.png")
            assert (status, "not a public host" in said) == (422, True)
            for url in ("http://localhost/x", "http://[::1]/x", "http://169.254.169.254/x",
                        "http://0x7f000001/x", "file:///etc/passwd", "ftp://127.0.0.1/x",
                        "http://user:pass@127.0.0.1/x", "//127.0.0.1/x", "nonsense"):  # fmt: skip
                assert ask(client, url)[0] == 422, url
        assert asked == []  # nothing went out
        with serving(db, allow_urls=True, networks=("127.0.0.0/8",)) as client:
            status, said = ask(client, f"{here}/red.png")
            assert (status, "red.png" in said) == (200, True)
            for path in ("/gone.png", "/page", "/away"):
                assert ask(client, f"{here}{path}")[0] == 422, path
        assert asked == ["/red.png", "/gone.png", "/page", "/away"]

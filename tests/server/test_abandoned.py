"""The server does not work for clients that have gone."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.colours import ColourEncoder
from support.serving import library_of, paint, running_server

import twinlens
from twinlens.search.models.base import Rows
from twinlens.server.app import create_app
from twinlens.server.settings import Settings

PATIENCE = 30.0


class Gated(ColourEncoder):
    """An encoder that waits for a gate, and records the texts that it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[str] = []

    def texts(self, texts: Sequence[str]) -> Rows:
        self.seen += texts
        assert self.gate.wait(PATIENCE)
        return super().texts(texts)


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def server(tmp_path: Path, gated: Gated) -> Iterator[tuple[Any, tuple[str, int]]]:
    """The context and the address of a server whose encoder is gated; it is warm."""
    photos = paint(tmp_path / "photos")
    with twinlens.open(tmp_path / "some.db", model=gated) as index:
        index.ingest(photos)
    library = library_of(tmp_path / "some.db", gated)
    app = create_app(library, Settings(media=tmp_path / "media", warm=False))
    with contextlib.closing(library), running_server(app, Settings(port=0)) as running:
        answered(send(running.address, "/v1/search", {"query": "warm"}))
        gated.seen.clear()
        yield app.state.context, running.address
        gated.gate.set()


def send(address: tuple[str, int], path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request; the connection."""
    data = json.dumps(body).encode()
    connected = socket.create_connection(address, timeout=PATIENCE)
    connected.sendall(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
        + data
    )
    return connected


def answered(connected: socket.socket) -> bytes:
    with connected:
        said = b"".join(iter(lambda: connected.recv(65_536), b""))
    assert said.startswith(b"HTTP/1.1 200 "), said
    return said


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_searches_of_clients_that_have_gone_are_dropped(
    server: tuple[Any, tuple[str, int]], gated: Gated
) -> None:
    ctx, address = server
    gated.gate.clear()
    first = send(address, "/v1/search", {"query": "the first"})
    wait_until(lambda: gated.seen == ["the first"])
    gone = [
        send(address, "/v1/search", {"query": f"gone {number}", "limit": 1_000})
        for number in range(20)
    ]
    stays = send(address, "/v1/search", {"query": "stays"})
    wait_until(lambda: ctx.batcher.waiting == 22)
    for connected in gone:
        connected.close()
    wait_until(lambda: ctx.batcher.waiting == 2)
    gated.gate.set()
    answered(first)
    answered(stays)
    assert len(gated.seen) == 2
    assert gated.seen[1].endswith("stays")


def test_calls_that_wait_for_the_model_are_dropped(
    server: tuple[Any, tuple[str, int]], gated: Gated
) -> None:
    ctx, address = server
    gated.gate.clear()
    first = send(address, "/v1/embed", {"texts": ["the first"]})
    wait_until(lambda: gated.seen == ["the first"])
    gone = [send(address, "/v1/embed", {"texts": [f"gone {n}"]}) for n in range(20)]
    wait_until(lambda: ctx.heavy_queue.used == 21)
    for connected in gone:
        connected.close()
    wait_until(lambda: ctx.heavy_queue.used == 1)
    gated.gate.set()
    answered(first)
    answered(send(address, "/v1/embed", {"texts": ["stays"]}))
    assert gated.seen == ["the first", "stays"]


def test_threads_of_clients_that_have_gone_are_finished_before_others_start(
    server: tuple[Any, tuple[str, int]], gated: Gated
) -> None:
    """Or clients that come and go could start any number of threads."""
    ctx, address = server
    gated.gate.clear()
    first = send(address, "/v1/embed", {"texts": ["the first"]})
    wait_until(lambda: gated.seen == ["the first"])
    first.close()
    second = send(address, "/v1/embed", {"texts": ["the second"]})
    wait_until(lambda: ctx.heavy_queue.used == 2)
    assert ctx.heavy.borrowed_tokens == 1
    assert gated.seen == ["the first"]
    gated.gate.set()
    answered(second)
    assert gated.seen == ["the first", "the second"]

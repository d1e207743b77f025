"""Connections: how many each address has, slow heads, answers that nobody reads, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.colours import ColourEncoder
from support.serving import RunningServer, library_of, painted_db, running_server

from twinlens.server.app import create_app
from twinlens.server.connections import Connections, connections_allowed
from twinlens.server.settings import Settings

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
#: Seconds that a test waits at most for what must happen.
PATIENCE = 30.0


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("connections"))


class Running(RunningServer):
    """A server in a thread, whose event loop tests may use."""

    @property
    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    def in_loop(self, work: Callable[[], Any]) -> Any:
        """Call something in the server's loop, which does nothing else meanwhile."""

        async def call() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(PATIENCE)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE)


@contextmanager
def serving(db: Path, **settings: Any) -> Iterator[Running]:
    chosen = Settings.of(**{"media": db.with_suffix(".media"), "warm": False, "port": 0} | settings)
    with (
        contextlib.closing(library_of(db, ColourEncoder())) as library,
        running_server(create_app(library, chosen), chosen, Running) as running,
    ):
        yield running


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def answer_on(connected: socket.socket) -> tuple[int, dict[str, Any]]:
    answer = http.client.HTTPResponse(connected)
    answer.begin()
    return answer.status, json.loads(answer.read())


def test_a_client_that_reads_no_answer_is_disconnected(db: Path) -> None:
    with serving(db, write_seconds=0.2) as running, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 10)
        stuck.settimeout(0.5)
        stuck.connect(running.address)
        one = b"GET /static/search/main.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        with contextlib.suppress(OSError):
            stuck.sendall(one * 5_000)
        wait_until(lambda: any(one.flow.write_paused for one in running.connections))
        wait_until(lambda: not running.connections)
        with running.connect() as other:
            other.sendall(REQUEST)
            assert answer_on(other)[0] == 200


def test_the_rest_of_an_answer_must_be_read_after_closing_too(db: Path) -> None:
    with serving(db, write_seconds=0.2, idle_seconds=1) as running, running.connect() as stuck:
        stuck.sendall(REQUEST)
        wait_until(lambda: bool(running.connections and running.connections[0].cycle))

        def leave_unsent() -> None:
            (connection,) = running.connections
            connection.transport.set_write_buffer_limits(high=64 << 20)
            connection.transport.write(b"x" * (32 << 20))

        running.in_loop(leave_unsent)
        wait_until(lambda: not running.connections)


def test_the_answer_to_a_refused_body_arrives(db: Path) -> None:
    """Closing a connection with something to read in it would reset it."""
    with serving(db, max_body=1_000) as running, running.connect() as client:
        head = b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % (32 << 20))
        client.sendall(b" " * (32 << 20))
        status, problem = answer_on(client)
        assert (status, problem["type"]) == (413, "/problems/too-large")
        client.close()
        wait_until(lambda: not running.connections)


def test_a_slow_head_is_not_waited_for(db: Path) -> None:
    with serving(db, head_seconds=0.2) as running, running.connect() as slow:
        slow.sendall(REQUEST[:20])
        assert slow.recv(100) == b""


def test_a_request_in_the_socket_outlives_the_idle_time(db: Path) -> None:
    """The idle time ends after the client has sent a request, and before the loop has read it."""
    with serving(db) as running, running.connect() as client:
        client.sendall(REQUEST)
        assert answer_on(client)[0] == 200

        def meet() -> None:
            (connection,) = running.connections
            client.sendall(REQUEST)
            connection.timeout_keep_alive_handler()

        running.in_loop(meet)
        assert answer_on(client)[0] == 200


def test_a_client_learns_at_once_that_its_idle_connection_ends(db: Path) -> None:
    """And not only when the loop, which may be busy, comes to closing the socket."""
    with serving(db) as running, running.connect() as client:
        client.sendall(REQUEST)
        assert answer_on(client)[0] == 200

        def end() -> bytes:
            (connection,) = running.connections
            connection.timeout_keep_alive_handler()
            client.settimeout(0.5)
            return client.recv(100)

        assert running.in_loop(end) == b""


def test_an_idle_connection_is_closed_in_the_end(db: Path) -> None:
    with serving(db, idle_seconds=1) as running, running.connect() as client:
        client.sendall(REQUEST)
        assert answer_on(client)[0] == 200
        assert client.recv(100) == b""


def test_idle_connections_stay_longer_than_those_in_the_pools_of_clients() -> None:
    expiry = httpx.Limits().keepalive_expiry
    assert expiry is not None
    # Proxies, such as the load balancers of clouds, keep theirs for a minute.
    assert Settings().idle_seconds > max(expiry, 60)


@pytest.mark.parametrize("first", [True, False])
def test_a_stop_answers_what_is_in_a_socket(db: Path, first: bool) -> None:
    with serving(db) as running, running.connect() as client:
        if not first:
            client.sendall(REQUEST)
            assert answer_on(client)[0] == 200
        wait_until(lambda: bool(running.connections))

        def meet() -> None:
            client.sendall(REQUEST)
            for connection in running.connections:
                connection.shutdown()

        running.in_loop(meet)
        assert answer_on(client)[0] == 200


def test_a_stop_answers_connections_that_were_not_accepted_yet(db: Path) -> None:
    with serving(db) as running:
        clients: list[socket.socket] = []
        running.in_loop(lambda: _stop_with_waiting(running, clients))
        for client in clients:
            with client:
                assert answer_on(client)[0] == 200


def _stop_with_waiting(running: Running, clients: list[socket.socket]) -> None:
    for _ in range(5):
        clients.append(running.connect())
        clients[-1].sendall(REQUEST)
    running.server.should_exit = True
    # Nothing is accepted between now and the end of listening.
    running.loop.remove_reader(running.listening.fileno())


def test_more_connections_than_a_client_may_have_are_refused(db: Path) -> None:
    with serving(db, max_connections=4) as running:
        busy = [running.connect() for _ in range(2)]
        for one in busy:
            one.sendall(b"POST /v1/session HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
                        b"Content-Type: application/json\r\n\r\n")  # fmt: skip
        wait_until(lambda: sum(one.cycle is not None for one in running.connections) == 2)
        with running.connect() as more:
            status, problem = answer_on(more)
            assert (status, problem["type"]) == (503, "/problems/busy")
        for one in busy:
            one.close()
        wait_until(lambda: not running.connections)
        with running.connect() as again:
            again.sendall(REQUEST)
            assert answer_on(again)[0] == 200


class FakeConnection:
    """A connection that is idle, or not."""

    def __init__(self, idle: bool = True) -> None:
        self.idle = idle
        self.ended = False

    def end(self) -> None:
        self.ended = True


def test_a_new_connection_takes_the_place_of_an_idle_one_of_the_same_client() -> None:
    every = Connections(8)
    busy, *idle = [FakeConnection(idle=number > 0) for number in range(4)]
    for one in (busy, *idle):
        assert every.open(one, "192.0.2.1")
    assert every.open(FakeConnection(idle=False), "192.0.2.1")
    assert [one.ended for one in (busy, *idle)] == [False, True, False, False]
    for _ in range(2):
        assert every.open(FakeConnection(idle=False), "192.0.2.1")
    assert not every.open(FakeConnection(), "192.0.2.1")
    assert every.open(FakeConnection(), "192.0.2.2")


def test_connections_that_are_closed_are_counted_no_longer() -> None:
    every = Connections(2)
    first = FakeConnection(idle=False)
    assert every.open(first, "192.0.2.1")
    assert not every.open(FakeConnection(), "192.0.2.1")
    every.close(FakeConnection(), "192.0.2.1")  # was not counted
    assert not every.open(FakeConnection(), "192.0.2.1")
    every.close(first, "192.0.2.1")
    assert every.open(FakeConnection(), "192.0.2.1")


def test_the_connections_of_a_proxy_are_those_of_many_clients() -> None:
    every = Connections(8, ["10.0.0.0/8"])
    assert all(every.open(FakeConnection(idle=False), "10.1.2.3") for _ in range(8))
    assert not every.open(FakeConnection(), "192.0.2.1")


def test_the_oldest_unread_answers_of_a_client_give_way() -> None:
    every, aborted = Connections(8, unread=100), []
    for number in range(4):
        every.hold_unread(
            FakeConnection(), "192.0.2.1", 30, lambda number=number: aborted.append(number)
        )
    assert aborted == [0, 1]


def test_the_limit_of_open_files_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits = [1_024, 4_096]

    def set_limits(kind: int, wanted: tuple[int, int]) -> None:
        limits[0] = wanted[0]

    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    assert connections_allowed(2_000) == 2_000
    assert limits[0] >= 2_000 + 200
    assert connections_allowed(10_000) == 4_096 - 256
    monkeypatch.setattr(resource, "setrlimit", lambda kind, wanted: 1 / 0)
    limits[:] = [8_192, 8_192]
    assert connections_allowed(2_000) == 2_000

"""Starts the server with uvicorn, and stops it so that no accepted request is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import UsageError
from twinlens.search.images.originals import Read, read_file
from twinlens.server.middleware import access_log as access

if TYPE_CHECKING:
    from fastapi import FastAPI

    from twinlens.search.milvus.database import Database
    from twinlens.search.models.base import Encoder
    from twinlens.server.library import Served
    from twinlens.server.settings import Settings

log = logging.getLogger("twinlens.server")

#: Seconds in which a server that was told to stop still takes connections, and asks every client
#: to close its own: so nobody sends what is not read any more.
FAREWELL = 0.5
#: Seconds that a request's headers may take.
HEAD_SECONDS = 20.0
#: Connections at once; more are closed.
MAX_CONNECTIONS = 2_000
MAX_HEAD_BYTES = 32 << 10


def serve(
    database: Database,
    opener: Callable[[str, Encoder], Served],
    settings: Settings,
    *,
    model: str | Encoder = "auto",
    device: str = "auto",
    precision: Any = "auto",
    read: Read = read_file,
    started: Callable[[str], None] | None = None,
) -> None:
    """Answer requests until told to stop: SIGTERM, or Ctrl-C. Closes the store.

    Args:
        store: the database.
        opener: opens one of its collections by name, with an encoder.
        settings: how to run.
        model, device, precision: see ``twinlens.server.library.Library``.
        read: gets the bytes behind a stored path, to show pictures.
        started: called with the server's address once it answers.

    Raises:
        UsageError: it may not, or cannot, listen where it is told to, or the keys cannot be read.
        ModelMismatchError: the default collection was made with another model.
    """
    from twinlens.server.library import Library

    with database:
        check_extra()
        from twinlens.server.app import create_app

        check_open(settings)
        library = Library(
            database,
            opener,
            default=settings.collection,
            model=model,
            device=device,
            precision=precision,
        )
        library.check_model()
        run(create_app(library, settings, read=read), settings, started)


def run(app: FastAPI, settings: Settings, started: Callable[[str], None] | None = None) -> None:
    """Run an application of ``twinlens.server.app`` until told to stop."""
    if settings.access_log:
        access.begin()
    listening = listen(settings.host, settings.port)
    with listening:
        _server(app, settings, listening, started).run(sockets=[listening])


def check_extra() -> None:
    """Raise ``UsageError`` where a package that serving needs is not installed."""
    from importlib.util import find_spec

    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if find_spec(name) is None:
            raise UsageError("serving needs more packages: pip install 'twinlens[serve]'")


def check_open(settings: Settings) -> None:
    """Raise ``UsageError`` where anybody could use the server, unless that is meant."""
    from twinlens.server.auth import Keys

    if not (settings.loopback or settings.open or Keys(settings.keys)):
        raise UsageError(
            f"{settings.host} can be reached from elsewhere, and no key is asked for: give --keys "
            "FILE, or say --no-auth if everybody may read and write"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address.

    Raises:
        UsageError: the address is none, or not this machine's, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host} is no address to listen on: {error}") from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen on {host} port {port}: {reason}") from error
    return bound


def address_of(listening: socket.socket) -> str:
    """The address of a server by its socket: ``http://127.0.0.1:8640``."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(
    app: FastAPI,
    settings: Settings,
    listening: socket.socket,
    started: Callable[[str], None] | None,
) -> Any:
    """uvicorn's server, with manners of our own at both ends of its life."""
    import uvicorn

    state = app.state.context.state
    config = uvicorn.Config(
        app,
        http=_protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if started is not None and self.started:
                started(address_of(listening))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            state.leaving = True
            await asyncio.sleep(FAREWELL)
            await super().shutdown(sockets)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn's own would raise the signal again, before the database is closed.
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            signals = (signal.SIGINT, signal.SIGTERM)
            before = {one: signal.signal(one, self.handle_exit) for one in signals}
            try:
                yield
            finally:
                for one, handler in before.items():
                    signal.signal(one, handler)

    return Server(config)


def _protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP, with a limit on how long a client takes to ask, and on how many do."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > MAX_CONNECTIONS:
                transport.abort()
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._late is not None:
                self._late.cancel()

        def _unsupported_upgrade_warning(self) -> None:
            """Nothing: that somebody asks for a WebSocket is no mistake of whoever runs this."""

        def send_400_response(self, msg: str) -> None:
            problem = {
                "type": "/problems/body",
                "title": "The request cannot be read",
                "status": 400,
                "detail": msg,
                "instance": "",
            }
            body = json.dumps(problem).encode()
            head = (
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

        def _watch(self) -> None:
            """Count the time as long as a request's head is under way, or none at all."""
            asking = self.cycle is None or self.cycle.response_complete
            if not asking and self._late is not None:
                self._late.cancel()
                self._late = None
            elif asking and self._late is None:
                self._late = self.loop.call_later(HEAD_SECONDS, self._hang_up)

        def _hang_up(self) -> None:
            self._late = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Protocol

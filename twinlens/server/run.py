"""Run the server with uvicorn, and stop it without losing accepted requests."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from twinlens.search.milvus.database import Database
    from twinlens.search.models.base import Encoder, Precision
    from twinlens.server.settings import Settings

log = logging.getLogger("twinlens.server")

#: Seconds for which a stopping server still accepts connections, and asks every client to close
#: its own, so that no request is lost.
DRAIN_SECONDS = 0.5
#: Seconds until connections that were accepted last are ready.
ACCEPT_SECONDS = 0.05
#: Connections that may wait to be accepted.
BACKLOG = 2_048
MAX_HEAD_BYTES = 32 << 10
#: Bytes of each connection's send buffer in the kernel. Linux would let it grow to megabytes, which
#: clients that never read could fill.
SEND_BUFFER = 512 << 10


def serve(
    database: Database,
    settings: Settings,
    *,
    model: str | Encoder = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    started: Callable[[str], None] | None = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C, then close the database.

    Args:
        database: the database.
        settings: how to run.
        model, device, precision: see ``twinlens.server.library.Library``.
        started: called with the server's address once it accepts requests.

    Raises:
        UsageError: it must not or cannot listen on the address, or a key is not valid.
        ModelMismatchError: the default collection was made with another model.
    """
    from twinlens.search.milvus.lite.serving import serving
    from twinlens.server.library import Library

    with database:
        check_extra()
        from twinlens.server.app import create_app

        check_open(settings)
        library = Library(
            database,
            default=settings.collection,
            model=model,
            device=device,
            precision=precision,
        )
        library.check_model()
        with ExitStack() as notes:

            def on_start(address: str) -> None:
                if database.capabilities.lite:
                    notes.enter_context(serving(database.uri, address))
                if started is not None:
                    started(address)

            run(create_app(library, settings), settings, on_start)


def run(app: FastAPI, settings: Settings, started: Callable[[str], None] | None = None) -> None:
    """Run an application of ``twinlens.server.app`` until SIGTERM or Ctrl-C."""
    if settings.access_log:
        from twinlens.server.metrics import start_access_log

        start_access_log()
    listening = listen(settings.host, settings.port)
    with listening:
        _server(app, settings, listening, started).run(sockets=[listening])


def check_extra() -> None:
    """Raise ``UsageError`` if a package that the server needs is not installed."""
    from importlib.util import find_spec

    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if find_spec(name) is None:
            raise UsageError("the server needs more packages: pip install 'twinlens[serve]'")


def check_open(settings: Settings) -> None:
    """Raise ``UsageError`` if the server would be open to anybody without ``Settings.open``."""
    from twinlens.server.auth import Keys

    if not settings.reachable or settings.open or Keys(settings.keys):
        return
    how = f"{settings.host} directly" if not settings.loopback else "the server through its proxy"
    raise UsageError(
        f"other machines can reach {how}, and there are no keys: use --keys FILE, or --no-auth to "
        "let everybody read and write"
    )


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket to an address.

    Raises:
        UsageError: the address is not valid or not of this machine, or the port is in use.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host} is not an address to listen on: {error}") from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        bound.bind(address)
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen on {host} port {port}: {reason}") from error
    return bound


def address_of(listening: socket.socket) -> str:
    """The address of a server's socket, such as ``http://127.0.0.1:8640``."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(
    app: FastAPI,
    settings: Settings,
    listening: socket.socket,
    started: Callable[[str], None] | None,
) -> Any:
    """uvicorn's server, which reports its start and drains its connections before it stops."""
    import uvicorn

    from twinlens.server.connections import Connections, connections_allowed
    from twinlens.server.protocol import BoundedProtocol

    state = app.state.context.state
    connections = Connections(connections_allowed(settings.max_connections), settings.proxies)
    config = uvicorn.Config(
        app,
        http=partial(BoundedProtocol, settings=settings, open_connections=connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(settings.idle_seconds)),
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if started is not None and self.started:
                started(address_of(listening))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            state.stopping = True
            await asyncio.sleep(DRAIN_SECONDS)
            await self._stop_listening()
            await super().shutdown(sockets)

        async def _stop_listening(self) -> None:
            waiting = _take_waiting(listening)
            for server in self.servers:
                server.close()
            loop = asyncio.get_running_loop()
            for one in waiting:
                with suppress(OSError):
                    await loop.connect_accepted_socket(self._connection, one)
            await asyncio.sleep(ACCEPT_SECONDS)

        def _connection(self) -> asyncio.Protocol:
            return BoundedProtocol(
                settings=settings,
                open_connections=connections,
                config=config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn's own method raises the signal again before the database is closed.
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


def _take_waiting(listening: socket.socket) -> list[socket.socket]:
    """Accept what waits in the backlog of a socket: closing it would reset these connections."""
    taken: list[socket.socket] = []
    with suppress(OSError):
        while len(taken) < BACKLOG:
            taken.append(listening.accept()[0])
    return taken

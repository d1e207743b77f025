"""uvicorn's HTTP protocol, with bounds on connections and on the time that a client takes."""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from twinlens.server.connections import Connections
    from twinlens.server.settings import Settings

#: Bytes a second that a client must read of an answer.
READ_RATE = 1 << 10
#: Seconds in which a connection must send its request after the server was told to stop.
LAST_SECONDS = 0.5
#: Seconds for which the rest of a refused body is read and dropped.
LINGER_SECONDS = 5.0
#: Seconds until an idle connection is looked at again, if a request is waiting in its socket.
LOOK_AGAIN = 1.0


class BoundedProtocol(H11Protocol):
    """One connection.

    It is closed if a request's head takes too long, and aborted if its answer is not read. It is
    not closed while a request is waiting in its socket, which would be lost: the client could not
    know whether it was worked on. Nor while a refused body is still arriving, because that would
    reset the connection, and the client would lose the answer (RFC 9112, section 9.6).

    Args:
        settings: how long things may take.
        open_connections: all connections of the server.
        options: see uvicorn.
    """

    def __init__(
        self, *, settings: Settings, open_connections: Connections, **options: Any
    ) -> None:
        super().__init__(**options)
        self._settings = settings
        self._all = open_connections
        self._host = ""
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._lingers = False

    @property
    def idle(self) -> bool:
        """Whether no request is under way, and none is waiting in the socket."""
        return self._between_requests and not self._has_input()

    def end(self) -> None:
        """Close the connection; abort it if its client does not read what was written."""
        self.transport.close()
        self._abort_unread()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        if self._all.open(self, self._host):
            self._watch_head()
        else:
            detail = "too many connections are open: try again in a moment"
            self._refuse(503, "busy", "The server is busy", detail, "Retry-After: 1\r\n")

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            return
        super().data_received(data)
        self._watch_head()

    def handle_events(self) -> None:
        """Start the requests that have arrived."""
        super().handle_events()
        if self.cycle is not None and self.cycle.transport is self.transport:
            self.cycle.transport = _ClosingTransport(self.transport, self._close)  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.close(self, self._host)
        self._stop_watching_unread()
        if self._late is not None:
            self._late.cancel()

    def pause_writing(self) -> None:
        """Expect the client to read: the transport's buffer is full."""
        super().pause_writing()
        size = self.transport.get_write_buffer_size()
        self._all.hold_unread(self, self._host, size, self.transport.abort)
        self._watch_unread(size)

    def resume_writing(self) -> None:
        """Write on: the client has read."""
        super().resume_writing()
        self._stop_watching_unread()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to read the last answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_unread()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless a request has just arrived."""
        if self._has_input():  # reading it cancels this
            self.timeout_keep_alive_task = self.loop.call_later(
                LOOK_AGAIN, self.timeout_keep_alive_handler
            )
            return
        self._say_goodbye()
        super().timeout_keep_alive_handler()
        self._abort_unread()

    def shutdown(self) -> None:
        """Close the connection after its last answer; wait a moment for a first request."""
        if self._between_requests and (self.cycle is None or self._has_input()):
            self.loop.call_later(LAST_SECONDS, self._hang_up)
            return
        if self._between_requests:
            self._say_goodbye()
        super().shutdown()
        self._abort_unread()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, "body", "The request cannot be read", msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a client's request for a WebSocket is not the operator's mistake."""

    @property
    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _has_input(self) -> bool:
        """Whether the socket has something to read that the event loop has not read yet."""
        connected = self.transport.get_extra_info("socket")
        if connected is None or connected.fileno() < 0 or not hasattr(select, "poll"):
            return False
        asked = select.poll()
        asked.register(connected.fileno(), select.POLLIN)
        return bool(asked.poll(0))

    def _say_goodbye(self) -> None:
        """Tell the client now that the connection ends: asyncio closes it only after other work."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _close(self) -> None:
        """Close the connection after a response; first drop the rest of its request."""
        if not self.cycle.more_body or self.transport.is_closing():
            self.transport.close()
            return
        self._lingers = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_SECONDS, self.end)

    def _watch_head(self) -> None:
        """Start the timer while waiting for a request's head, and stop it afterwards."""
        if not self._between_requests and self._late is not None:
            self._late.cancel()
            self._late = None
        elif self._between_requests and self._late is None:
            self._late = self.loop.call_later(self._settings.head_seconds, self._hang_up)

    def _hang_up(self) -> None:
        self._late = None
        if self._between_requests:
            self.end()

    def _watch_unread(self, size: int) -> None:
        """Abort the connection unless its client reads some of what waits."""
        seconds = self._settings.write_seconds

        def check() -> None:
            left = self.transport.get_write_buffer_size()
            if size - left < min(size, seconds * READ_RATE):
                self.transport.abort()
            else:
                self._watch_unread(left)

        self._unread = self.loop.call_later(seconds, check)

    def _stop_watching_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
            self._all.release_unread(self, self._host)

    def _abort_unread(self) -> None:
        """Abort a connection that is closing, if the rest of its answer is not read in time."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self._settings.write_seconds, self.transport.abort)

    def _refuse(self, status: int, slug: str, title: str, detail: str, header: str = "") -> None:
        """Answer with a problem, without an application's help, and close."""
        problem = {"type": f"/problems/{slug}", "title": title, "status": status,
                   "detail": detail, "instance": ""}  # fmt: skip
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{header}"
            "Content-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.end()


class _ClosingTransport:
    """A transport that is closed by a function."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

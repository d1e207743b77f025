"""A TCP relay before a Milvus, which can be stopped and started again: Milvus goes away."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from twinlens.search.milvus.database import Database


class Relay:
    """Hands connections on to ``to``; between ``stop`` and ``start`` nobody answers at its port.

    Args:
        to: the host and port of who answers.
    """

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, at the same port as ever."""
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def stop(self) -> None:
        """End every connection, and take no more."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        _shut(self._listener)  # closing alone would not wake who accepts
        self._accepting.join()
        self._listener.close()
        for end in list(self._ends):
            _shut(end)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(near,)))
            self._threads[-1].start()

    def _greet(self, near: socket.socket) -> socket.socket:
        """A new connection, as it is spoken on."""
        return near

    def _serve(self, raw: socket.socket) -> None:
        with (
            raw,
            contextlib.suppress(OSError),
            self._greet(raw) as near,
            socket.create_connection(self._to) as far,
        ):
            self._ends |= {near, far}
            if self._stopped.is_set():
                return
            back = threading.Thread(target=_hand_on, args=(far, near))
            back.start()
            _hand_on(near, far)
            back.join()


@contextmanager
def relayed(place: str) -> Iterator[Relay]:
    """A relay before a database, whether that is a server's address or a Milvus Lite path."""
    with contextlib.ExitStack() as stack:
        if place.endswith(".db"):
            database = stack.enter_context(Database(place))
            place = f"http://{database.client.lite()._config.address}"
        where = urlsplit(place)
        assert where.hostname is not None
        assert where.port is not None
        relay = Relay((where.hostname, where.port))
        stack.callback(relay.stop)
        yield relay


def _hand_on(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            to.sendall(data)
    _shut(to)
    _shut(source)


def _shut(end: socket.socket) -> None:
    """End a connection; whoever reads from it is woken. TLS or not, there is no good-bye."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(end, socket.SHUT_RDWR)

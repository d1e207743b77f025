"""Bound the open connections of each address, and the answers that nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twinlens.server.addresses import client_at, is_within
from twinlens.server.shares import Places, Shares

#: Bytes of answers that wait in memory for their clients to read them, of all connections.
MAX_UNREAD = 256 << 20
#: Descriptors for everything but connections: the database, pictures, caches.
RESERVED_DESCRIPTORS = 256


class OpenConnection(Protocol):
    """What is known of an open connection."""

    @property
    def idle(self) -> bool:
        """Whether no request is under way, and none is waiting to be read."""

    def end(self) -> None:
        """Close it once what was written is sent."""


class Connections:
    """The open connections of a server, by address.

    Args:
        most: how many may be open.
        proxies: addresses and networks whose connections are those of many clients.
        unread: bytes of unread answers.
    """

    def __init__(self, most: int, proxies: Sequence[str] = (), unread: int = MAX_UNREAD) -> None:
        self._shares = Shares(most)
        self._proxies = proxies
        self._open: dict[str, dict[OpenConnection, None]] = {}
        self._unread = Places(unread)

    def open(self, connection: OpenConnection, host: str) -> bool:
        """Count a new connection, in place of an idle one of the client if it has too many.

        Returns:
            Whether there is room for it.
        """
        client = client_at(host)
        whole = bool(self._proxies) and is_within(host, self._proxies)
        if not self._shares.take(client, whole=whole):
            idle = next((one for one in self._open.get(client, ()) if one.idle), None)
            if idle is not None:
                self.close(idle, host)
                idle.end()
            if idle is None or not self._shares.take(client, whole=whole):
                return False
        self._open.setdefault(client, {})[connection] = None
        return True

    def close(self, connection: OpenConnection, host: str) -> None:
        """Count a connection no longer, if it was counted."""
        client = client_at(host)
        own = self._open.get(client, {})
        if connection in own:
            del own[connection]
            self._shares.give_back(client)
        if not own:
            self._open.pop(client, None)

    def hold_unread(
        self, connection: OpenConnection, host: str, size: int, abort: Callable[[], None]
    ) -> None:
        """Count bytes that a client has not read; its oldest unread answers may be aborted."""
        self._unread.enter(client_at(host), connection, size, abort)

    def release_unread(self, connection: OpenConnection, host: str) -> None:
        """Count them no longer."""
        self._unread.leave(client_at(host), connection)


def connections_allowed(wanted: int) -> int:
    """How many connections the process may have, after raising its limit of open files."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (ValueError, OSError):
            pass
        return max(1, min(wanted, soft - RESERVED_DESCRIPTORS))
    return wanted

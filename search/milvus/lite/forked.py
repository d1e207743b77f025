"""Leave a Milvus Lite that is open for writing to the parent, after a fork.

A forked process has a copy of its parent's Milvus Lite, and of the lock that only one process may
have. If it wrote, or closed it, both would write to one log, and rows would be lost. So the child
lets go of all that its parent has open: it can read, and write once the parent has closed.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from twinlens.search.processes import after_fork


class Client(Protocol):
    """A client of a Milvus Lite file."""

    def forget_writing(self) -> object:
        """Take the file as not open for writing; return what was open."""


#: Of this process.
clients: WeakSet[Client] = WeakSet()
#: What the parent had open; it is never finalised here, which would write to its files.
_of_the_parent: list[object] = []


def _let_go() -> None:
    manager = sys.modules.get("milvus_lite.server_manager")
    if manager is not None:
        of_lite = manager.server_manager_instance
        of_lite._lock = threading.Lock()
        for server, database, port in of_lite._servers.values():
            _of_the_parent.append((server, database, port))
            for collection in database._collections.values():
                for file in (collection._wal._data_sink, collection._wal._delta_sink):
                    if file is not None:
                        file.raw.close()
            if database._lock_fd is not None:
                with suppress(OSError):
                    os.close(database._lock_fd)  # the parent keeps the lock
                database._lock_fd = None
        of_lite._servers.clear()
    _of_the_parent.extend(client.forget_writing() for client in clients)


after_fork(_let_go)

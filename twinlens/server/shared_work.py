"""Do a piece of work once for all who want it, and not at all once nobody does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from twinlens.server.batching import QueueFullError

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Work by name, in an executor; thread-safe.

    Args:
        executor: where it is done.
        most: how many pieces may wait; more raise ``QueueFullError``.
    """

    def __init__(self, executor: Executor, most: int) -> None:
        self._executor = executor
        self._most = most
        self._pending: dict[str, Future[T]] = {}
        #: How many callers want each of them.
        self._wanted: dict[Future[T], int] = {}
        self._lock = threading.Lock()

    def get(self, name: str, make: Callable[[], T]) -> Future[T]:
        """Do something, or share it with those who have asked for the same.

        Returns:
            A future of the result. It is shared: do not cancel it, but call ``leave``.

        Raises:
            QueueFullError: too much is waiting.
        """
        with self._lock:
            future = self._pending.get(name)
            if future is None:
                if len(self._pending) >= self._most:
                    raise QueueFullError(len(self._pending))
                future = self._pending[name] = self._executor.submit(make)
            self._wanted[future] = self._wanted.get(future, 0) + 1
        # Outside of the lock: the callback runs at once if the future is done already.
        future.add_done_callback(lambda _: self._forget(name, future))
        return future

    def leave(self, future: Future[T]) -> None:
        """No longer want a result; if nobody else does, what has not started never will."""
        with self._lock:
            left = self._wanted.get(future, 0) - 1
            if left > 0:
                self._wanted[future] = left
                return
            self._wanted.pop(future, None)
            for name in [name for name, one in self._pending.items() if one is future]:
                del self._pending[name]
        future.cancel()

    def _forget(self, name: str, future: Future[T]) -> None:
        with self._lock:
            self._wanted.pop(future, None)
            if self._pending.get(name) is future:
                del self._pending[name]

"""The writing thread: takes chunks in order, and outlasts a Milvus that is away for a while."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from twinlens.search.errors import StoreUnreachableError
from twinlens.search.retry import retry

#: Chunks that may wait; encoding stops when Milvus is that far behind.
WAITING = 2
#: Seconds to go on trying when Milvus is away, and the first and longest pause between tries.
PATIENCE = 120.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0

T = TypeVar("T")


def patiently(
    act: Callable[[], T],
    patience: float | None = None,
    abandoned: threading.Event | None = None,
) -> T:
    """Do what may be done again, until Milvus is there to do it.

    Args:
        act: must bear being called again after a failure in the middle.
        patience: seconds to go on trying; default ``PATIENCE``.
        abandoned: ends the waiting when it is set.

    Raises:
        StoreUnreachableError: Milvus stayed away.
    """
    stopped = abandoned or threading.Event()
    return retry(
        act,
        lambda error: isinstance(error, StoreUnreachableError) and not stopped.is_set(),
        first_pause=FIRST_PAUSE,
        longest_pause=LONGEST_PAUSE,
        seconds=PATIENCE if patience is None else patience,
        sleep=stopped.wait,
    )


class Writer(Generic[T]):
    """Calls ``write`` with everything that is put, in order, in a thread of its own.

    ``write`` must bear being called again with the same chunk after a failure in the middle.
    An error of ``write`` is raised by the next ``put``, or on leaving the ``with`` block.
    """

    def __init__(self, write: Callable[[T], None], patience: float | None = None) -> None:
        self._write = write
        self._patience = patience
        self._queue: queue.Queue[T | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="twinlens-writer")

    def __enter__(self) -> Writer[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self._abandoned.set()
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def put(self, chunk: T) -> None:
        """Hand a chunk over; waits while too many are waiting already."""
        self._raise()
        self._queue.put(chunk)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (chunk := self._queue.get()) is not None:
            # After an error the rest is taken off the queue, so that nobody waits for ever.
            if self._error is None:
                try:
                    patiently(partial(self._write, chunk), self._patience, self._abandoned)
                except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                    self._error = error

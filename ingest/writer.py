"""``WriterThread``: write chunks in order in a thread, and retry while Milvus is unreachable."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from twinlens.search.errors import StoreUnreachableError
from twinlens.search.retry import retry

#: Length of the queue. Encoding stops when Milvus is that many chunks behind.
WAITING = 2
#: Seconds to retry while Milvus is unreachable, and the first and longest pause between retries.
PATIENCE = 120.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0

T = TypeVar("T")


def wait_for_milvus(
    call: Callable[[], T],
    patience: float | None = None,
    abandoned: threading.Event | None = None,
) -> T:
    """Call, and retry with backoff while Milvus is unreachable.

    Args:
        call: must be safe to repeat after a failure half-way.
        patience: seconds to go on retrying; default ``PATIENCE``.
        abandoned: ends the retrying when set.

    Raises:
        StoreUnreachableError: Milvus stayed unreachable.
    """
    stopped = abandoned or threading.Event()
    return retry(
        call,
        lambda error: isinstance(error, StoreUnreachableError) and not stopped.is_set(),
        first_pause=FIRST_PAUSE,
        longest_pause=LONGEST_PAUSE,
        seconds=PATIENCE if patience is None else patience,
        sleep=stopped.wait,
    )


class WriterThread(Generic[T]):
    """Calls ``write`` with every chunk, in order, in a thread of its own.

    An error of ``write`` is raised by the next ``put``, or on leaving the ``with`` block.

    Args:
        write: must be safe to call again with the same chunk after a failure half-way.
        patience: see ``wait_for_milvus``.
    """

    def __init__(self, write: Callable[[T], None], patience: float | None = None) -> None:
        self._write = write
        self._patience = patience
        self._queue: queue.Queue[T | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="twinlens-writer")

    def __enter__(self) -> WriterThread[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self._abandoned.set()
        try:
            self._end()
        except BaseException:  # Ctrl-C: nobody else may close the database below a chunk
            self._abandoned.set()
            self._end()
            raise
        if kind is None:
            self._raise()

    def put(self, chunk: T) -> None:
        """Queue a chunk; blocks while the queue is full."""
        self._raise()
        self._queue.put(chunk)

    def _end(self) -> None:
        """Wait until all that was queued is written."""
        self._queue.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (chunk := self._queue.get()) is not None:
            # After an error the rest is taken off the queue, so that ``put`` never blocks forever.
            if self._error is None:
                try:
                    wait_for_milvus(partial(self._write, chunk), self._patience, self._abandoned)
                except BaseException as error:  # noqa: BLE001 - raised again by put or __exit__
                    self._error = error

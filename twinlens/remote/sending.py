"""``Sending``: send several requests at once, but those about the same picture in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from twinlens.ingest.upload import Upload
from twinlens.search.records import image_id

S = TypeVar("S")
T = TypeVar("T")


class Sending:
    """Parts on their way to the server, several at once.

    Pictures of the same bytes are stored in the order of the corpus, whichever part is faster,
    because what is kept of each depends on what is stored before: a part waits for earlier ones
    that have a picture of it.
    """

    def __init__(self, pool: ThreadPoolExecutor, most: int) -> None:
        self._pool = pool
        self._most = most
        self._pending: deque[tuple[set[str], Future[None]]] = deque()

    def submit(self, send: Callable[[Sequence[Upload]], None], part: Sequence[Upload]) -> None:
        """Send a part in a thread; blocks while too many are on their way.

        Raises:
            Exception: what an earlier part raised.
        """
        images = {image_id(upload.data) for upload in part if upload.data is not None}
        while len(self._pending) >= self._most or any(
            not images.isdisjoint(earlier) for earlier, _ in self._pending
        ):
            self._pending.popleft()[1].result()
        self._pending.append((images, self._pool.submit(send, part)))

    def finish(self) -> None:
        """Wait for all parts."""
        while self._pending:
            self._pending.popleft()[1].result()


def ahead(
    pool: ThreadPoolExecutor, call: Callable[[S], T], values: Iterable[S], most: int
) -> Iterator[tuple[S, T]]:
    """Each value with the result of its call, in order; threads are up to ``most`` calls ahead."""
    pending: deque[tuple[S, Future[T]]] = deque()
    for value in values:
        pending.append((value, pool.submit(call, value)))
        if len(pending) > most:
            first, future = pending.popleft()
            yield first, future.result()
    for first, future in pending:
        yield first, future.result()

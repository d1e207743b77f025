"""Bound the memory that decoding takes at a time, in all threads of a process together.

Every picture reserves what its decoding is estimated to take, and waits until that is free.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

from twinlens.search.memory import available_memory
from twinlens.search.processes import after_fork

#: The part of the memory of the machine or container that decoding may take.
SHARE = 1 / 4
#: Bytes of the smallest reservation after which free memory is returned to the system.
RETURNED = 128 << 20


class DecodingBudget:
    """A number of bytes that threads reserve and give back; first come, first served.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self._thread = threading.local()

    @property
    def used(self) -> int:
        """Bytes that are reserved now."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._queue)

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes; wait until they are free.

        What is larger than the whole budget waits until nothing is reserved, and then has it alone.
        A reservation within another one of the same thread takes nothing: two such threads could
        wait for each other.
        """
        if getattr(self._thread, "holds", False):
            yield
            return
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(
                    lambda: (
                        self._queue[0] is ticket
                        and (not self._used or self._used + size <= self.total)
                    )
                )
                self._used += size
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        self._thread.holds = True
        try:
            yield
        finally:
            self._thread.holds = False
            if size >= RETURNED:
                return_memory()
            with self._changed:
                self._used -= size
                self._changed.notify_all()


def return_memory() -> None:
    """Give memory that is free back to the system.

    The allocator of glibc keeps freed blocks of up to 32 MB, Pillow's among them, for each thread:
    what one thread has freed, another cannot use.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``; None with another C library."""
    with suppress(Exception):
        import ctypes

        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return None


_lock = threading.Lock()
_budget: DecodingBudget | None = None


def decoding_budget() -> DecodingBudget:
    """The budget of this process: a quarter of the memory that it may use, unless divided."""
    global _budget
    with _lock:
        if _budget is None:
            _budget = DecodingBudget(int(available_memory() * SHARE))
        return _budget


def divide_budget(workers: int) -> DecodingBudget:
    """Give this process one of ``workers`` equal shares.

    Call it in each worker process before it decodes anything, and in none of them twice.
    """
    global _budget
    with _lock:
        _budget = DecodingBudget(int(available_memory() * SHARE) // max(1, workers))
        return _budget


def _forget() -> None:
    """After a fork: threads of the parent, which hold locks and reservations, are not here."""
    global _budget, _lock
    _lock = threading.Lock()
    if _budget is not None:
        _budget = DecodingBudget(_budget.total)


after_fork(_forget)

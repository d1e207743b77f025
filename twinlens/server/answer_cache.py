"""``AnswerCache``: cache what is computed of a collection until something is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from twinlens.index import Index

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Answer(Generic[T]):
    """A running or finished computation."""

    index: Index
    written: int
    started: float
    task: asyncio.Task[T]

    @property
    def has_failed(self) -> bool:
        task = self.task
        return task.done() and (task.cancelled() or task.exception() is not None)


class AnswerCache(Generic[T]):
    """Answers about collections, cached for some seconds; use it from one event loop.

    Args:
        written: the number of writes so far; a write makes earlier answers stale.
        most: how many answers are cached; the oldest is dropped first. None for any number.
    """

    def __init__(self, written: Callable[[], int], most: int | None = None) -> None:
        self._written = written
        self._most = most
        self._answers: dict[tuple[str, str], _Answer[T]] = {}

    async def get(
        self,
        index: Index,
        tenant: str,
        compute: Callable[[Index], Coroutine[Any, Any, T]],
        max_age: float,
    ) -> T:
        """Compute an answer, or return the one that is cached; concurrent calls share it.

        Args:
            index: the collection; only a tenant's rows if it is a tenant's.
            tenant: whose rows.
            compute: computes the answer.
            max_age: seconds for which an answer is cached.
        """
        now, written = time.monotonic(), self._written()
        self._answers = {
            key: one for key, one in self._answers.items() if now - one.started < max_age
        }
        key = index.collection, tenant
        answer = self._answers.get(key)
        if (
            answer is None
            or answer.index is not index
            or answer.written != written
            or answer.has_failed
        ):
            task = asyncio.create_task(compute(index))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._answers.pop(key, None)
            while self._most is not None and len(self._answers) >= self._most:
                del self._answers[next(iter(self._answers))]
            answer = self._answers[key] = _Answer(index, written, now, task)
        return await asyncio.shield(answer.task)

"""Answer concurrent searches in batches: one encoder pass and one Milvus search for each batch.

While one batch is being answered the next one collects, so batches grow with the load. A single
request does not wait. If others are being prepared, it waits for them a few milliseconds at most.
Clients have their turns, and a search that nobody waits for any more is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress
from typing import TypeVar

from twinlens.search.errors import TwinlensError
from twinlens.search.query.engine import PreparedRequest, SearchEngine
from twinlens.search.query.hits import Hits
from twinlens.search.query.request import SearchRequest
from twinlens.server.costs import cost_of
from twinlens.server.shares import FairQueue, Shares

#: Seconds that a batch waits for requests that are still being prepared.
WAIT = 0.004
#: The most requests in one batch.
MAX_BATCH = 64
#: How many requests may wait, including those being answered.
QUEUE = 512
#: The part of the queue that one request may count as.
LARGEST_PART = 8
#: Threads that decode pictures and read the stored items that a query names.
PREPARING = 4

T = TypeVar("T")
#: Called with the name of a stage ("prepare", "encode", "search": seconds; "batch", "queue":
#: requests), or with "cached" or "new" for each query part's embedding, and a value.
Observer = Callable[[str, float], None]


class QueueFullError(TwinlensError):
    """Too many requests are waiting."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"too many requests ({waiting}) are waiting: try again in a moment")


class Batcher:
    """Collects searches and answers them in batches; use it from one event loop.

    Args:
        max_batch: the most requests in one batch; 1 turns batching off.
        wait: seconds that a batch waits at most for requests that are still being prepared.
        queue: how many requests may wait; more raise ``QueueFullError``. A request counts as its
            cost, and a client may use as much of the queue as is free.
        observe: called with measurements, see ``Observer``.
    """

    def __init__(
        self,
        *,
        max_batch: int = MAX_BATCH,
        wait: float = WAIT,
        queue: int = QUEUE,
        observe: Observer | None = None,
    ) -> None:
        self._max_batch = max_batch
        self._wait = wait
        self._queue = Shares(queue)
        self._observe: Observer = observe or (lambda stage, value: None)
        self._accepted = 0
        self._lanes: dict[SearchEngine, _Lane] = {}
        self._preparing = ThreadPoolExecutor(PREPARING, "twinlens-prepare")
        self._answering = ThreadPoolExecutor(2, "twinlens-answer")
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many requests were accepted and not answered yet."""
        return self._accepted

    async def search(self, engine: SearchEngine, request: SearchRequest, client: str = "") -> Hits:
        """Answer one search.

        Args:
            engine: what to search.
            request: the search.
            client: who asks.

        Raises:
            QueueFullError: too many requests are waiting.
            TwinlensError: see ``SearchEngine.search``.
        """
        cost = cost_of(request, engine.collection.fingerprint.dim)
        cost = min(cost, max(1, self._queue.total // LARGEST_PART))
        if self._closed or not self._queue.take(client, cost):
            raise QueueFullError(self._accepted)
        lane = self._lane(engine)
        self._accepted += 1
        self._observe("queue", self._accepted)
        lane.coming += 1
        try:
            try:
                prepared = await self._timed("prepare", self._preparing, engine.prepare, request)
            finally:
                lane.coming -= 1
                lane.wake.set()
            for part in prepared.parts:
                if part.key:  # a text or an image, which the encoder may have to encode
                    self._observe("cached" if part.row is not None else "new", 1)
            answer = asyncio.get_running_loop().create_future()
            lane.waiting.put(client, _Waiting(prepared, answer, cost))
            lane.wake.set()
            found: Hits = await answer
            return found
        finally:
            self._accepted -= 1
            self._queue.give_back(client, cost)

    async def close(self) -> None:
        """Accept no more requests, and answer those that were accepted."""
        self._closed = True
        while self._accepted:
            await asyncio.sleep(0.01)
        for lane in self._lanes.values():
            lane.task.cancel()
        await asyncio.gather(*(lane.task for lane in self._lanes.values()), return_exceptions=True)
        self._lanes.clear()
        self._preparing.shutdown(wait=False)
        self._answering.shutdown(wait=False)

    def _lane(self, engine: SearchEngine) -> _Lane:
        lane = self._lanes.get(engine)
        if lane is None:
            self._retire()
            lane = self._lanes[engine] = _Lane()
            lane.task = asyncio.create_task(self._answer(engine, lane))
        return lane

    def _retire(self) -> None:
        """Drop idle lanes: their engines may have been replaced."""
        for engine, lane in list(self._lanes.items()):
            if not (lane.coming or lane.waiting or lane.busy):
                lane.task.cancel()
                del self._lanes[engine]

    async def _answer(self, engine: SearchEngine, lane: _Lane) -> None:
        """Answer a lane's requests in batches, until cancelled."""
        while True:
            batch = await self._gather(lane)
            lane.busy = True
            try:
                self._observe("batch", len(batch))
                prepared = [one.prepared for one in batch]
                asked = await self._timed("encode", self._answering, engine.encode, prepared)
                wanted = [not one.answer.done() for one in batch]
                batch = list(compress(batch, wanted))
                left = list(compress(asked, wanted))
                found = await self._timed("search", self._answering, engine.find, left)
            except Exception as error:  # noqa: BLE001 - passed to the callers that wait
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
            else:
                for one, hits in zip(batch, found, strict=True):
                    if one.answer.done():  # the client has disconnected
                        continue
                    if isinstance(hits, TwinlensError):
                        one.answer.set_exception(hits)
                    else:
                        one.answer.set_result(hits)
            finally:
                lane.busy = False

    async def _gather(self, lane: _Lane) -> list[_Waiting]:
        """Wait for the next batch, of at least one request, and of a limited cost."""
        batch: list[_Waiting] = []
        while not batch:
            await self._wait_for_requests(lane)
            cost = 0
            while lane.waiting and len(batch) < self._max_batch and cost < self._max_batch:
                one = lane.waiting.get()
                if not one.answer.done():
                    batch.append(one)
                    cost += one.cost
        return batch

    async def _wait_for_requests(self, lane: _Lane) -> None:
        while not lane.waiting:
            lane.wake.clear()
            await lane.wake.wait()
        until = time.monotonic() + self._wait
        while lane.coming and len(lane.waiting) < self._max_batch:
            left = until - time.monotonic()
            if left <= 0:
                break
            lane.wake.clear()
            try:
                await asyncio.wait_for(lane.wake.wait(), left)
            except TimeoutError:
                break

    async def _timed(
        self, stage: str, pool: ThreadPoolExecutor, work: Callable[..., T], argument: object
    ) -> T:
        """Run work in a thread, and report how long it took there."""

        def run() -> T:
            began = time.perf_counter()
            try:
                return work(argument)
            finally:
                self._observe(stage, time.perf_counter() - began)

        return await asyncio.get_running_loop().run_in_executor(pool, run)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that is ready to be answered, and the future that its caller awaits."""

    prepared: PreparedRequest
    answer: asyncio.Future[Hits]
    cost: int


class _Lane:
    """The requests for one engine.

    Attributes:
        waiting: requests that are ready to be answered.
        coming: how many requests are being prepared.
        busy: whether a batch is being answered.
    """

    def __init__(self) -> None:
        self.waiting: FairQueue[_Waiting] = FairQueue()
        self.coming = 0
        self.busy = False
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None]

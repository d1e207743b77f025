"""A crew of workers on Ray Data, as the pipeline sees it: tasks go out in batches, results return.

Ray Data reads from sources that are known when it starts; a corpus is listed while it is ingested.
So the driver puts batches into an actor, from which the one task of a dataset's source reads: from
there on Ray Data has the batches, deals them out, and deals them out again where a worker died.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twinlens.ingest.sample import failure_of
from twinlens.ingest.stages import Result, Task
from twinlens.search.errors import ClusterError, ImageError

if TYPE_CHECKING:
    from twinlens.ingest.ray.actors import Model

#: Tasks of a batch for a core, and at most for an accelerator, whose pixels have a bound, too.
CORE_BATCH = 32
DEVICE_BATCH = 256
PIXEL_BYTES = 32 << 20
#: Batches on their way for each encoder, and bytes of pictures that were read here.
BATCHES_EACH = 4
BYTES_AHEAD = 256 << 20
#: How often a batch is tried whose worker dies.
RETRIES = 3
#: Seconds to wait for workers to stop.
_STOPPING = 30.0


@dataclass(frozen=True, slots=True)
class Hands:
    """How many encoders there may be, and whether each has an accelerator.

    Attributes:
        encoders: at most so many.
        cores: for decoding, where encoders have accelerators; else 0.
        at_once: whether all encoders start at once, or as many as there is work for.
    """

    encoders: int
    cores: int = 0
    at_once: bool = False


class RayCrew:
    """Implements ``twinlens.ingest.stages.Crew``; Ray is started when there is the first task.

    Args:
        start: connects to Ray; says who is there, and what they encode with.
        side: how many pixels the model looks at.
    """

    def __init__(self, start: Callable[[], tuple[Hands, Model]], side: int) -> None:
        self._start = start
        self._side = side
        self._hands: Hands | None = None
        self._stored: Callable[[], npt.NDArray[np.bytes_]] = lambda: np.empty(0, "S16")
        self._open: dict[Future[Result], tuple[Task, Future[bytes] | None]] = {}
        self._readers = ThreadPoolExecutor(8, "twinlens-reader")
        self._sent = 0
        self._seconds = 0.0
        self._room = threading.Condition()
        self._pending: dict[int, tuple[list[Future[Result]], int]] = {}
        self._error: BaseException | None = None
        self._stopped = False
        self._feed: Any = None
        self._thread: threading.Thread | None = None

    @property
    def ahead(self) -> int:
        encoders = self._hands.encoders if self._hands else 1
        return self._batch * max(BATCHES_EACH * encoders, 8)

    @property
    def encode_seconds(self) -> float:
        return self._seconds

    @property
    def _batch(self) -> int:
        if self._hands is None or not self._hands.cores:
            return CORE_BATCH
        fitting = PIXEL_BYTES // (3 * self._side**2)
        return min(max(fitting, CORE_BATCH), DEVICE_BATCH)

    def begin(self, stored: Callable[[], npt.NDArray[np.bytes_]]) -> None:
        self._stored = stored

    def submit(self, task: Task) -> Future[Result]:
        future: Future[Result] = Future()
        data = None
        if callable(task.load) and not _can_travel(task.load):
            data = self._readers.submit(task.load)
        self._open[future] = (task, data)
        if len(self._open) >= self._batch:
            self._send()
        return future

    def need(self, future: Future[Result]) -> None:
        if future in self._open:
            self._send()

    def close(self) -> None:
        """Stop, with whatever is still to be done."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        if self._thread is not None:
            import ray

            with suppress(Exception):  # a cluster that is gone has stopped, too
                ray.get(self._feed.close.remote(), timeout=_STOPPING)
            self._thread.join(_STOPPING)
            self._stopped = True
            with suppress(Exception):
                ray.kill(self._feed)

    def _send(self) -> None:
        if self._thread is None:
            self._launch()
        futures: list[Future[Result]] = []
        tasks: list[Task] = []
        for future, (task, data) in self._open.items():
            try:
                tasks.append(task if data is None else replace(task, load=data.result()))
                futures.append(future)
            except (ImageError, OSError) as error:
                future.set_result(Result(failure=failure_of(error, task.uri, task.root)))
        self._open = {}
        if not tasks:
            return
        payload = pickle.dumps(tasks, pickle.HIGHEST_PROTOCOL)
        with self._room:
            self._room.wait_for(lambda: self._error or self._has_room(len(payload)))
            if self._error is not None:
                raise self._error
            number, self._sent = self._sent, self._sent + 1
            self._pending[number] = (futures, len(payload))
        self._feed.put.remote(number, payload)

    def _has_room(self, size: int) -> bool:
        waiting = sum(length for _, length in self._pending.values())
        return not waiting or waiting + size <= BYTES_AHEAD

    def _launch(self) -> None:
        self._hands, model = self._start()
        import ray

        from twinlens.ingest.ray.actors import Feed

        stored = ray.put(self._stored())
        # It asks for no core, but for being where the driver is, in whose hands it all is anyway.
        self._feed = ray.remote(Feed).options(num_cpus=0).remote([stored])
        dataset = self._dataset(self._hands, model)
        self._thread = threading.Thread(
            target=self._receive, args=(dataset,), name="twinlens-crew", daemon=True
        )
        self._thread.start()

    def _dataset(self, hands: Hands, model: Model) -> Any:
        import ray.data

        from twinlens.ingest.ray.actors import Decoding, Encoding, FeedSource, Whole

        dataset = ray.data.read_datasource(
            FeedSource(self._feed), override_num_blocks=1, num_cpus=0
        )

        def stage(kind: type, pool: Any, **needs: Any) -> Any:
            return dataset.map_batches(
                kind,
                fn_constructor_args=(model, self._feed),
                batch_size=1,
                batch_format="pyarrow",
                zero_copy_batch=True,
                compute=pool,
                max_task_retries=RETRIES,
                **needs,
            )

        def pool(most: int) -> Any:
            first = most if hands.at_once else 1
            return ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=first)

        if hands.cores:
            dataset = stage(Decoding, pool(hands.cores), num_cpus=1)
            dataset = stage(Encoding, pool(hands.encoders), num_gpus=1, num_cpus=0)
        else:
            dataset = stage(Whole, pool(hands.encoders), num_cpus=1)
        # Every batch goes on at once, however small it is.
        dataset.context.target_max_block_size = 1
        dataset.context.enable_progress_bars = False
        return dataset

    def _receive(self, dataset: Any) -> None:
        """In a thread of its own: hand results out until there are no more."""
        error: BaseException = ClusterError("the cluster stopped before all was done")
        try:
            tables = dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            )
            # Closing it stops the workers, which must be while there is a cluster.
            with closing(iter(tables)) as iterator:
                for table in iterator:
                    for row in table.to_pylist():
                        self._settle(row["number"], row["payload"])
                    if self._stopped:
                        break
        except BaseException as failed:  # noqa: BLE001 - raised where results are awaited
            error = ClusterError(f"the cluster gave up, ingest once more to go on: {brief(failed)}")
        self._fail(error)

    def _settle(self, number: int, payload: bytes) -> None:
        if not payload or number not in self._pending:
            return
        content = pickle.loads(payload)  # noqa: S301 - from our own workers
        if isinstance(content, BaseException):
            self._fail(content)
            return
        results, seconds = content
        self._seconds += seconds
        with self._room:
            futures, _ = self._pending.pop(number)
            self._room.notify_all()
        self._feed.drop.remote(number)
        for future, result in zip(futures, results, strict=True):
            future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        """Nothing more will come; the first reason counts."""
        with self._room:
            self._error = self._error or error
            waiting, self._pending = self._pending, {}
            self._room.notify_all()
        for futures, _ in waiting.values():
            for future in futures:
                future.set_exception(self._error)


def brief(error: BaseException) -> str:
    """The last line of what may be a whole traceback: Ray puts the cause there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _can_travel(load: Callable[[], bytes]) -> bool:
    """Whether another process can read it, too: not what is open, cached or copied here."""
    try:
        pickle.dumps(load)
    except Exception:  # noqa: BLE001 - whatever cannot be pickled says so in its own way
        return False
    return True

"""``RayExecutor``: send tasks to workers on Ray Data in batches, and receive the results.

A Ray Data source is fixed when it starts, but a corpus is listed while it is ingested. So the
driver puts batches into an actor, ``TaskFeed``, and the only read task of the dataset takes them
from there. Ray Data distributes the batches, and does so again where a worker died.
"""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twinlens.ingest.executor import PendingResult, PendingVectors
from twinlens.ingest.ledger import Ledger
from twinlens.ingest.sample import failure_of
from twinlens.ingest.tasks import Task, TaskResult
from twinlens.search.errors import ClusterError, ImageError
from twinlens.search.models.base import Pixels

if TYPE_CHECKING:
    from twinlens.ingest.ray.actors import WorkerModel

#: Tasks in a batch for a core; the most for an accelerator, and the bytes of their pixels.
CORE_BATCH = 32
DEVICE_BATCH = 256
PIXEL_BYTES = 32 << 20
#: Batches that a worker has at once: one is decoded while another is encoded; an accelerator's
#: batch may be as large as several of them.
CORE_CALLS = 2
DEVICE_CALLS = 8
#: Batches in flight for each that an encoder has at once, and bytes of images that were read by the
#: driver. Ray gives a worker twice as many as it has at once, and starts more when those are taken.
BATCHES_EACH = 4
BYTES_AHEAD = 256 << 20
#: Retries of a batch whose worker died.
RETRIES = 3
#: Seconds to wait for workers to stop.
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers to start.

    Attributes:
        encoders: the most encoders, one for each accelerator, or for each core where there is none.
        decoders: the most decoders, where encoders have accelerators; 0 where encoders decode.
        start_all: start all workers at once and keep them, not only as many as there is work for.
    """

    encoders: int
    decoders: int = 0
    start_all: bool = False


class RayExecutor:
    """An ``Executor`` on a Ray cluster; Ray is started with the first task.

    Args:
        connect: connects to Ray; returns the workers to start, and the model they load.
        side: input size of the model in pixels.
    """

    def __init__(self, connect: Callable[[], tuple[Workers, WorkerModel]], side: int) -> None:
        self._connect = connect
        self._side = side
        self._workers: Workers | None = None
        self._ledger: Ledger | None = None
        #: Tasks of the next batch, with the bytes of images that only this process can read.
        self._unsent: dict[Future[TaskResult], tuple[Task, Future[bytes] | None]] = {}
        self._readers = ThreadPoolExecutor(8, "twinlens-reader")
        self._sent = 0
        self._encode_seconds = 0.0
        self._changed = threading.Condition()
        #: Batches in flight: their futures, and their bytes.
        self._pending: dict[int, tuple[list[Future[TaskResult]], int]] = {}
        self._error: BaseException | None = None
        self._stopped = False
        self._feed: Any = None
        self._thread: threading.Thread | None = None

    @property
    def ahead(self) -> int:
        if self._workers is None:
            return CORE_BATCH * CORE_CALLS * BATCHES_EACH
        calls = DEVICE_CALLS if self._workers.decoders else CORE_CALLS
        return self._batch * calls * BATCHES_EACH * self._workers.encoders

    @property
    def encode_seconds(self) -> float:
        return self._encode_seconds

    @property
    def images_ahead(self) -> int:
        return 0

    @property
    def _batch(self) -> int:
        if self._workers is None or not self._workers.decoders:
            return CORE_BATCH
        fitting = PIXEL_BYTES // (3 * self._side**2)
        return min(max(fitting, CORE_BATCH), DEVICE_BATCH)

    def start(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def submit(self, task: Task) -> Future[TaskResult]:
        future: Future[TaskResult] = Future()
        data = None
        if callable(task.load) and not _is_picklable(task.load):
            data = self._readers.submit(task.load)
        self._unsent[future] = (task, data)
        if len(self._unsent) >= self._batch:
            self._send()
        return future

    def wait(self, pending: PendingResult) -> TaskResult:
        if pending in self._unsent:
            self._send()
        return pending.result()

    def encode(self, pixels: Sequence[Pixels], texts: Sequence[str]) -> PendingVectors:
        """Nothing is left to encode: results come with all embeddings."""
        return PendingVectors()

    def stop(self, *, cancel: bool) -> None:
        """Workers serve several runs; ``close`` stops them."""

    def close(self) -> None:
        """Stop the workers; tasks in flight are dropped."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        if self._thread is not None:
            import ray

            with suppress(Exception):  # a cluster that is gone has no workers to stop
                ray.get(self._feed.close.remote(), timeout=_STOP_SECONDS)
            self._thread.join(_STOP_SECONDS)
            self._stopped = True
            with suppress(Exception):
                ray.kill(self._feed)

    def _send(self) -> None:
        if self._thread is None:
            self._launch()
        futures: list[Future[TaskResult]] = []
        tasks: list[Task] = []
        for future, (task, data) in self._unsent.items():
            try:
                tasks.append(task if data is None else replace(task, load=data.result()))
                futures.append(future)
            except (ImageError, OSError) as error:
                future.set_result(TaskResult(failure=failure_of(error, task.uri, task.root)))
        self._unsent = {}
        if not tasks:
            return
        payload = pickle.dumps(tasks, pickle.HIGHEST_PROTOCOL)
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._has_room(len(payload)))
            if self._error is not None:
                raise self._error
            number, self._sent = self._sent, self._sent + 1
            self._pending[number] = (futures, len(payload))
        self._feed.put.remote(number, payload)

    def _has_room(self, size: int) -> bool:
        waiting = sum(length for _, length in self._pending.values())
        return not waiting or waiting + size <= BYTES_AHEAD

    def _launch(self) -> None:
        self._workers, model = self._connect()
        import ray

        from twinlens.ingest.ray.actors import TaskFeed

        assert self._ledger is not None
        stored = ray.put(self._ledger.stored_images())
        # It needs no core of its own: it only passes on what the driver sends.
        self._feed = ray.remote(TaskFeed).options(num_cpus=0).remote([stored])
        dataset = self._dataset(self._workers, model)
        self._thread = threading.Thread(
            target=self._receive, args=(dataset,), name="twinlens-ray", daemon=True
        )
        self._thread.start()

    def _dataset(self, workers: Workers, model: WorkerModel) -> Any:
        import ray.data

        from twinlens.ingest.ray.actors import (
            DecodeEncodeStage,
            DecodeStage,
            EncodeStage,
            TaskFeedSource,
        )

        dataset = ray.data.read_datasource(
            TaskFeedSource(self._feed), override_num_blocks=1, num_cpus=0
        )

        def stage(kind: type, most: int, calls: int, **needs: Any) -> Any:
            first = most if workers.start_all else 1
            pool = ray.data.ActorPoolStrategy(min_size=first, max_size=most, initial_size=first)
            return dataset.map_batches(
                kind,
                fn_constructor_args=(model, self._feed, calls),
                batch_size=1,
                batch_format="pyarrow",
                zero_copy_batch=True,
                compute=pool,
                max_task_retries=RETRIES,
                max_concurrency=calls,
                **needs,
            )

        if workers.decoders:
            dataset = stage(DecodeStage, workers.decoders, 1, num_cpus=1)
            dataset = stage(EncodeStage, workers.encoders, DEVICE_CALLS, num_gpus=1, num_cpus=0)
        else:
            dataset = stage(DecodeEncodeStage, workers.encoders, CORE_CALLS, num_cpus=1)
        # A small ingest leaves some of them without work, which is no mistake.
        warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
        # Pass every batch on at once, however small it is.
        dataset.context.target_max_block_size = 1
        dataset.context.enable_progress_bars = False
        return dataset

    def _receive(self, dataset: Any) -> None:
        """In a thread of its own: receive results until the dataset ends."""
        error: BaseException = ClusterError("the cluster stopped before the ingest was finished")
        try:
            tables = dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            )
            # Closing the iterator stops the workers; that needs a running cluster.
            with closing(iter(tables)) as iterator:
                for table in iterator:
                    for row in table.to_pylist():
                        self._resolve(row["number"], row["payload"])
                    if self._stopped:
                        break
        except BaseException as failed:  # noqa: BLE001 - raised where results are awaited
            error = ClusterError(
                f"the cluster failed (ingest once more to resume): {last_line(failed)}"
            )
        self._fail(error)

    def _resolve(self, number: int, payload: bytes) -> None:
        if not payload or number not in self._pending:
            return
        content = pickle.loads(payload)  # noqa: S301 - from our own workers
        if isinstance(content, BaseException):
            self._fail(content)
            return
        results, seconds = content
        self._encode_seconds += seconds
        with self._changed:
            futures, _ = self._pending.pop(number)
            self._changed.notify_all()
        self._feed.drop.remote(number)
        for future, result in zip(futures, results, strict=True):
            future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        """Fail all batches in flight with the first error."""
        with self._changed:
            self._error = self._error or error
            waiting, self._pending = self._pending, {}
            self._changed.notify_all()
        for futures, _ in waiting.values():
            for future in futures:
                future.set_exception(self._error)


def last_line(error: BaseException) -> str:
    """The last line of an error's message: Ray puts the cause there, after a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _is_picklable(load: Callable[[], bytes]) -> bool:
    """Whether another process can read the image: not an open archive or a temporary copy."""
    try:
        pickle.dumps(load)
    except Exception:  # noqa: BLE001 - pickling raises errors of any class
        return False
    return True

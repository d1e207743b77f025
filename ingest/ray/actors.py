"""Ray actors that read, decode and encode batches of tasks on the machines of a cluster.

A batch is a row of two columns: ``number``, and ``payload``, which is pickled. Batches come from
``TaskFeed``, an actor that the driver fills.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from twinlens.ingest.executor import PendingVectors
from twinlens.ingest.tasks import Task, TaskResult, decode_tasks, find_sorted
from twinlens.search.errors import ModelMismatchError
from twinlens.search.models.base import Encoder, Precision
from twinlens.search.models.encoding_queue import EncodingQueue

_SCHEMA = pa.schema([("number", pa.int64()), ("payload", pa.binary())])


@dataclass(frozen=True, slots=True)
class WorkerModel:
    """How a worker loads the encoder.

    Attributes:
        name: of the model; "" where ``pickled`` is the encoder itself.
        digest: of the fingerprint that the encoder must have.
        side: input size of the model in pixels.
        device, precision: see ``twinlens.search.models.load.open_encoders``.
    """

    name: str
    pickled: bytes
    digest: str
    side: int
    device: str = "auto"
    precision: Precision = "auto"

    def encoder(self) -> Encoder:
        """Load the encoder.

        Raises:
            ModelError: it cannot be loaded here, or is not the collection's model.
        """
        from twinlens.search.models.load import open_encoders

        if self.pickled:
            encoder: Encoder = pickle.loads(self.pickled)  # noqa: S301 - from the driver
        else:
            encoder = open_encoders(self.name, device=self.device, precision=self.precision)
        if encoder.fingerprint.digest != self.digest:
            raise ModelMismatchError(
                f"a worker loaded {encoder.fingerprint.label} ({encoder.fingerprint.digest}), "
                f"which is not the collection's model ({self.digest}): do all "
                "machines have the same version of the model?"
            )
        return encoder

    def prepare(self) -> Callable[[Any], Any]:
        """The encoder's ``prepare``, without loading the weights of a named model."""
        from twinlens.search.models.config import prepare_from_config

        if self.pickled:
            return self.encoder().prepare
        return prepare_from_config(self.name)


class TaskFeed:
    """An actor that holds batches until they are done, and hands them out by number.

    Args:
        stored: a list with the object reference of the sorted ids of images that are stored already
            and need no decoding. Ray would resolve a bare reference.
    """

    def __init__(self, stored: list[Any]) -> None:
        self._stored = stored[0]
        self._batches: dict[int, bytes] = {}
        # The batches that are done: all below this number, and the members of the set.
        self._done_below = 0
        self._done: set[int] = set()
        self._closed = False
        self._changed = asyncio.Condition()

    async def stored(self) -> list[Any]:
        """The reference, in a list again."""
        return [self._stored]

    async def put(self, number: int, batch: bytes) -> None:
        """Add a batch; numbers start at 0, batches may arrive in any order."""
        async with self._changed:
            self._batches[number] = batch
            self._changed.notify_all()

    async def is_wanted(self, number: int) -> bool:
        """Whether a batch is still to be done; never after the driver has closed the feed."""
        return not self._closed and number in self._batches

    async def drop(self, number: int) -> None:
        """Mark a batch as done, and drop it."""
        self._batches.pop(number, None)
        self._done.add(number)
        while self._done_below in self._done:
            self._done.remove(self._done_below)
            self._done_below += 1

    async def close(self) -> None:
        """End the feed: no more batches follow, and waiting ones are not wanted any more."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def get(self, number: int) -> bytes | None:
        """Wait for a batch; empty bytes if it is done, None after the end of the feed.

        A reader that was restarted after a crash reads from 0 again, past the batches that are
        done.
        """
        if number < self._done_below or number in self._done:
            return b""
        async with self._changed:
            await self._changed.wait_for(lambda: number in self._batches or self._closed)
            return self._batches.get(number)


class TaskFeedSource(Datasource):  # type: ignore[misc]
    """A Ray dataset of a feed: one task reads it while the driver goes on filling it."""

    def __init__(self, feed: Any) -> None:
        super().__init__()
        self._feed = feed

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **options: Any) -> list[ReadTask]:
        feed = self._feed

        def read() -> Iterator[pa.Table]:
            number = 0
            while (batch := ray.get(feed.get.remote(number))) is not None:
                yield _table([number], [batch])
                number += 1

        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, unknown)]


class WorkerStage:
    """Base of the workers, called with tables of batches; subclasses process the batches.

    Ray calls it with several batches at once, and each is processed in a thread, so that the
    encoder has its next batches before the rows of the last one are there: see ``EncodingQueue``.
    An exception is sent on in place of the batch, so that the driver can raise it.

    Args:
        model: how to load the encoder.
        feed: the ``TaskFeed``.
        calls: how many batches there are at once.
    """

    def __init__(self, model: WorkerModel, feed: Any, calls: int) -> None:
        self._model = model
        self._feed = feed
        self._threads = ThreadPoolExecutor(calls, "twinlens-worker")
        self._lock = threading.Lock()
        self._loaded: Encoder | None = None
        self._queue: EncodingQueue | None = None
        self._reported = 0.0

    async def __call__(self, table: pa.Table) -> pa.Table:
        # Of methods that are not async, Ray runs only one at a time.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._process_all, table)

    def _process_all(self, table: pa.Table) -> pa.Table:
        numbers, batches = table["number"].to_pylist(), table["payload"].to_pylist()
        return _table(numbers, list(map(self._process, numbers, batches)))

    def _process(self, number: int, batch: bytes) -> bytes:
        if not batch or not ray.get(self._feed.is_wanted.remote(number)):
            return b""
        content = pickle.loads(batch)  # noqa: S301 - from the driver, or the stage before
        if not isinstance(content, BaseException):
            try:
                content = self.work(content)
            except Exception as error:  # noqa: BLE001 - the driver raises it
                content = error
        return dumps(content)

    def work(self, content: Any) -> Any:
        """Process the content of one batch."""
        raise NotImplementedError

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded with the first batch."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._model.encoder()
            return self._loaded

    @cached_property
    def _stored(self) -> npt.NDArray[np.bytes_]:
        (reference,) = ray.get(self._feed.stored.remote())
        stored: npt.NDArray[np.bytes_] = ray.get(reference)
        return stored

    def decode(
        self, tasks: Sequence[Task], prepare: Callable[[Any], Any]
    ) -> tuple[list[Task], list[TaskResult]]:
        """Read and decode; the tasks without their images, and their results."""

        def stored(ids: Sequence[str]) -> abc.Collection[str]:
            return find_sorted(self._stored, ids)

        results = decode_tasks(tasks, prepare, self._model.side, stored)
        return [replace(task, load=None) for task in tasks], results

    def encode(
        self, tasks: Sequence[Task], results: list[TaskResult]
    ) -> tuple[list[TaskResult], float]:
        """Encode; the results with their embeddings, and the device's seconds since the last call.

        Several calls at once share the batches of the encoder.
        """
        decoded = [
            (result, result.image, result.image.pixels)
            for result in results
            if result.image is not None and result.image.pixels is not None
        ]
        texts = [
            (result, text)
            for task, result in zip(tasks, results, strict=True)
            if result.failure is None
            for text in task.texts
        ]
        queue = self._open()
        vectors = PendingVectors.begin(
            queue, [pixels for _, _, pixels in decoded], [text for _, text in texts]
        )
        image_vectors, text_vectors = vectors.result()
        for (result, image, _), vector in zip(decoded, image_vectors, strict=True):
            result.vector = vector
            image.pixels = None
        for (result, text), vector in zip(texts, text_vectors, strict=True):
            result.texts[text] = vector
        with self._lock:
            before, self._reported = self._reported, queue.seconds
            return results, self._reported - before

    def _open(self) -> EncodingQueue:
        encoder = self.encoder
        with self._lock:
            if self._queue is None:
                self._queue = EncodingQueue(encoder)
            return self._queue


class DecodeStage(WorkerStage):
    """Tasks → tasks and results with pixels, on CPU cores."""

    @cached_property
    def _prepare(self) -> Callable[[Any], Any]:
        return self._model.prepare()

    def work(self, content: list[Task]) -> Any:
        return self.decode(content, self._prepare)


class EncodeStage(WorkerStage):
    """Output of ``DecodeStage`` → results and seconds, on an accelerator."""

    def work(self, content: tuple[list[Task], list[TaskResult]]) -> Any:
        return self.encode(*content)


class DecodeEncodeStage(WorkerStage):
    """Tasks → results and seconds: both stages on one core, so that pixels never leave it."""

    def work(self, content: list[Task]) -> Any:
        return self.encode(*self.decode(content, self.encoder.prepare))


def dumps(content: Any) -> bytes:
    """Pickle; an exception that cannot be pickled is replaced by one with its message."""
    try:
        return pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    except Exception:
        if not isinstance(content, BaseException):
            raise
        return pickle.dumps(RuntimeError(f"{type(content).__name__}: {content}"))


def _table(numbers: list[int], batches: list[bytes]) -> pa.Table:
    return pa.table([numbers, batches], schema=_SCHEMA)

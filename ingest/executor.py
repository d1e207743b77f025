"""``Executor``: where images are read, decoded and encoded: in this machine, or on a cluster.

An item travels as a ``Task`` and comes back as a ``TaskResult``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from twinlens.ingest.tasks import Task, TaskResult, decode_tasks
from twinlens.search.models.base import Encoder, Pixels, Rows
from twinlens.search.models.encoding_queue import EncodingQueue

if TYPE_CHECKING:
    from twinlens.ingest.decoder_pool import DecoderPool
    from twinlens.ingest.ledger import Ledger

#: Items that are read ahead of the encoder.
_AHEAD = 256
#: After each so many images, processes are started if the encoder has waited for threads for more
#: than this share of the time.
_CHECK_EVERY = 128
_STARVED = 0.4
#: Cores from which on processes are quicker: with fewer, Python's lock is free when it is needed.
MIN_CORES = 4


class PendingResult(Protocol):
    """The result of a task that was submitted."""

    def done(self) -> bool:
        """Whether ``result`` returns at once."""

    def result(self) -> TaskResult:
        """Wait for the result."""


@dataclass(frozen=True, slots=True)
class PendingVectors:
    """The embeddings of images and texts that are being encoded; without futures, of none."""

    images: Future[Rows] | None = None
    texts: Future[Rows] | None = None

    @classmethod
    def begin(
        cls, queue: EncodingQueue, pixels: Sequence[Pixels], texts: Sequence[str]
    ) -> PendingVectors:
        """Begin to encode images and texts."""
        return cls(
            queue.submit_images(pixels) if pixels else None,
            queue.submit_texts(texts) if texts else None,
        )

    def done(self) -> bool:
        """Whether ``result`` returns at once."""
        return all(one is None or one.done() for one in (self.images, self.texts))

    def result(self) -> tuple[Sequence[Rows], Sequence[Rows]]:
        """Wait for float32 ``[dim]`` of each image and each text."""
        images = () if self.images is None else list(self.images.result())
        return images, () if self.texts is None else list(self.texts.result())


class Executor(Protocol):
    """Reads, decodes and encodes items for one run of the pipeline."""

    @property
    def ahead(self) -> int:
        """How many tasks to submit before waiting for the first."""

    @property
    def encode_seconds(self) -> float:
        """Time spent in encoders, summed over all of them."""

    @property
    def images_ahead(self) -> int:
        """How many images ``encode`` should have before the first is awaited."""

    def start(self, ledger: Ledger) -> None:
        """Begin a run; images that the ledger has are read but not decoded."""

    def submit(self, task: Task) -> PendingResult:
        """Queue a task."""

    def wait(self, pending: PendingResult) -> TaskResult:
        """Wait for a task; one that is held back for a batch is sent now."""

    def encode(self, pixels: Sequence[Pixels], texts: Sequence[str]) -> PendingVectors:
        """Begin to encode what the results of a chunk lack."""

    def stop(self, *, cancel: bool) -> None:
        """End the run; ``cancel`` drops queued tasks instead of waiting for them."""


class LocalExecutor:
    """Reads, decodes and encodes on this machine.

    Threads decode as long as the encoder is the slower part, which on a CPU is always. If it waits
    for them, as an accelerator does, processes take over, since threads share one interpreter lock.

    Args:
        encoder: gives the encoder; called only when something must be decoded or encoded.
    """

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        self._encoder = encoder
        self._queue: EncodingQueue | None = None
        self._encode_seconds = 0.0

    @property
    def encode_seconds(self) -> float:
        return self._encode_seconds + (self._queue.seconds if self._queue else 0.0)

    @property
    def images_ahead(self) -> int:
        return 0 if self._queue is None else self._queue.images_ahead

    @property
    def ahead(self) -> int:
        return _AHEAD if self._pool is None else max(_AHEAD, self._pool.ahead)

    def start(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loaded: Encoder | None = None
        self._threads = ThreadPoolExecutor(min(32, (os.cpu_count() or 2) + 1), "twinlens-reader")
        self._pool: DecoderPool | None = None
        self._submitted = 0
        self._waited = 0.0
        self._checked = time.perf_counter()

    def submit(self, task: Task) -> PendingResult:
        if task.load is None:  # texts alone are encoded with their chunk
            done: Future[TaskResult] = Future()
            done.set_result(TaskResult())
            return done
        self._submitted += 1
        if self._pool is not None and self._pool.ready:
            return self._pool.submit(task)
        encoder = self._model()
        if self._pool is None and self._submitted % _CHECK_EVERY == 0 and self._is_starved():
            self._start_processes(encoder)
        return self._threads.submit(self._decode, task, encoder)

    def wait(self, pending: PendingResult) -> TaskResult:
        if pending.done():
            return pending.result()
        began = time.perf_counter()
        if self._pool is not None:
            self._pool.flush(pending)
        result = pending.result()
        self._waited += time.perf_counter() - began
        return result

    def encode(self, pixels: Sequence[Pixels], texts: Sequence[str]) -> PendingVectors:
        if not (pixels or texts):
            return PendingVectors()
        if self._queue is None:
            self._queue = EncodingQueue(self._model())
        return PendingVectors.begin(self._queue, pixels, texts)

    def stop(self, *, cancel: bool) -> None:
        self._threads.shutdown(wait=not cancel, cancel_futures=cancel)
        if self._pool is not None:
            self._pool.close(cancel=cancel)
            self._pool = None
        if self._queue is not None:
            self._queue.close(cancel=cancel)
            self._encode_seconds += self._queue.seconds
            self._queue = None

    def _model(self) -> Encoder:
        if self._loaded is None:
            self._loaded = self._encoder()
        return self._loaded

    def _is_starved(self) -> bool:
        """Whether the encoder has waited for images since the last check."""
        now = time.perf_counter()
        share = self._waited / (now - self._checked)
        self._waited, self._checked = 0.0, now
        return share > _STARVED

    def _start_processes(self, encoder: Encoder) -> None:
        """Start processes that decode, where the encoder and the system allow it."""
        # Only what says so: other encoders' ``prepare`` would take their weights along.
        prepare = getattr(encoder, "preparation", None)
        if prepare is None or os.name != "posix":
            return
        from twinlens.ingest.decoder_pool import MAX_PROCESSES, DecoderPool, usable_cores

        cores = usable_cores()
        if cores < MIN_CORES:
            return
        self._pool = DecoderPool(
            prepare,
            encoder.fingerprint.image_size,
            self._ledger.stored_images,
            min(cores, MAX_PROCESSES),
        )
        self._pool.start()

    def _decode(self, task: Task, encoder: Encoder) -> TaskResult:
        def stored(ids: Sequence[str]) -> set[str]:
            return set(filter(self._ledger.has_image, ids))

        (result,) = decode_tasks([task], encoder.prepare, encoder.fingerprint.image_size, stored)
        return result

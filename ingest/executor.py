"""``Executor``: where images are read, decoded and encoded: threads of this process, or a cluster.

An item travels as a ``Task`` and comes back as a ``TaskResult``.
"""

from __future__ import annotations

import os
import time
from collections import abc
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from twinlens.ingest.ledger import Ledger
from twinlens.ingest.sample import Failure, failure_of
from twinlens.search.errors import ImageError
from twinlens.search.models.base import Encoder, Pixels, Rows
from twinlens.search.records import Row, image_id

if TYPE_CHECKING:
    from PIL.Image import Image

#: Texts encoded in one batch.
TEXT_BATCH = 64
#: Encoded images in memory at once while a worker looks up which of them are stored.
_READ_TOGETHER = 16
#: Items that threads read ahead of the encoder.
_AHEAD = 512


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded image: uint8 ``[side, side, 3]`` for the model, and facts about its file."""

    pixels: Pixels | None
    width: int
    height: int
    bytes: int
    format: str
    exif: Row


@dataclass(frozen=True, slots=True)
class Task:
    """One item to read, decode and encode.

    Attributes:
        uri, root: the item's, for its failure.
        load: reads the encoded image, or is its bytes; ``None`` where only texts are to be encoded.
        texts: captions to encode.
    """

    uri: str
    root: str
    load: Callable[[], bytes] | bytes | None
    texts: tuple[str, ...] = ()


@dataclass(slots=True)
class TaskResult:
    """The result of a task.

    Attributes:
        id: of the image; "" where none was read.
        image: the decoded image, without pixels once it is encoded; ``None`` where it is stored
            already.
        vector: the image's embedding, float32 ``[dim]``; ``None`` until it is encoded.
        texts: embeddings of texts that are encoded already.
        failure: why the task failed.
        ms: time to read and decode the image.
    """

    id: str = ""
    image: DecodedImage | None = None
    vector: Rows | None = None
    texts: dict[str, Rows] = field(default_factory=dict)
    failure: Failure | None = None
    ms: float = 0.0


class Executor(Protocol):
    """Reads, decodes and encodes items for one run of the pipeline."""

    @property
    def ahead(self) -> int:
        """How many tasks to submit before waiting for the first."""

    @property
    def encode_seconds(self) -> float:
        """Time spent in encoders, summed over all of them."""

    def start(self, ledger: Ledger) -> None:
        """Begin a run; images that the ledger has are read but not decoded."""

    def submit(self, task: Task) -> Future[TaskResult]:
        """Queue a task."""

    def flush(self, future: Future[TaskResult]) -> None:
        """Send a task that is held back for a batch, because its result is awaited."""

    def encode(
        self, pixels: Sequence[Pixels], texts: Sequence[str]
    ) -> tuple[Sequence[Rows], Sequence[Rows]]:
        """Encode what the results of a chunk lack: float32 ``[dim]`` for each image and text."""

    def stop(self, *, cancel: bool) -> None:
        """End the run; ``cancel`` drops queued tasks instead of waiting for them."""


class ThreadExecutor:
    """Reads and decodes in threads of this process; encodes in the calling thread, by chunks.

    Args:
        encoder: gives the encoder; called only when something must be decoded or encoded.
    """

    ahead = _AHEAD

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        self._encoder = encoder
        self.encode_seconds = 0.0

    def start(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pool = ThreadPoolExecutor(min(32, (os.cpu_count() or 2) + 1), "twinlens-reader")

    def submit(self, task: Task) -> Future[TaskResult]:
        if task.load is None:  # texts alone are encoded with their chunk
            done: Future[TaskResult] = Future()
            done.set_result(TaskResult())
            return done
        return self._pool.submit(self._decode, task, self._encoder())

    def flush(self, future: Future[TaskResult]) -> None:
        """Nothing is held back."""

    def encode(
        self, pixels: Sequence[Pixels], texts: Sequence[str]
    ) -> tuple[Sequence[Rows], Sequence[Rows]]:
        if not (pixels or texts):
            return [], []
        encoder = self._encoder()
        began = time.perf_counter()
        vectors = encode_images(encoder, pixels), encode_texts(encoder, texts)
        self.encode_seconds += time.perf_counter() - began
        return vectors

    def stop(self, *, cancel: bool) -> None:
        self._pool.shutdown(wait=not cancel, cancel_futures=cancel)

    def _decode(self, task: Task, encoder: Encoder) -> TaskResult:
        def stored(ids: Sequence[str]) -> set[str]:
            return set(filter(self._ledger.has_image, ids))

        (result,) = decode_tasks([task], encoder.prepare, encoder.fingerprint.image_size, stored)
        return result


def decode_image(data: bytes, prepare: Callable[[Image], Pixels], side: int) -> DecodedImage:
    """Decode an image for a model with an input of ``side`` pixels.

    Raises:
        ImageError: it cannot be decoded.
    """
    from twinlens.search.images.decode import decode

    decoded = decode(data, target=side)
    return DecodedImage(
        pixels=prepare(decoded.image),
        width=decoded.width,
        height=decoded.height,
        bytes=len(data),
        format=decoded.format,
        exif=dict(decoded.exif),
    )


def encode_images(encoder: Encoder, pixels: Sequence[Pixels]) -> list[Rows]:
    """The embeddings of images, float32 ``[dim]`` each, in batches of the encoder's size."""
    vectors: list[Rows] = []
    for start in range(0, len(pixels), encoder.image_batch):
        vectors += list(encoder.images(np.stack(pixels[start : start + encoder.image_batch])))
    return vectors


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> list[Rows]:
    """The embeddings of texts, float32 ``[dim]`` each.

    Batches contain texts of similar length, because a batch is padded to its longest text.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors: dict[int, Rows] = {}
    for start in range(0, len(order), TEXT_BATCH):
        batch = order[start : start + TEXT_BATCH]
        vectors.update(zip(batch, encoder.texts([texts[i] for i in batch]), strict=True))
    return [vectors[i] for i in range(len(texts))]


def decode_tasks(
    tasks: Sequence[Task],
    prepare: Callable[[Image], Pixels],
    side: int,
    stored: Callable[[Sequence[str]], abc.Collection[str]],
) -> list[TaskResult]:
    """Read and decode the images of tasks.

    Args:
        tasks: what to read.
        prepare, side: the model's preprocessing and input size in pixels.
        stored: returns those of some ids that are stored already and need no decoding.
    """
    results: list[TaskResult] = []
    for start in range(0, len(tasks), _READ_TOGETHER):
        results += _decode_batch(tasks[start : start + _READ_TOGETHER], prepare, side, stored)
    return results


def encode_results(encoder: Encoder, tasks: Sequence[Task], results: Sequence[TaskResult]) -> None:
    """Add the embeddings of images and texts to the results of ``decode_tasks``."""
    decoded = [
        (r, r.image, r.image.pixels) for r in results if r.image and r.image.pixels is not None
    ]
    vectors = encode_images(encoder, [pixels for _, _, pixels in decoded])
    for (result, image, _), vector in zip(decoded, vectors, strict=True):
        result.vector = vector
        result.image = replace(image, pixels=None)
    pending = [
        (result, text)
        for task, result in zip(tasks, results, strict=True)
        if result.failure is None
        for text in task.texts
    ]
    vectors = encode_texts(encoder, [text for _, text in pending])
    for (result, text), vector in zip(pending, vectors, strict=True):
        result.texts[text] = vector


def _decode_batch(
    tasks: Sequence[Task],
    prepare: Callable[[Image], Pixels],
    side: int,
    stored: Callable[[Sequence[str]], abc.Collection[str]],
) -> list[TaskResult]:
    results = [TaskResult() for _ in tasks]
    read: list[tuple[Task, TaskResult, bytes]] = []
    for task, result in zip(tasks, results, strict=True):
        began = time.perf_counter()
        try:
            data = task.load() if callable(task.load) else task.load
        except (ImageError, OSError) as error:
            result.failure = failure_of(error, task.uri, task.root)
            continue
        if data is not None:
            result.id = image_id(data)
            read.append((task, result, data))
        result.ms = 1e3 * (time.perf_counter() - began)
    duplicates = stored([result.id for _, result, _ in read])
    for task, result, data in read:
        if result.id in duplicates:
            continue
        began = time.perf_counter()
        try:
            result.image = decode_image(data, prepare, side)
        except (ImageError, OSError) as error:
            result.failure = failure_of(error, task.uri, task.root)
        result.ms += 1e3 * (time.perf_counter() - began)
    return results

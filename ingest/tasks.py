"""``Task`` and ``TaskResult``: an image to read and decode, and what comes of it."""

from __future__ import annotations

import time
from collections import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from twinlens.ingest.sample import Failure, failure_of
from twinlens.search.errors import ImageError
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.records import Row, image_id

if TYPE_CHECKING:
    from PIL.Image import Image

#: Encoded images in memory at once while a worker looks up which of them are stored.
_READ_TOGETHER = 16


# Not frozen: Python 3.11 pickles frozen classes with slots, and ``replace`` copies them, slowly.
@dataclass(slots=True)
class DecodedImage:
    """A decoded image: uint8 ``[side, side, 3]`` for the model, and facts about its file."""

    pixels: Pixels | None
    width: int
    height: int
    bytes: int
    format: str
    exif: Row


@dataclass(slots=True)
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


def find_sorted(stored: npt.NDArray[np.bytes_], ids: Sequence[str]) -> set[str]:
    """The ids that a sorted array of ids as bytes contains, by binary search."""
    if not len(stored) or not ids:
        return set()
    wanted = np.array([bytes.fromhex(one) for one in ids], stored.dtype)
    at = np.minimum(np.searchsorted(stored, wanted), len(stored) - 1)
    return {one for one, hit in zip(ids, stored[at] == wanted, strict=True) if hit}


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
        except (ImageError, OSError, MemoryError) as error:
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
        except (ImageError, OSError, MemoryError) as error:
            result.failure = failure_of(error, task.uri, task.root)
        result.ms += 1e3 * (time.perf_counter() - began)
    return results

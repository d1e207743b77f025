"""What is done to pictures and texts on their way, in this process or in another.

A ``Task`` is an item's work as it travels to whoever does it, a ``Result`` what comes back.
"""

from __future__ import annotations

import time
from collections import abc
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from twinlens.ingest.sample import Failure, failure_of
from twinlens.search.errors import ImageError
from twinlens.search.models.encoder import Encoder, Pixels, Rows
from twinlens.search.records import Row, image_id

if TYPE_CHECKING:
    from PIL.Image import Image

#: Texts that are encoded together.
TEXT_BATCH = 64
#: Encoded pictures that are in memory at once while it is asked which of them are stored.
_READ_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class View:
    """A decoded picture: uint8 ``[side, side, 3]`` for the model, and what its file said."""

    pixels: Pixels | None
    width: int
    height: int
    bytes: int
    format: str
    exif: Row


@dataclass(frozen=True, slots=True)
class Task:
    """An item's work.

    Attributes:
        uri, root: what it is called where it fails.
        load: reads the encoded picture, or is it; ``None`` where only texts are to be encoded.
        texts: what is to be encoded beside it.
    """

    uri: str
    root: str
    load: Callable[[], bytes] | bytes | None
    texts: tuple[str, ...] = ()


@dataclass(slots=True)
class Result:
    """What came of a task.

    Attributes:
        id: the picture's, "" where none was read.
        view: the picture, its pixels gone once they are encoded; None where it is stored already.
        vector: float32 ``[dim]``.
        texts: the vectors of the task's texts by the texts.
        failure: why there is nothing of all that.
        ms: what reading and decoding took.
    """

    id: str = ""
    view: View | None = None
    vector: Rows | None = None
    texts: dict[str, Rows] = field(default_factory=dict)
    failure: Failure | None = None
    ms: float = 0.0


class Crew(Protocol):
    """Who reads, decodes and encodes in the pipeline's place, in other processes."""

    @property
    def ahead(self) -> int:
        """How many items to hand over before the first is waited for."""

    @property
    def encode_seconds(self) -> float:
        """How long its encoders were at work, all taken together."""

    def begin(self, stored: Callable[[], npt.NDArray[np.bytes_]]) -> None:
        """A run begins; ``stored`` gives the ids of what need not be decoded, sorted."""

    def submit(self, task: Task) -> Future[Result]:
        """Take a task on."""

    def need(self, future: Future[Result]) -> None:
        """Somebody waits for this task: do not hold it back to go with others."""


def look(data: bytes, prepare: Callable[[Image], Pixels], side: int) -> View:
    """Decode a picture for a model that looks at ``side`` pixels.

    Raises:
        ImageError: it cannot be decoded.
    """
    from twinlens.search.images.decode import decode

    decoded = decode(data, target=side)
    return View(
        pixels=prepare(decoded.image),
        width=decoded.width,
        height=decoded.height,
        bytes=len(data),
        format=decoded.format,
        exif=dict(decoded.exif),
    )


def embed_texts(encoder: Encoder, texts: Sequence[str]) -> list[Rows]:
    """The vectors of texts, float32 ``[dim]`` each.

    Those of like length are encoded together: a batch is padded to its longest.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    made: dict[int, Rows] = {}
    for start in range(0, len(order), TEXT_BATCH):
        part = order[start : start + TEXT_BATCH]
        made.update(zip(part, encoder.texts([texts[i] for i in part]), strict=True))
    return [made[i] for i in range(len(texts))]


def decode_tasks(
    tasks: Sequence[Task],
    prepare: Callable[[Image], Pixels],
    side: int,
    stored: Callable[[Sequence[str]], abc.Collection[str]],
) -> list[Result]:
    """Read and decode the pictures of some tasks.

    Args:
        tasks: what to do.
        prepare, side: of the model.
        stored: which of some ids need no decoding.
    """
    results: list[Result] = []
    for start in range(0, len(tasks), _READ_TOGETHER):
        results += _decode_few(tasks[start : start + _READ_TOGETHER], prepare, side, stored)
    return results


def encode_results(encoder: Encoder, tasks: Sequence[Task], results: Sequence[Result]) -> None:
    """Put the vectors of pictures and texts into the results of ``decode_tasks``."""
    seen = [(r, r.view, r.view.pixels) for r in results if r.view and r.view.pixels is not None]
    for start in range(0, len(seen), encoder.image_batch):
        part = seen[start : start + encoder.image_batch]
        vectors = encoder.images(np.stack([pixels for _, _, pixels in part]))
        for (result, view, _), vector in zip(part, vectors, strict=True):
            result.vector = vector
            result.view = replace(view, pixels=None)
    spoken = [
        (result, text)
        for task, result in zip(tasks, results, strict=True)
        if result.failure is None
        for text in task.texts
    ]
    made = embed_texts(encoder, [text for _, text in spoken])
    for (result, text), vector in zip(spoken, made, strict=True):
        result.texts[text] = vector


def _decode_few(
    tasks: Sequence[Task],
    prepare: Callable[[Image], Pixels],
    side: int,
    stored: Callable[[Sequence[str]], abc.Collection[str]],
) -> list[Result]:
    results = [Result() for _ in tasks]
    read: list[tuple[Task, Result, bytes]] = []
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
    known = stored([result.id for _, result, _ in read])
    for task, result, data in read:
        if result.id in known:
            continue
        began = time.perf_counter()
        try:
            result.view = look(data, prepare, side)
        except ImageError as error:
            result.failure = failure_of(error, task.uri, task.root)
        result.ms += 1e3 * (time.perf_counter() - began)
    return results

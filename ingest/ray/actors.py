"""What runs on the machines of a cluster: batches of tasks are read, decoded and encoded there.

Batches travel as rows of two columns: ``number``, and ``payload``, which is pickled. They come
from ``Feed``, an actor that the driver fills.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from twinlens.ingest.stages import Result, Task, decode_tasks, encode_results
from twinlens.search.errors import ModelMismatchError
from twinlens.search.models.encoder import Encoder, Precision

_SCHEMA = pa.schema([("number", pa.int64()), ("payload", pa.binary())])


@dataclass(frozen=True, slots=True)
class Model:
    """How a worker comes by the encoder.

    Attributes:
        name: of the model, or "" where ``pickled`` is the encoder itself.
        digest, side: of the fingerprint that it must have.
        device, precision: see ``twinlens.search.models.encoder.open_encoders``.
    """

    name: str
    pickled: bytes
    digest: str
    side: int
    device: str = "auto"
    precision: Precision = "auto"

    def encoder(self) -> Encoder:
        """Load it.

        Raises:
            ModelError: it cannot be loaded here, or is another one than the collection's.
        """
        from twinlens.search.models.encoder import open_encoders

        if self.pickled:
            encoder: Encoder = pickle.loads(self.pickled)  # noqa: S301 - from the driver
        else:
            encoder = open_encoders(self.name, device=self.device, precision=self.precision)
        if encoder.fingerprint.digest != self.digest:
            raise ModelMismatchError(
                f"a worker has loaded {encoder.fingerprint.label} ({encoder.fingerprint.digest}), "
                f"which is not the collection's model ({self.digest}): are all machines alike?"
            )
        return encoder

    def prepare(self) -> Callable[[Any], Any]:
        """The encoder's ``prepare``; of a model with a name its weights are not loaded."""
        from twinlens.search.models.declared import declared_prepare

        if self.pickled:
            return self.encoder().prepare
        return declared_prepare(self.name)


class Feed:
    """An actor that holds the batches until they are done, for whoever asks for them by number.

    Args:
        stored: a reference to the ids of pictures that need not be decoded, in a list, so that it
            stays a reference.
    """

    def __init__(self, stored: list[Any]) -> None:
        self._stored = stored[0]
        self._batches: dict[int, bytes] = {}
        # All below the one, and those of the other.
        self._done_below = 0
        self._done: set[int] = set()
        self._closed = False
        self._changed = asyncio.Condition()

    async def stored(self) -> list[Any]:
        """See above."""
        return [self._stored]

    async def put(self, number: int, batch: bytes) -> None:
        """Add a batch. They are numbered from 0, and may arrive in any order."""
        async with self._changed:
            self._batches[number] = batch
            self._changed.notify_all()

    async def is_wanted(self, number: int) -> bool:
        """Whether a batch is still to be done: it is not where the driver has given up."""
        return not self._closed and number in self._batches

    async def drop(self, number: int) -> None:
        """The batch is done."""
        self._batches.pop(number, None)
        self._done.add(number)
        while self._done_below in self._done:
            self._done.remove(self._done_below)
            self._done_below += 1

    async def close(self) -> None:
        """There are no more batches, and those that wait are not wanted any more."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def get(self, number: int) -> bytes | None:
        """A batch, once it is there; empty if it is done, None when there are no more.

        A reader that died begins anew at 0, and must come past as many as before.
        """
        if number < self._done_below or number in self._done:
            return b""
        async with self._changed:
            await self._changed.wait_for(lambda: number in self._batches or self._closed)
            return self._batches.get(number)


class FeedSource(Datasource):  # type: ignore[misc]
    """A dataset of what is in a feed, read by one task while the driver goes on filling it."""

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


class Stage:
    """Takes tables of batches; what each is turned into, subclasses say.

    An error travels in the batch's place, so that it reaches the driver as it is.
    """

    def __init__(self, model: Model, feed: Any) -> None:
        self._model = model
        self._feed = feed

    def __call__(self, table: pa.Table) -> pa.Table:
        numbers, batches = table["number"].to_pylist(), table["payload"].to_pylist()
        return _table(numbers, list(map(self._turn, numbers, batches)))

    def _turn(self, number: int, batch: bytes) -> bytes:
        if not batch or not ray.get(self._feed.is_wanted.remote(number)):
            return b""
        content = pickle.loads(batch)  # noqa: S301 - from the driver, or the stage before
        if not isinstance(content, BaseException):
            try:
                content = self.work(content)
            except Exception as error:  # noqa: BLE001 - raised by the driver
                content = error
        return dumps(content)

    def work(self, content: Any) -> Any:
        """What the stage is there for."""
        raise NotImplementedError

    @cached_property
    def encoder(self) -> Encoder:
        """Loaded once, when the first batch comes."""
        return self._model.encoder()

    @cached_property
    def _known(self) -> npt.NDArray[np.bytes_]:
        (reference,) = ray.get(self._feed.stored.remote())
        known: npt.NDArray[np.bytes_] = ray.get(reference)
        return known

    def decode(
        self, tasks: Sequence[Task], prepare: Callable[[Any], Any]
    ) -> tuple[list[Task], list[Result]]:
        """The tasks without what is done, and what came of them."""

        def stored(ids: Sequence[str]) -> abc.Collection[str]:
            return among(self._known, ids)

        results = decode_tasks(tasks, prepare, self._model.side, stored)
        return [replace(task, load=None) for task in tasks], results

    def encode(self, tasks: Sequence[Task], results: list[Result]) -> tuple[list[Result], float]:
        """The results with their vectors, and the seconds that took."""
        encoder = self.encoder
        began = time.perf_counter()
        encode_results(encoder, tasks, results)
        return results, time.perf_counter() - began


class Decoding(Stage):
    """Tasks → tasks and decoded pictures, on machines or cores without an accelerator."""

    @cached_property
    def _prepare(self) -> Callable[[Any], Any]:
        return self._model.prepare()

    def work(self, content: list[Task]) -> Any:
        return self.decode(content, self._prepare)


class Encoding(Stage):
    """What ``Decoding`` made → results and seconds, on an accelerator."""

    def work(self, content: tuple[list[Task], list[Result]]) -> Any:
        return self.encode(*content)


class Whole(Stage):
    """Tasks → results and seconds: both stages on one core, which pixels then never leave."""

    def work(self, content: list[Task]) -> Any:
        return self.encode(*self.decode(content, self.encoder.prepare))


def among(known: npt.NDArray[np.bytes_], ids: Sequence[str]) -> set[str]:
    """Those of some ids that are in a sorted array of ids as bytes."""
    if not len(known) or not ids:
        return set()
    wanted = np.array([bytes.fromhex(one) for one in ids], known.dtype)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return {one for one, hit in zip(ids, known[at] == wanted, strict=True) if hit}


def dumps(content: Any) -> bytes:
    """Pickled; an error that cannot be is told by its words."""
    try:
        return pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    except Exception:
        if not isinstance(content, BaseException):
            raise
        return pickle.dumps(RuntimeError(f"{type(content).__name__}: {content}"))


def _table(numbers: list[int], batches: list[bytes]) -> pa.Table:
    return pa.table([numbers, batches], schema=_SCHEMA)

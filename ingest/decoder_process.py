"""A process that reads and decodes images for an ingest; see ``twinlens.ingest.decoder_pool``.

    python -P -m twinlens.ingest.decoder_process CONNECTION PIXELS STORED

The arguments are file descriptors that it inherits: of a connection, of the memory for pixels, and
of the ids that are stored already. It is a program of its own, not a function that is called by
``multiprocessing``, because that would import the main module of the program that ingests, which
need not expect it. It ends when the other side of the connection is closed, however that happens.
"""

from __future__ import annotations

import mmap
import pickle
import sys
from collections import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.ingest.tasks import Task, TaskResult, decode_tasks, find_sorted
from twinlens.search.images.budget import divide_budget
from twinlens.search.models.base import Pixels
from twinlens.search.records import ID_LENGTH


@dataclass(frozen=True, slots=True)
class Preparing:
    """What a decoding process needs to know of the model.

    Attributes:
        prepare: the model's preprocessing: ``Encoder.prepare``.
        side: its input size in pixels.
        batch: images in the memory for pixels.
        processes: how many processes decode, each with its share of the memory for that.
    """

    prepare: Callable[[Any], Pixels]
    side: int
    batch: int
    processes: int

    def pixels_in(self, memory: mmap.mmap) -> Pixels:
        """The memory for pixels as an array, uint8 ``[batch, side, side, 3]``."""
        shape = (self.batch, self.side, self.side, 3)
        count = int(np.prod(shape))
        return np.frombuffer(memory, dtype=np.uint8, count=count).reshape(shape)


def main() -> None:
    connection, pixels, stored = map(int, sys.argv[1:])
    with Connection(connection) as parent:
        model: Preparing = pickle.loads(parent.recv_bytes())  # noqa: S301 - from our own parent
        divide_budget(model.processes)
        array = model.pixels_in(mmap.mmap(pixels, 0))
        known = _ids(stored)
        parent.send_bytes(b"ready")
        while True:
            try:
                tasks = pickle.loads(parent.recv_bytes())  # noqa: S301
            except EOFError:
                return
            parent.send_bytes(_reply(model, tasks, array, known))


def _ids(file: int) -> npt.NDArray[np.bytes_]:
    """The sorted ids in a file; see ``Ledger.stored_images``."""
    if file < 0:
        return np.empty(0, dtype=f"S{ID_LENGTH // 2}")
    return np.frombuffer(mmap.mmap(file, 0, access=mmap.ACCESS_READ), dtype=f"S{ID_LENGTH // 2}")


def _reply(
    model: Preparing, tasks: Sequence[Task], pixels: Pixels, known: npt.NDArray[np.bytes_]
) -> bytes:
    """The pickled results of tasks, or an exception.

    The pixels of an image whose result has none are in the memory, at the place of its task.
    """

    def stored(ids: Sequence[str]) -> abc.Collection[str]:
        return find_sorted(known, ids)

    results: list[TaskResult] = []
    try:
        for task, place in zip(tasks, pixels, strict=False):
            # One by one: only one file at a time is in memory.
            results += decode_tasks([task], model.prepare, model.side, stored)
            image = results[-1].image
            if image is not None and image.pixels is not None and image.pixels.shape == place.shape:
                place[...] = image.pixels
                image.pixels = None
        return pickle.dumps(results, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - raised where the result is awaited
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()

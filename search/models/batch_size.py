"""Find how many images a device encodes at once: as many as pay and fit into its memory."""

from __future__ import annotations

import threading
from collections.abc import Callable


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says that a device has too little memory left."""
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "ALLOC_FAILED" in text or "can't allocate memory" in text)
    )


class BatchSize:
    """How many images to encode at once.

    It is doubled for as long as that is quicker and the memory has room, and halved when memory
    runs out, for the rest of the process.

    Args:
        first: the size to begin with.
        most: the largest one to try.
    """

    #: Batches to measure at each size: the first ones allocate and choose kernels.
    TRIALS = 4
    #: How much quicker an image must become for the next size to be kept.
    GAIN = 1.05

    def __init__(self, first: int, most: int) -> None:
        self._most = most
        self._best = 0.0
        self._rates: list[float] = []
        self._lock = threading.Lock()
        self.size = first

    @property
    def settled(self) -> bool:
        """Whether it stays as it is, unless memory runs out."""
        return self.size >= self._most

    def measured(self, count: int, seconds: float, has_room: Callable[[], bool]) -> None:
        """Note how long a batch took; ``has_room`` tells if memory for twice as many is there."""
        with self._lock:
            if self.settled or count != self.size or seconds <= 0:
                return
            self._rates.append(count / seconds)
            if len(self._rates) < self.TRIALS:
                return
            rate, self._rates = max(self._rates), []
            if rate < self._best * self.GAIN:
                self._most = self.size = self.size // 2
            elif has_room():
                self._best = rate
                self.size = min(2 * self.size, self._most)
            else:
                self._most = self.size

    def ran_out(self, count: int) -> None:
        """Note that so many were too many."""
        with self._lock:
            self._most = self.size = min(self.size, max(1, count // 2))
            self._rates = []

"""Compile a tower with ``torch.compile``, once a run has been so long that it pays."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from twinlens.search.errors import UsageError, first_line

if TYPE_CHECKING:
    import torch

    Function = Callable[[torch.Tensor], torch.Tensor]

_log = logging.getLogger("twinlens")

#: Whether to compile: auto, never or always.
ENVIRONMENT = "TWINLENS_COMPILE"
#: Seconds of encoding before "auto" compiles. Compiling takes about a minute and saves a part of
#: what follows, of which nobody knows how much it is. Whoever waits until the time that was not
#: saved is as long as compiling takes loses at most as much again (the rule of renting skis).
COMPILE_AFTER = 120.0
#: Images in the smallest batch to compile for: a query should not wait for it.
MIN_COUNT = 16
#: The lowest cosine of a compiled function's rows with the plain one's at which it is used.
MIN_COSINE = 0.999


class CompiledFunction:
    """A function of a batch, which is compiled for the usual size when a run has been long enough.

    Compiling fails where there is no C compiler or no Triton, or for a model that torch cannot
    trace. One line says so then, and the function stays as it is.

    Args:
        function: a batch → float32 unit rows ``[n, dim]``.
        after: seconds of work after which to compile; ``None``: never.
        backend: of ``torch.compile``.
    """

    def __init__(
        self, function: Function, after: float | None, *, backend: str = "inductor"
    ) -> None:
        self._function = function
        self._after = after
        self._backend = backend
        self._spent = 0.0
        #: Images by the size of the batch they were in.
        self._images: Counter[int] = Counter()
        self._compiled: Function | None = None
        self._count = 0

    @property
    def is_compiled(self) -> bool:
        """Whether batches of one size are compiled by now."""
        return self._compiled is not None

    def is_due(self, count: int) -> bool:
        """Whether it pays to ``compile`` for batches of a size: the run is long, and most are."""
        if self._after is None or self._spent < self._after or count < MIN_COUNT:
            return False
        return self._images[count] == max(self._images.values(), default=0)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Call the function; batches of the size that it was compiled for are quicker."""
        if self._compiled is not None and len(batch) == self._count:
            return self._compiled(batch)
        return self._function(batch)

    def worked(self, count: int, seconds: float) -> None:
        """Note how long a batch took."""
        self._images[count] += count
        self._spent += seconds

    def compile(self, batch: torch.Tensor) -> None:
        """Compile for batches as large as this one; tried once."""
        import torch

        self._after = None
        _log.info("compiling the model for this device: it takes about a minute, once in a run")
        began = time.perf_counter()
        try:
            compiled = torch.compile(self._function, dynamic=False, backend=self._backend)
            lowest = float((compiled(batch) * self._function(batch)).sum(dim=1).min())
            if not lowest >= MIN_COSINE:
                raise ValueError(f"the compiled model deviates, lowest cosine {lowest:.4f}")
        except Exception as error:  # noqa: BLE001 - whatever torch and its compilers raise
            _log.warning("the model runs uncompiled: %s", first_line(error, 200))
            return
        self._count = len(batch)
        self._compiled = compiled
        _log.info("compiled in %.0f s", time.perf_counter() - began)


def seconds_until_compiled(device: torch.device) -> float | None:
    """Seconds of encoding after which to compile on a device; ``None``: never.

    Raises:
        UsageError: ``TWINLENS_COMPILE`` is none of auto, never and always.
    """
    asked = os.environ.get(ENVIRONMENT, "").strip() or "auto"
    choices = {
        "auto": COMPILE_AFTER if device.type == "cuda" else None,
        "never": None,
        "always": 0.0,
    }
    if asked not in choices:
        raise UsageError(f"{ENVIRONMENT} is {asked[:40]!r}: use auto, never or always")
    return choices[asked]

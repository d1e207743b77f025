"""Copy pixels to a device and rows back; on CUDA beside the computing, through pinned memory."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from twinlens.search.models.base import Pixels, Rows

if TYPE_CHECKING:
    import torch

#: Share of the free memory of a device that a batch of twice the size may take.
_ROOM = 0.8


class Mark(Protocol):
    """A point in the work of a device."""

    def wait(self) -> None:
        """Wait until the device has got there."""

    def seconds_since(self, earlier: Mark) -> float:
        """Time that the device took from an earlier mark; call it after ``wait``."""


class Streams(Protocol):
    """What a device offers for copying and computing at the same time."""

    @property
    def pinned(self) -> bool:
        """Whether copies need page-locked memory in order not to wait."""

    def current(self) -> AbstractContextManager[object]:
        """In the body, this device is the one that torch uses if none is named."""

    def copying(self) -> AbstractContextManager[object]:
        """In the body, work is queued behind earlier copies, not behind earlier computing."""

    def use_copy(self, tensor: torch.Tensor) -> None:
        """Let the computing that is queued from now on wait for the copies queued so far."""

    def mark(self) -> Mark:
        """Mark the end of the computing that is queued so far."""

    def has_room(self) -> bool:
        """Whether twice of what the last work needed would fit into the memory."""

    def release(self) -> None:
        """Give memory back that is kept for later work."""


class Device:
    """Takes batches of pixels or tokens to one device, and brings rows back.

    Args:
        where: the device.
        streams: how it copies and computes; default: as the device can.
    """

    def __init__(self, where: torch.device, streams: Streams | None = None) -> None:
        import torch

        if where.type == "cuda" and where.index is None:
            where = torch.device("cuda", torch.cuda.current_device())
        self.where = where
        self.streams: Streams = streams or (
            CudaStreams(where) if where.type == "cuda" else HostStreams()
        )

    def upload(self, pixels: Pixels | Sequence[Pixels]) -> torch.Tensor:
        """Queue a copy of uint8 ``[n, height, width, 3]`` to the device.

        The caller may change the pixels as soon as this returns: they are copied to memory of
        torch's own first, which it reuses for later batches.
        """
        import torch

        shape = (len(pixels), *pixels[0].shape)
        host = torch.empty(shape, dtype=torch.uint8, pin_memory=self.streams.pinned)
        if isinstance(pixels, np.ndarray):
            host.numpy()[:] = pixels
        else:
            np.stack(pixels, out=host.numpy())
        return self._send(host)

    def send(self, tokens: torch.Tensor) -> torch.Tensor:
        """Queue a copy of a small tensor to the device."""
        return self._send(tokens.pin_memory() if self.streams.pinned else tokens)

    def download(self, rows: torch.Tensor) -> tuple[Mark, Callable[[], Rows]]:
        """Queue a copy of rows from the device.

        Returns:
            The point at which it is done, and a function that waits for it and returns the rows.
        """
        import torch

        host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=self.streams.pinned)
        host.copy_(rows, non_blocking=self.streams.pinned)
        done = self.streams.mark()

        def wait() -> Rows:
            done.wait()
            # Rows wait for their chunk to be written, pinned memory should not.
            arrived: Rows = host.numpy()
            return arrived.copy() if self.streams.pinned else arrived

        return done, wait

    def _send(self, host: torch.Tensor) -> torch.Tensor:
        with self.streams.copying():
            there = host.to(self.where, non_blocking=self.streams.pinned)
        self.streams.use_copy(there)
        return there


class HostMark:
    """The present: a device without streams has done all that was asked of it."""

    def __init__(self) -> None:
        self.time = time.perf_counter()

    def wait(self) -> None:
        """Nothing is queued."""

    def seconds_since(self, earlier: Mark) -> float:
        """The time between both marks."""
        assert isinstance(earlier, HostMark)
        return self.time - earlier.time


class HostStreams:
    """A device that does one thing after the other, such as the CPU."""

    pinned = False

    def current(self) -> AbstractContextManager[object]:
        """Tensors name their device."""
        return nullcontext()

    def copying(self) -> AbstractContextManager[object]:
        """Copies wait."""
        return nullcontext()

    def use_copy(self, tensor: torch.Tensor) -> None:
        """The copy is done."""

    def mark(self) -> Mark:
        """Now."""
        return HostMark()

    def has_room(self) -> bool:
        """Its batches do not grow."""
        return False

    def release(self) -> None:
        """It keeps none."""


class CudaMark:
    """An event on a CUDA stream."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        import torch

        # blocking: a thread that waits leaves its core to the decoders.
        self.event = torch.cuda.Event(  # type: ignore[no-untyped-call]
            enable_timing=True, blocking=True
        )
        self.event.record(stream)

    def wait(self) -> None:
        """Wait for the event."""
        self.event.synchronize()

    def seconds_since(self, earlier: Mark) -> float:
        """The time that the device measured between both events."""
        assert isinstance(earlier, CudaMark)
        return float(earlier.event.elapsed_time(self.event)) / 1e3


class CudaStreams:
    """A CUDA device: copies have a stream of their own, computing has the current one."""

    pinned = True

    def __init__(self, where: torch.device) -> None:
        import torch

        self._where = where
        self._copies = torch.cuda.Stream(where)  # type: ignore[no-untyped-call]

    def current(self) -> AbstractContextManager[object]:
        """Select the device: page-locked memory would begin to use the first one otherwise."""
        import torch

        return torch.cuda.device(self._where)

    def copying(self) -> AbstractContextManager[object]:
        """Queue copies on their own stream."""
        import torch

        return torch.cuda.stream(self._copies)

    def use_copy(self, tensor: torch.Tensor) -> None:
        """Let the current stream wait for the copies, and keep the memory until it is done."""
        import torch

        computing = torch.cuda.current_stream(self._where)
        computing.wait_stream(self._copies)
        tensor.record_stream(computing)

    def mark(self) -> Mark:
        """Record an event on the current stream."""
        import torch

        return CudaMark(torch.cuda.current_stream(self._where))

    def has_room(self) -> bool:
        """Compare the peak since the last call with what is free."""
        import torch

        held = torch.cuda.memory_allocated(self._where)
        peak = torch.cuda.max_memory_allocated(self._where) - held
        kept = torch.cuda.memory_reserved(self._where) - held
        free = torch.cuda.mem_get_info(self._where)[0]
        torch.cuda.reset_peak_memory_stats(self._where)
        return 2 * peak <= _ROOM * (free + kept)

    def release(self) -> None:
        """Give cached memory back to the device, and page-locked memory to the system."""
        import torch

        torch.cuda.empty_cache()
        # Of torch 2.7 and later.
        getattr(torch._C, "_host_emptyCache", lambda: None)()


def copy_module(module: Any, where: torch.device) -> Any:
    """Copy a module to another device, without a second copy on its own."""
    import torch

    moved: dict[int, Any] = {
        id(one): torch.nn.Parameter(one.detach().to(where), requires_grad=one.requires_grad)
        for one in module.parameters()
    }
    moved |= {id(one): one.to(where) for one in module.buffers()}
    return copy.deepcopy(module, moved)

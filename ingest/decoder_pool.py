"""``DecoderPool``: read and decode images in processes, which share no interpreter lock.

Each process has a thread here that sends it a batch of tasks and waits for the results. Pixels come
through shared memory, everything else through a connection. A process that dies (killed, out of
memory, crashed by a file) is replaced and its tasks are repeated one by one, so that a file that
crashes its decoder is one failure and not the end of the run. Where none can be started in its
place, its thread decodes in this process.
"""

from __future__ import annotations

import mmap
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.ingest.decoder_process import Preparing
from twinlens.ingest.sample import Failure, failure_of
from twinlens.ingest.tasks import Task, TaskResult, decode_tasks
from twinlens.search.errors import ImageError
from twinlens.search.models.base import Pixels

#: Images in a batch.
BATCH = 16
#: The most processes.
MAX_PROCESSES = 64
#: Seconds until a process must be ready, and until one that is told to end must have ended.
START_SECONDS = 60.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.1
#: How often it is tried to replace a process that ended.
RESTARTS = 3
#: Let glibc keep the memory of the last image for the next one, instead of getting it from the
#: system again, page by page.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


@dataclass(slots=True)
class _Batch:
    """Tasks that are sent together, and their results when ``done`` is set."""

    tasks: list[Task] = field(default_factory=list)
    results: list[TaskResult] = field(default_factory=list)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class PooledTask:
    """One task of a pool."""

    batch: _Batch
    place: int

    def done(self) -> bool:
        """Whether ``result`` returns at once."""
        return self.batch.done.is_set()

    def result(self) -> TaskResult:
        """Wait for the result; the task must have been sent."""
        self.batch.done.wait()
        if self.batch.error is not None:
            raise self.batch.error
        return self.batch.results[self.place]


class DecoderPool:
    """Decodes in processes of its own; start it before the first task.

    Args:
        prepare: the model's preprocessing; must be picklable.
        side: its input size in pixels.
        stored: returns the sorted ids of images that are stored already and need no decoding.
        processes: how many.

    Attributes:
        ready: whether a process can take tasks. Stays false where none can be started.
        ahead: how many tasks to submit before waiting for the first.
    """

    def __init__(
        self,
        prepare: Callable[[Any], Pixels],
        side: int,
        stored: Callable[[], npt.NDArray[np.bytes_]],
        processes: int,
    ) -> None:
        self._model = Preparing(prepare, side, BATCH, processes)
        self._stored = stored
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._unsent = _Batch()
        self._closing = threading.Event()
        self._cancelled = threading.Event()
        self._ids = -1
        self._stack = ExitStack()
        self.ready = False
        self.ahead = 4 * BATCH * processes
        self._threads = [
            threading.Thread(target=self._serve, name="twinlens-decoder", daemon=True)
            for _ in range(processes)
        ]
        self._starter = threading.Thread(target=self._start, name="twinlens-decoders", daemon=True)

    def start(self) -> None:
        """Start the processes, without waiting until they are ready."""
        self._starter.start()

    def submit(self, task: Task) -> PooledTask:
        """Queue a task; it is sent when a batch is full, or by ``flush``."""
        batch = self._unsent
        batch.tasks.append(task)
        handle = PooledTask(batch, len(batch.tasks) - 1)
        if len(batch.tasks) == BATCH:
            self._send()
        return handle

    def flush(self, task: object) -> None:
        """Send a task that is held back for a batch; ignores tasks of others."""
        if isinstance(task, PooledTask) and task.batch is self._unsent:
            self._send()

    def close(self, *, cancel: bool) -> None:
        """End the processes; ``cancel`` drops all tasks instead of finishing them."""
        if cancel:
            self._cancelled.set()
        self._closing.set()
        self._starter.join()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._stack.close()

    def _send(self) -> None:
        self._queue.put(self._unsent)
        self._unsent = _Batch()

    def _start(self) -> None:
        try:
            ids = self._stored()
            if len(ids):
                self._ids = self._stack.enter_context(_Memory(ids.tobytes())).file
        except OSError:
            return
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        """In a thread: pass batches to a process until the pool is closed."""
        started = _Decoder(self._model, self._ids, self._closing, self._cancelled)
        with suppress(OSError), started as decoder:
            self.ready = True
            while (batch := self._queue.get()) is not None and not self._cancelled.is_set():
                try:
                    batch.results = self._results(decoder, batch.tasks)
                except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                    batch.error = error
                batch.done.set()

    def _results(self, decoder: _Decoder, tasks: Sequence[Task]) -> list[TaskResult]:
        if decoder.lost:
            # What is stored already is decoded again, and then not written.
            return decode_tasks(tasks, self._model.prepare, self._model.side, lambda ids: ())
        try:
            message = pickle.dumps(tasks, pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - an open archive or a temporary copy, read here
            return [self._read_here(decoder, task) for task in tasks]
        try:
            return decoder.decode(message, len(tasks))
        except (EOFError, ConnectionError):
            decoder.restart()
        if len(tasks) > 1 and not decoder.lost:
            return [result for task in tasks for result in self._results(decoder, [task])]
        # Nobody knows which of several it was, and it must not crash this process.
        reason = "the process that decoded it ended: its decoder crashed, or memory ran out"
        several = len(tasks) > 1
        return [
            TaskResult(failure=Failure(task.uri, reason, task.root, transient=several))
            for task in tasks
        ]

    def _read_here(self, decoder: _Decoder, task: Task) -> TaskResult:
        try:
            data = task.load() if callable(task.load) else task.load
        except (ImageError, OSError, MemoryError) as error:
            return TaskResult(failure=failure_of(error, task.uri, task.root))
        (result,) = self._results(decoder, [replace(task, load=data)])
        return result


class _Decoder:
    """One process, with the memory that it writes pixels to; a context manager that starts it.

    Entering raises ``OSError`` if it cannot be started.

    Args:
        model: what it needs to know.
        ids: the file of the ids that are stored already; -1 for none.
        closing: a process that is not ready yet is given up when set.
        cancelled: so is one that works.

    Attributes:
        lost: whether it ended, and none could be started in its place.
    """

    def __init__(
        self,
        model: Preparing,
        ids: int,
        closing: threading.Event,
        cancelled: threading.Event,
    ) -> None:
        self._model = model
        self._ids = ids
        self._closing = closing
        self._cancelled = cancelled
        self.lost = False

    def __enter__(self) -> _Decoder:
        self._memory = _Memory(size=self._model.batch * self._model.side**2 * 3)
        self._pixels = self._model.pixels_in(self._memory.map)
        try:
            self._connection, self._process = self._start()
        except BaseException:
            self._close_memory()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        self._close_memory()

    def decode(self, message: bytes, count: int) -> list[TaskResult]:
        """Let the process read and decode images.

        Args:
            message: the pickled tasks.
            count: how many they are.

        Raises:
            EOFError, ConnectionError: the process ended, or all is cancelled.
        """
        self._connection.send_bytes(message)
        while not self._connection.poll(POLL_SECONDS):
            if self._cancelled.is_set():
                raise ConnectionError("the run was interrupted")
        results = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - our own process
        if isinstance(results, BaseException):
            raise results
        # Copied at once, so that the process can go on with the next batch.
        pixels = self._pixels[:count].copy()
        for result, its in zip(results, pixels, strict=True):
            if result.image is not None and result.image.pixels is None:
                result.image.pixels = its
        return list(results)

    def restart(self) -> None:
        """Replace a process that ended; without success, it is ``lost``."""
        self._stop()
        for _ in range(RESTARTS):
            if self._closing.is_set():
                break
            with suppress(OSError):
                self._connection, self._process = self._start()
                return
        self.lost = True

    def _start(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        ours, its = Pipe()
        files = [its.fileno(), self._memory.file, self._ids]
        with its:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "twinlens.ingest.decoder_process", *map(str, files)],
                pass_fds=[file for file in files if file >= 0],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **_MALLOC,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
                # Ctrl-C in a terminal is for the ingest, which ends its processes.
                start_new_session=True,
            )
        try:
            ours.send_bytes(pickle.dumps(self._model, pickle.HIGHEST_PROTOCOL))
            until = time.monotonic() + START_SECONDS
            while not ours.poll(POLL_SECONDS):
                if time.monotonic() > until or self._closing.is_set():
                    raise ConnectionError("it is not ready")
            ours.recv_bytes()
        except (EOFError, OSError) as error:
            process.kill()
            process.wait()
            ours.close()
            raise ConnectionError("a process that decodes cannot be started") from error
        return ours, process

    def _close_memory(self) -> None:
        del self._pixels
        self._memory.__exit__()

    def _stop(self) -> None:
        self._connection.close()
        if self._cancelled.is_set():
            self._process.kill()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Memory:
    """Memory that other processes can map, without a name that could be left behind.

    Args:
        content: bytes to put into it.
        size: bytes, if there is no content.
    """

    def __init__(self, content: bytes = b"", size: int = 0) -> None:
        self._file = (
            open(os.memfd_create("twinlens"), "r+b")  # noqa: SIM115 - closed by __exit__
            if hasattr(os, "memfd_create")
            else tempfile.TemporaryFile()  # noqa: SIM115
        )
        self._file.write(content)
        self._file.truncate(size or len(content))
        self._file.flush()
        self.file = self._file.fileno()
        self.map = mmap.mmap(self.file, 0)

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(BufferError):  # an array may still use it; it goes with the array
            self.map.close()
        self._file.close()


def usable_cores() -> int:
    """How many cores this process may use: also where a container gets a share of a machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        cores = min(cores or 1, max(1, round(int(quota) / int(period))))
    return cores or 1

"""``EncodingQueue``: encode in the background, on every device of an encoder."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from twinlens.search.models.base import AsyncEncoder, Encoder, PendingRows, Pixels, Rows
from twinlens.search.models.batches import TEXT_BATCH

#: Batches that a device has been given beside those that are being handed over and fetched.
LAUNCHED_AHEAD = 2

Kind = Literal["images", "texts"]


class EncodingQueue:
    """Encodes batches in threads, and returns futures.

    All devices take from one queue. Each has a thread that hands it batches and one that fetches
    rows, so that a device never waits for Python. Batches that are smaller than the device likes
    are put together, larger ones are split.

    The devices have threads, not processes: most of the time a thread waits for its device and
    holds no lock, and pixels need not be copied to another process. A machine with so many devices
    that one Python cannot feed them all uses a Ray cluster of its own (``--cluster local``).

    Args:
        encoder: any encoder. Its ``copies`` work at the same time, if it has some; other encoders
            are called in one thread.
    """

    def __init__(self, encoder: Encoder) -> None:
        copies: Sequence[Encoder] = getattr(encoder, "copies", None) or [encoder]
        self._lanes = [_Lane(copy) for copy in copies]
        self._waiting: deque[_Piece] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=work, args=(lane,), name="twinlens-encoder", daemon=True)
            for lane in self._lanes
            for work in (self._launch, self._fetch)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> EncodingQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close(cancel=kind is not None)

    @property
    def image_batch(self) -> int:
        """How many images to submit at once; it may grow during a run."""
        return self._lanes[0].batch("images")

    @property
    def seconds(self) -> float:
        """Time that devices had work, summed over all of them."""
        return sum(lane.seconds for lane in self._lanes)

    def submit_images(self, pixels: Pixels | Sequence[Pixels]) -> Future[Rows]:
        """Encode uint8 ``[n, side, side, 3]``, or a list of such images.

        It does not wait: the caller decides how much is in memory at once. The pixels must not
        change until the result is there.

        Returns:
            The future of float32 unit rows ``[n, dim]``.

        Raises:
            RuntimeError: the queue is closed.
        """
        return self._submit("images", pixels, np.arange(len(pixels)))

    def submit_texts(self, texts: Sequence[str]) -> Future[Rows]:
        """Encode texts, those of similar length together; otherwise like ``submit_images``."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        return self._submit("texts", texts, order.astype(np.intp))

    def close(self, *, cancel: bool = False) -> None:
        """Wait until all is encoded, end the threads, and release memory kept for batches.

        Args:
            cancel: drop what no device has begun; its futures are cancelled.
        """
        with self._changed:
            self._closed = True
            if cancel:
                for piece in self._waiting:
                    piece.whole.future.cancel()
                self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for lane in self._lanes:
            lane.release()

    def _submit(self, kind: Kind, items: Any, order: npt.NDArray[np.intp]) -> Future[Rows]:
        whole = _Submission(items, left=len(order))
        if not len(order):
            whole.future.set_result(np.empty((0, self._lanes[0].dim), dtype=np.float32))
        step = self._lanes[0].batch(kind)
        parts = (order[start : start + step] for start in range(0, len(order), step))
        self._put([_Piece(kind, whole, part) for part in parts])
        return whole.future

    def _put(self, pieces: Sequence[_Piece]) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeError("the queue of the encoder is closed")
            self._waiting.extend(pieces)
            self._changed.notify_all()

    def _take(self, lane: _Lane) -> list[_Piece]:
        """Wait for pieces of one kind, up to a batch; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            taken = [self._waiting.popleft()]
            room = lane.batch(taken[0].kind) - len(taken[0].order)
            for piece in list(self._waiting):
                if piece.kind == taken[0].kind and len(piece.order) <= room:
                    self._waiting.remove(piece)
                    taken.append(piece)
                    room -= len(piece.order)
        return taken

    def _launch(self, lane: _Lane) -> None:
        """In a thread: hand batches to a device until the queue is closed and empty."""
        while pieces := self._take(lane):
            began = time.perf_counter()
            lane.launched.put((began, pieces, lane.begin(pieces)))
        lane.launched.put(None)

    def _fetch(self, lane: _Lane) -> None:
        """In another thread: wait for the rows of a device's batches."""
        free_since = 0.0
        while (batch := lane.launched.get()) is not None:
            began, pieces, pending = batch
            _finish(pieces, pending)
            now = time.perf_counter()
            lane.seconds += now - max(began, free_since)
            free_since = now


class _Lane:
    """One copy of an encoder, the batches that it has been given, and the time they took."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.launched: queue.Queue[_Launched | None] = queue.Queue(LAUNCHED_AHEAD)
        self.seconds = 0.0

    @property
    def dim(self) -> int:
        return self._encoder.fingerprint.dim

    def batch(self, kind: Kind) -> int:
        if kind == "images":
            return max(1, self._encoder.image_batch)
        return int(getattr(self._encoder, "text_batch", TEXT_BATCH))

    def release(self) -> None:
        """Give memory back, if the encoder keeps some."""
        release = getattr(self._encoder, "release", None)
        if release is not None:
            release()

    def begin(self, pieces: Sequence[_Piece]) -> PendingRows | BaseException:
        """Hand pieces of one kind to the device; an error is returned, for their futures."""
        items = [piece.whole.items[i] for piece in pieces for i in piece.order]
        try:
            return self._begin(pieces[0].kind, items)
        except BaseException as error:  # noqa: BLE001 - passed to whoever waits for the rows
            return error

    def _begin(self, kind: Kind, items: list[Any]) -> PendingRows:
        images = kind == "images"
        if hasattr(self._encoder, "begin_images"):
            encoder = cast(AsyncEncoder, self._encoder)
            return encoder.begin_images(items) if images else encoder.begin_texts(items)
        rows = self._encoder.images(np.stack(items)) if images else self._encoder.texts(items)
        return lambda: rows


@dataclass
class _Submission:
    """What was submitted at once, and its rows so far."""

    items: Any
    left: int
    future: Future[Rows] = field(default_factory=Future)
    rows: Rows | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, order: npt.NDArray[np.intp], rows: Rows) -> None:
        """Add the rows of some items; the last ones complete the future."""
        with self.lock:
            if self.future.done():
                return
            if self.rows is None:
                self.rows = np.empty((len(self.items), rows.shape[1]), dtype=np.float32)
            self.rows[order] = rows
            self.left -= len(order)
            if self.left == 0:
                self.future.set_result(self.rows)

    def fail(self, error: BaseException) -> None:
        """Pass an error on, unless another part failed before."""
        with self.lock:
            if not self.future.done():
                self.future.set_exception(error)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of a submission that is encoded in one batch: the items of these numbers."""

    kind: Kind
    whole: _Submission
    order: npt.NDArray[np.intp]


#: When a batch was begun, what it consists of, and its rows or an error.
_Launched = tuple[float, Sequence[_Piece], PendingRows | BaseException]


def _finish(pieces: Sequence[_Piece], pending: PendingRows | BaseException) -> None:
    """Wait for the rows of some pieces, and share them out."""
    try:
        if isinstance(pending, BaseException):
            raise pending
        rows = pending()
    except BaseException as error:  # noqa: BLE001 - passed to whoever waits for the rows
        for piece in pieces:
            piece.whole.fail(error)
        return
    start = 0
    for piece in pieces:
        piece.whole.add(piece.order, rows[start : start + len(piece.order)])
        start += len(piece.order)

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

from twinlens.search.errors import ModelError
from twinlens.search.models.base import AsyncEncoder, Encoder, PendingRows, Pixels, Rows
from twinlens.search.models.batches import TEXT_BATCH

#: Batches that a device has been given beside those that are being handed over and fetched.
LAUNCHED_AHEAD = 2
#: Batches to submit before waiting for the first: one that the device works on, the next one, and
#: one that is being gathered meanwhile; and the most bytes of their images, for each device.
SUBMITTED_AHEAD = 3
SUBMITTED_BYTES = 1 << 30

Kind = Literal["images", "texts"]


class EncodingQueue:
    """Encodes batches in threads, and returns futures.

    All devices take from one queue. Each has a thread that hands it batches and one that fetches
    rows, so that a device never waits for Python. Submissions are put together and split into
    batches of the size that the device likes. A smaller batch is encoded only if the device would
    soon be idle.

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
    def images_ahead(self) -> int:
        """How many images to submit before waiting for the first, so that batches are full.

        It may grow during a run. Their pixels take at most ``SUBMITTED_BYTES`` for each device.
        """
        return sum(lane.images_ahead for lane in self._lanes)

    @property
    def seconds(self) -> float:
        """Time that devices had work, summed over all of them."""
        return sum(lane.seconds for lane in self._lanes)

    def submit_images(self, pixels: Pixels | Sequence[Pixels]) -> Future[Rows]:
        """Encode uint8 ``[n, side, side, 3]``, or a list of such images.

        It does not wait: the caller decides how much is in memory at once. The pixels must not
        change until the result is there.

        Returns:
            The future of float32 rows ``[n, dim]``, of length 1 if the encoder keeps its promise.
            It raises what the encoder raises, and ``ModelError`` for rows of another shape.

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
                    piece.whole.cancel()
                self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for lane in self._lanes:
            lane.release()

    def _submit(self, kind: Kind, items: Any, order: npt.NDArray[np.intp]) -> Future[Rows]:
        whole = _Submission(items, left=len(order))
        if len(order):
            self._put(_Piece(kind, whole, order))
        else:
            whole.future.set_result(np.empty((0, self._lanes[0].dim), dtype=np.float32))
        return whole.future

    def _put(self, piece: _Piece) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeError("the queue of the encoder is closed")
            self._waiting.append(piece)
            self._changed.notify_all()

    def _take(self, lane: _Lane) -> list[_Piece]:
        """Wait for items of one kind, and take up to a batch of them; none at the end."""
        with self._changed:
            while (kind := self._launchable(lane)) is None:
                if self._closed:
                    return []
                self._changed.wait()
            taken: list[_Piece] = []
            left: deque[_Piece] = deque()
            room = lane.batch(kind)
            for piece in self._waiting:
                count = room if piece.kind == kind else 0
                if now := piece.part(slice(count)):
                    taken.append(now)
                    room -= len(now.order)
                if later := piece.part(slice(count, None)):
                    left.append(later)
            self._waiting = left
            lane.unfinished += 1
        return taken

    def _launchable(self, lane: _Lane) -> Kind | None:
        """The kind of a device's next batch; ``None`` if there is nothing, or too little yet.

        The oldest kind of which there is a full batch; without one, the oldest kind, but only if
        the device has no batch to go on with after the one that it works on.
        """
        waiting: dict[Kind, int] = {}
        for piece in self._waiting:
            waiting[piece.kind] = waiting.get(piece.kind, 0) + len(piece.order)
        full = (kind for kind, count in waiting.items() if count >= lane.batch(kind))
        may_be_small = self._closed or lane.unfinished < 2
        return next(full, next(iter(waiting), None) if may_be_small else None)

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
            rows = lane.wait(pieces, pending)
            now = time.perf_counter()
            lane.seconds += now - max(began, free_since)
            free_since = now
            with self._changed:
                lane.unfinished -= 1
                self._changed.notify_all()
            _share(pieces, rows)


def largest_batch(side: int) -> int:
    """The most images of ``side`` pixels for a batch, so that enough batches fit in memory."""
    return max(1, SUBMITTED_BYTES // (SUBMITTED_AHEAD * 3 * side**2))


class _Lane:
    """One copy of an encoder, the batches that it has been given, and the time they took.

    Attributes:
        launched: batches that the device was given, to be fetched.
        unfinished: how many batches were taken for it whose rows are not there yet.
        seconds: time that it had work.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.launched: queue.Queue[_Launched | None] = queue.Queue(LAUNCHED_AHEAD)
        self.unfinished = 0
        self.seconds = 0.0

    @property
    def images_ahead(self) -> int:
        largest = largest_batch(self._encoder.fingerprint.image_size)
        return SUBMITTED_AHEAD * min(self.batch("images"), largest)

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

    def wait(
        self, pieces: Sequence[_Piece], pending: PendingRows | BaseException
    ) -> Rows | BaseException:
        """The rows of the pieces that ``begin`` handed over, or why there are none."""
        if isinstance(pending, BaseException):
            return pending
        try:
            rows: Rows = np.asarray(pending(), dtype=np.float32)
        except BaseException as error:  # noqa: BLE001 - passed to whoever waits for the rows
            return error
        expected = (sum(len(piece.order) for piece in pieces), self.dim)
        if rows.shape == expected:
            return rows
        label = self._encoder.fingerprint.label
        return ModelError(f"{label} gave rows of the shape {rows.shape}, not {expected}")

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

    def cancel(self) -> None:
        """Cancel the future, unless it is done."""
        with self.lock:
            self.future.cancel()

    def fail(self, error: BaseException) -> None:
        """Pass an error on, unless another part failed before."""
        with self.lock:
            if not self.future.done():
                self.future.set_exception(error)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A submission, or a part of it that is encoded in one batch: the items of these numbers."""

    kind: Kind
    whole: _Submission
    order: npt.NDArray[np.intp]

    def part(self, which: slice) -> _Piece | None:
        """Some of the items; ``None`` if there are none."""
        order = self.order[which]
        return _Piece(self.kind, self.whole, order) if len(order) else None


#: When a batch was begun, what it consists of, and its rows or an error.
_Launched = tuple[float, Sequence[_Piece], PendingRows | BaseException]


def _share(pieces: Sequence[_Piece], rows: Rows | BaseException) -> None:
    """Give each piece its rows of a batch, or the error."""
    start = 0
    for piece in pieces:
        if isinstance(rows, BaseException):
            piece.whole.fail(rows)
        else:
            piece.whole.add(piece.order, rows[start : start + len(piece.order)])
        start += len(piece.order)

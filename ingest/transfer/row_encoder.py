"""``RowEncoder``: encode stored rows with another model, and write them to a generation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from twinlens.ingest.sample import Failure
from twinlens.search.errors import ImageError, ModelError, reason_of
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Pixels, Rows, is_finite
from twinlens.search.models.encoding_queue import EncodingQueue
from twinlens.search.records import Kind, Row, image_id

#: Reads an encoded image.
Load = Callable[[], bytes]
#: The most images of a page. Two are decoded at once, and as many encoded as the device needs for
#: full batches, at least two. Slow encoders have smaller pages.
MAX_PAGE = 256
_INVALID = "the model gave no valid embedding"


@dataclass(frozen=True, slots=True)
class _Decoding:
    """Rows of images, and the futures of their pixels: see ``_pixels``."""

    rows: Sequence[Row]
    futures: Sequence[Future[Pixels | str | None]]


@dataclass(frozen=True, slots=True)
class _Encoding:
    """Rows, and the future of their embeddings."""

    kind: Kind
    rows: Sequence[Row]
    vectors: Future[Rows]


class RowEncoder:
    """Decodes a page of rows while the page before is encoded and the one before that is written.

    A context manager; call ``finish`` before leaving it.

    Args:
        target: where to write.
        encoder: gives the encoder; called only if there is something to encode.
        pool: decodes.

    Attributes:
        failed: images that cannot be read again, by id.
        absent: the rows of images that no source given for them has, by id.
    """

    def __init__(
        self, target: Collection, encoder: Callable[[], Encoder], pool: ThreadPoolExecutor
    ) -> None:
        self._target = target
        self._encoder = encoder
        self._pool = pool
        self._queue: EncodingQueue | None = None
        self._decoding: deque[_Decoding] = deque()
        self._encoding: deque[_Encoding] = deque()
        self.failed: dict[str, Failure] = {}
        self.absent: dict[str, Row] = {}

    def __enter__(self) -> RowEncoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._queue is not None:
            self._queue.close(cancel=kind is not None)

    def add_images(self, rows: Sequence[Row], loads: Mapping[str, Sequence[Load]]) -> None:
        """Begin to encode the images of rows.

        Args:
            rows: of images, without their vectors.
            loads: what may read each image, by id.
        """
        if not rows:
            return
        encoder = self._encoder()
        size = max(1, min(encoder.image_batch, MAX_PAGE))
        for start in range(0, len(rows), size):
            page = rows[start : start + size]
            futures = [
                self._pool.submit(_pixels, row["id"], loads.get(row["id"], ()), encoder)
                for row in page
            ]
            self._decoding.append(_Decoding(page, futures))
            if len(self._decoding) > 1:
                self._encode()

    def add_texts(self, rows: Sequence[Row]) -> None:
        """Begin to encode the texts of rows."""
        if rows:
            self._begin("texts", rows, self._open().submit_texts([row["text"] for row in rows]))

    def finish(self) -> None:
        """Encode and write all that was begun."""
        while self._decoding:
            self._encode()
        while self._encoding:
            self._write()

    def _encode(self) -> None:
        """Wait for the pixels of the first page, and begin to encode them."""
        page = self._decoding.popleft()
        ready: list[tuple[Row, Pixels]] = []
        for row, future in zip(page.rows, page.futures, strict=True):
            read = future.result()
            if isinstance(read, str):
                self.failed[row["id"]] = Failure(row["path"], read)
            elif read is None:
                self.absent[row["id"]] = row
            else:
                ready.append((row, read))
        if ready:
            vectors = self._open().submit_images([pixels for _, pixels in ready])
            self._begin("images", [row for row, _ in ready], vectors)

    def _begin(self, kind: Kind, rows: Sequence[Row], vectors: Future[Rows]) -> None:
        self._encoding.append(_Encoding(kind, rows, vectors))
        while len(self._encoding) > max(1, self._open().images_ahead // MAX_PAGE):
            self._write()

    def _write(self) -> None:
        """Wait for the embeddings of the first page, and write its rows."""
        page = self._encoding.popleft()
        encoded: list[Row] = []
        for row, vector in zip(page.rows, page.vectors.result(), strict=True):
            if is_finite(vector):
                encoded.append(row | {"vector": vector})
            elif page.kind == "images":
                self.failed[row["id"]] = Failure(row["path"], _INVALID)
            else:
                raise ModelError(f"{_INVALID} for the text {row['text'][:100]!r}")
        self._target.upsert(page.kind, encoded)

    def _open(self) -> EncodingQueue:
        if self._queue is None:
            self._queue = EncodingQueue(self._encoder())
        return self._queue


def _pixels(key: str, loads: Sequence[Load], encoder: Encoder) -> Pixels | str | None:
    """Decode an image in a pool thread: return pixels, or why it failed; None if no file has it."""
    from twinlens.search.images.decode import decode

    reason = None
    for load in loads:
        try:
            data = load()
            if image_id(data) != key:
                reason = "has changed since it was ingested: ingest it first"
                continue
            return encoder.prepare(decode(data, target=encoder.fingerprint.image_size).image)
        except (ImageError, OSError) as error:
            reason = reason_of(error)
    return reason

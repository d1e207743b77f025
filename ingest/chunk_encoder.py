"""``ChunkEncoder``: encode chunks in order while the next ones are collected; build their rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from twinlens.ingest import sinks
from twinlens.ingest.executor import Executor, PendingVectors
from twinlens.ingest.rows import PendingItem, image_row, text_key, text_keys, text_row
from twinlens.ingest.sample import Failure
from twinlens.ingest.sinks import Chunk
from twinlens.ingest.writer import wait_for_milvus
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import is_finite

if TYPE_CHECKING:
    from twinlens.search.analysis.policy.judge import Judge


@dataclass(frozen=True, slots=True)
class _Encoding:
    """A chunk that is being encoded.

    Attributes:
        chunk: the chunk.
        images: its items whose images are encoded.
        texts: the captions to store, with their items, by id.
        unencoded: those that are encoded.
        vectors: the embeddings of both.
        ahead: images and texts that were being encoded when it was begun, with its own.
        begun: when that was.
    """

    chunk: Chunk
    images: list[PendingItem]
    texts: dict[str, tuple[str, PendingItem]]
    unencoded: list[tuple[str, PendingItem]]
    vectors: PendingVectors
    ahead: int
    begun: float


class ChunkEncoder:
    """Has one chunk encoded while the next is collected.

    As many full chunks are encoded at once as an accelerator needs to go from one full batch to the
    next; its batches may span chunks. Smaller chunks come from an encoder so slow that a chunk is
    all that an interruption should cost.

    Args:
        collection: searched for texts that are stored already.
        executor: encodes.
        judge: judges new images before they are stored.
        done: called with every chunk and its rows, in order, and with how many images and texts
            were encoded in how many seconds until then.
    """

    def __init__(
        self,
        collection: Collection,
        executor: Executor,
        judge: Judge | None,
        done: Callable[[Chunk, int, float], None],
    ) -> None:
        self._collection = collection
        self._executor = executor
        self._judge = judge
        self._done = done
        self._begun: deque[_Encoding] = deque()

    def begin(self, chunk: Chunk) -> None:
        """Begin to encode a chunk; waits for those before it."""
        chunks = max(2, -(-self._executor.images_ahead // sinks.CHUNK)) if chunk.full else 1
        while len(self._begun) >= chunks:
            self._finish()
        texts = self._texts_to_store(chunk)
        images = [item for item in chunk.new if item.pixels is not None and item.vector is None]
        unencoded = [(text, item) for text, item in texts.values() if text not in item.text_vectors]
        vectors = self._executor.encode(
            [item.pixels for item in images if item.pixels is not None],
            [text for text, _ in unencoded],
        )
        ahead = chunk.to_encode + sum(one.chunk.to_encode for one in self._begun)
        begun = time.perf_counter()
        self._begun.append(_Encoding(chunk, images, texts, unencoded, vectors, ahead, begun))
        self.finish_ready()

    def finish_ready(self) -> None:
        """Pass on the chunks that are encoded, without waiting for others."""
        while self._begun and self._begun[0].vectors.done():
            self._finish()

    def finish(self) -> None:
        """Wait for all chunks, and pass them on."""
        while self._begun:
            self._finish()

    def _finish(self) -> None:
        """Wait for the first chunk, and build its rows."""
        encoding = self._begun.popleft()
        chunk = encoding.chunk
        image_vectors, text_vectors = encoding.vectors.result()
        for item, vector in zip(encoding.images, image_vectors, strict=True):
            item.vector = vector
        for (text, item), vector in zip(encoding.unencoded, text_vectors, strict=True):
            item.text_vectors[text] = vector
        _fail_invalid(chunk, encoding.texts)
        self._moderate(chunk.new)
        for item in chunk.new:
            assert item.vector is not None
            item.pixels = None
            chunk.image_rows.append(image_row(item, item.vector))
        for key, (text, item) in encoding.texts.items():
            chunk.text_rows.append(text_row(key, text, item, item.text_vectors[text]))
        self._done(chunk, encoding.ahead, time.perf_counter() - encoding.begun)

    def _moderate(self, items: Sequence[PendingItem]) -> None:
        """Add what the policy finds in new images to their columns."""
        vectors = [item.vector for item in items if item.vector is not None]
        if self._judge is not None and vectors:
            for item, fields in zip(items, self._judge.rows(np.stack(vectors)), strict=True):
                item.columns |= fields

    def _texts_to_store(self, chunk: Chunk) -> dict[str, tuple[str, PendingItem]]:
        """The chunk's captions that are not stored yet, by id."""
        texts: dict[str, tuple[str, PendingItem]] = {}
        for item in chunk.items:
            for text in item.sample.captions:
                texts.setdefault(text_key(item, text), (text, item))
        maybe_stored = [key for item in chunk.stored for key in text_keys(item)]
        for row in wait_for_milvus(partial(self._collection.get, "texts", maybe_stored, ["id"])):
            texts.pop(row["id"], None)
        return texts


def _fail_invalid(chunk: Chunk, texts: dict[str, tuple[str, PendingItem]]) -> None:
    """Fail the items of which an embedding is not finite; what is stored of them stays.

    Args:
        chunk: whose items have their embeddings.
        texts: the captions to store, with their items, by id; those of failed items are removed.
    """
    images = {item.id for item in chunk.new if item.vector is None or not is_finite(item.vector)}
    captions = {
        key for key, (text, item) in texts.items() if not is_finite(item.text_vectors[text])
    }
    if not (images or captions):
        return
    for item in chunk.items:
        of_caption = not captions.isdisjoint(text_keys(item))
        if not (item.id in images or of_caption):
            continue
        what = "one of its captions" if of_caption else "it"
        reason = f"the model gave no valid embedding for {what}: numbers that are not finite"
        failure = Failure(item.sample.uri, reason, item.sample.root, transient=True)
        chunk.fail(item, failure)
    kept = {key for item in chunk.items for key in text_keys(item)}
    for key in texts.keys() - kept:
        del texts[key]

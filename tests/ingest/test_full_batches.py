"""Batches of an accelerator span chunks, and a chunk does not wait for a full batch."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.colours import SIDE, ColourEncoder

import twinlens
from twinlens.ingest import pipeline, sinks
from twinlens.ingest.chunk_encoder import ChunkEncoder
from twinlens.ingest.executor import LocalExecutor
from twinlens.ingest.ledger import Ledger
from twinlens.ingest.pipeline import ingest_items
from twinlens.ingest.report import Tally
from twinlens.ingest.rows import PendingItem
from twinlens.ingest.sample import Sample
from twinlens.ingest.sinks import Chunk
from twinlens.ingest.transfer import row_encoder
from twinlens.search.models import encoding_queue
from twinlens.search.models.base import Pixels, Rows

BATCH = 1_024
#: Seconds after which something that should have happened has not.
PATIENCE = 60.0


class Accelerator(ColourEncoder):
    """Likes large batches, and finishes none before ``enough`` says so of the sizes begun."""

    text_batch = BATCH

    def __init__(
        self,
        enough: Callable[[list[int]], bool] = bool,
        batch: int = BATCH,
        name: str = "colours",
    ) -> None:
        super().__init__(name)
        self.image_batch = batch
        self.events: list[str] = []
        self.sizes: list[int] = []
        self._enough = enough
        self._until = time.monotonic() + PATIENCE

    def begin_images(self, pixels: Pixels | Sequence[Pixels]) -> Callable[[], Rows]:
        count = len(pixels)
        self.events.append(f"begin {count}")
        self.sizes.append(count)

        def wait() -> Rows:
            while not self._enough(self.sizes):
                assert time.monotonic() < self._until
                time.sleep(0.001)
            self.events.append(f"fetch {count}")
            return self.images(np.stack(pixels))

        return wait

    def begin_texts(self, texts: Sequence[str]) -> Callable[[], Rows]:
        rows = self.texts(texts)
        return lambda: rows


def bmp(number: int) -> bytes:
    """A picture like no other."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (number % 256, number // 256, 77)).save(file, "BMP")
    return file.getvalue()


def samples(count: int) -> Iterator[Sample]:
    for number in range(count):
        yield Sample(f"{number}.bmp", "", f"{number}.bmp", partial(bmp, number))


def ingest(index: twinlens.Index, encoder: ColourEncoder, count: int) -> int:
    """Ingest so many pictures from memory; how many are stored."""
    collection = index.engine.collection
    executor = LocalExecutor(lambda: encoder)
    return ingest_items(collection, samples(count), [], executor, Tally()).images


@dataclass
class Done:
    """What a ``ChunkEncoder`` passed on: of each chunk, its first item and the count."""

    first: list[str]
    counts: list[int]

    def __call__(self, chunk: Chunk, count: int, seconds: float) -> None:
        assert len(chunk.image_rows) == len(chunk.new)
        assert seconds > 0
        self.first.append(chunk.new[0].id)
        self.counts.append(count)


@pytest.fixture
def opened(tmp_path: Path, photos: Path) -> Iterator[twinlens.Index]:
    """A collection."""
    with twinlens.open(tmp_path / "test.db", model=ColourEncoder()) as index:
        index.ingest(photos)
        yield index


def full_chunk(number: int) -> Chunk:
    pixels = np.random.default_rng(number).integers(0, 256, (sinks.CHUNK, SIDE, SIDE, 3), np.uint8)
    items = [
        PendingItem(Sample(f"{number}/{place}", "", "", None), None, f"{number}/{place}", one)
        for place, one in enumerate(pixels)
    ]
    return Chunk(new=items)


def test_full_chunks_make_full_batches(opened: twinlens.Index) -> None:
    may_finish = threading.Event()
    encoder = Accelerator(lambda sizes: may_finish.is_set())
    collection = opened.engine.collection
    executor, done = LocalExecutor(lambda: encoder), Done([], [])
    with Ledger(collection) as ledger:
        executor.start(ledger)
        chunks = ChunkEncoder(collection, executor, None, done)
        ahead = encoding_queue.SUBMITTED_AHEAD * BATCH // sinks.CHUNK
        for number in range(ahead):
            chunks.begin(full_chunk(number))  # does not wait
        until = time.monotonic() + PATIENCE
        while len(encoder.sizes) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        sizes, passed_on = encoder.sizes.copy(), done.counts.copy()
        may_finish.set()
        chunks.finish()
        executor.stop(cancel=False)
    # The device would have been idle without the first two.
    assert set(sizes[2:]) == {BATCH}
    assert passed_on == []
    assert done.first == [f"{number}/0" for number in range(ahead)]
    # What was encoded since a chunk was begun, and not since the one before: many end at once.
    assert done.counts == [sinks.CHUNK * (number + 1) for number in range(ahead)]


def test_an_ingest_with_enough_work_has_full_batches(
    opened: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "FIRST_CHUNK", 10**9)
    monkeypatch.setattr(pipeline, "CHUNK_SECONDS", 1e9)
    encoder = Accelerator(lambda sizes: BATCH in sizes)
    count = 3 * BATCH + 100
    assert ingest(opened, encoder, count) == count
    assert sum(encoder.sizes) == count
    assert encoder.events.index(f"begin {BATCH}") < encoder.events.index(
        f"fetch {encoder.sizes[0]}"
    )
    assert opened.info().images == count + 8


def test_a_chunk_that_is_due_does_not_wait_for_a_full_batch(
    opened: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CHUNK_SECONDS", 1e9)
    encoder = Accelerator()
    assert ingest(opened, encoder, 100) == 100
    assert encoder.sizes[0] == pipeline.FIRST_CHUNK
    assert len(encoder.sizes) > 1
    one_by_one = [f"{what} {size}" for size in encoder.sizes for what in ("begin", "fetch")]
    assert encoder.events == one_by_one


def test_a_reindex_has_full_batches(
    opened: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_encoder, "MAX_PAGE", 8)
    for number in range(120):
        (photos / f"{number}.bmp").write_bytes(bmp(number))
    assert opened.ingest(photos).images == 120
    encoder = Accelerator(lambda sizes: 32 in sizes, 32, "others")
    assert opened.reindex(encoder).images == 128
    assert sum(encoder.sizes) == 128
    assert encoder.events.index("begin 32") < encoder.events.index(f"fetch {encoder.sizes[0]}")


@pytest.mark.parametrize(("side", "batch", "ahead"), [(224, 64, 192), (224, 10**6, 7_131)])
def test_pixels_in_memory_are_bounded(side: int, batch: int, ahead: int) -> None:
    encoder = ColourEncoder()
    encoder.fingerprint = replace(encoder.fingerprint, image_size=side)
    encoder.image_batch = batch
    with encoding_queue.EncodingQueue(encoder) as queue:
        assert queue.images_ahead == ahead
        assert queue.images_ahead * 3 * side**2 <= encoding_queue.SUBMITTED_BYTES

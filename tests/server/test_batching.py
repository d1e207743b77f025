"""Concurrent searches share a batch, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.errors import ImageError, UsageError
from twinlens.search.models.base import Rows
from twinlens.search.query.request import SearchRequest
from twinlens.server.batching import Batcher, QueueFullError


class Gated(ColourEncoder):
    """An encoder that waits for a gate, and records how many texts each call gets."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.passes: list[int] = []

    def texts(self, texts: Sequence[str]) -> Rows:
        self.entered.set()
        assert self.gate.wait(10)
        self.passes.append(len(texts))
        return super().texts(texts)


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def filled(tmp_path: Path, photos: Path, gated: Gated) -> twinlens.Index:
    index = twinlens.open(tmp_path / "batch.db", model=gated)
    index.ingest(photos)
    index.search("warm up")  # the calibration is made
    gated.passes.clear()
    gated.entered.clear()
    return index


async def _held(batcher: Batcher, index: twinlens.Index, gated: Gated) -> asyncio.Task[object]:
    """Start a request that stays in the encoder until the gate opens."""
    gated.gate.clear()
    task = asyncio.create_task(batcher.search(index.engine, SearchRequest.of("the first")))
    await asyncio.to_thread(gated.entered.wait, 10)
    return task


def test_requests_that_arrive_during_a_batch_form_the_next_batch(
    filled: twinlens.Index, gated: Gated
) -> None:
    async def ask() -> None:
        batcher = Batcher()
        first = await _held(batcher, filled, gated)
        many = [
            asyncio.create_task(
                batcher.search(
                    filled.engine, SearchRequest.of(f"something {colour}", limit=1, target=target)
                )
            )
            for colour in COLOURS
            for target in ("images", "texts")
        ]
        while batcher._lanes[filled.engine].coming or not batcher._lanes[filled.engine].waiting:
            await asyncio.sleep(0.001)
        gated.gate.set()
        await first
        answers = await asyncio.gather(*many)
        names = [colour for colour in COLOURS for _ in range(2)]
        for colour, hits in zip(names, answers, strict=True):
            assert Path(hits[0].path).stem == colour
        await batcher.close()

    with filled:
        asyncio.run(ask())
    # Each is asked for twice, and encoded once.
    assert gated.passes == [1, len(COLOURS)]


def test_batched_answers_equal_those_of_single_searches(filled: twinlens.Index) -> None:
    options = [
        {"limit": 3},
        {"limit": 3, "offset": 1},
        {"limit": 2, "target": "texts"},
        {"limit": 5, "where": "width > 10"},
        {"limit": 3, "collapse": 0.9},
        {"limit": 3, "mode": "hybrid"},
        {"like": [filled.search("blue", limit=1)[0].id], "limit": 2},
    ]

    async def ask() -> list[object]:
        batcher = Batcher()
        found = await asyncio.gather(
            *(
                batcher.search(filled.engine, SearchRequest.of("red", **option))
                for option in options
            )
        )
        await batcher.close()
        return list(found)

    with filled:
        together = asyncio.run(ask())
        alone = [filled.search("red", **option) for option in options]
    assert [[hit.id for hit in hits] for hits in together] == [
        [hit.id for hit in hits] for hits in alone
    ]


def test_a_failing_request_does_not_affect_its_batch(filled: twinlens.Index, gated: Gated) -> None:
    async def ask() -> list[object]:
        batcher = Batcher()
        first = await _held(batcher, filled, gated)
        requests = [
            SearchRequest.of("red"),
            SearchRequest.of("red", where="nonsense =="),
            SearchRequest.of(image=b"no picture"),
            SearchRequest.of(["red", twinlens.Not("red", 1)]),  # nothing is left of it
            SearchRequest.of("blue"),
        ]
        tasks = [
            asyncio.create_task(batcher.search(filled.engine, request)) for request in requests
        ]
        await asyncio.sleep(0.05)
        gated.gate.set()
        await first
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert batcher.waiting == 0
        await batcher.close()
        return list(answers)

    with filled:
        red, wrong, broken, nothing, blue = asyncio.run(ask())
    assert Path(red[0].path).stem == "red"
    assert isinstance(wrong, twinlens.FilterError)
    assert isinstance(broken, ImageError)
    assert isinstance(nothing, UsageError)
    assert Path(blue[0].path).stem == "blue"


def test_a_full_queue_refuses_at_once(filled: twinlens.Index, gated: Gated) -> None:
    async def ask() -> None:
        batcher = Batcher(queue=3)
        first = await _held(batcher, filled, gated)
        more = [
            asyncio.create_task(batcher.search(filled.engine, SearchRequest.of("red"), client))
            for client in ("a", "b")
        ]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match=r"too many requests \(3\)"):
            await batcher.search(filled.engine, SearchRequest.of("blue"))
        gated.gate.set()
        await asyncio.gather(first, *more)
        assert await batcher.search(filled.engine, SearchRequest.of("blue"))
        await batcher.close()

    with filled:
        asyncio.run(ask())


def test_close_answers_accepted_requests(filled: twinlens.Index, gated: Gated) -> None:
    async def ask() -> None:
        batcher = Batcher()
        first = await _held(batcher, filled, gated)
        later = asyncio.create_task(
            batcher.search(filled.engine, SearchRequest.of("green", limit=1))
        )
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        with pytest.raises(QueueFullError):
            await batcher.search(filled.engine, SearchRequest.of("blue"))
        gated.gate.set()
        await closing
        assert await first
        assert Path((await later)[0].path).stem == "green"

    with filled:
        asyncio.run(ask())


def test_a_cancelled_request_does_not_block_others(filled: twinlens.Index, gated: Gated) -> None:
    async def ask() -> None:
        batcher = Batcher()
        first = await _held(batcher, filled, gated)
        gone = asyncio.create_task(batcher.search(filled.engine, SearchRequest.of("red")))
        await asyncio.sleep(0.02)
        gone.cancel()
        gated.gate.set()
        await first
        hits = await batcher.search(filled.engine, SearchRequest.of("blue", limit=1))
        assert Path(hits[0].path).stem == "blue"
        assert batcher.waiting == 0
        await batcher.close()

    with filled:
        asyncio.run(ask())

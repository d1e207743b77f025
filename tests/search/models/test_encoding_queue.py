"""Encode in the background: the same rows as in the foreground, from every device, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from support.colours import SIDE, ColourEncoder

from twinlens.search.errors import ModelError
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.models.encoding_queue import LAUNCHED_AHEAD, EncodingQueue
from twinlens.search.models.replicas import ReplicatedEncoder

TEXTS = [f"a {'very ' * (number % 5)}red thing, number {number}" for number in range(150)]


def pictures(count: int) -> Pixels:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


class LaunchingEncoder(ColourEncoder):
    """Notes what a device is asked for; a batch is done when somebody waits for its rows."""

    text_batch = 4

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.may_finish = threading.Event()
        self.may_finish.set()

    def begin_images(self, pixels: Pixels | Sequence[Pixels]) -> Callable[[], Rows]:
        return self._begin(f"{len(pixels)} images", self.images(np.stack(pixels)))

    def begin_texts(self, texts: Sequence[str]) -> Callable[[], Rows]:
        return self._begin(f"{len(texts)} texts", self.texts(texts))

    def _begin(self, what: str, rows: Rows) -> Callable[[], Rows]:
        self.events.append(f"begin {what}")

        def wait() -> Rows:
            assert self.may_finish.wait(20)
            self.events.append(f"fetch {what}")
            return rows

        return wait


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 33])
@pytest.mark.parametrize("copies", [1, 3])
def test_rows_are_those_of_the_encoder_in_the_order_of_the_items(count: int, copies: int) -> None:
    encoder = ReplicatedEncoder([ColourEncoder() for _ in range(copies)])
    pixels, texts = pictures(count), TEXTS[:count]
    with EncodingQueue(encoder) as queue:
        images, several = queue.submit_images(pixels), queue.submit_images(list(pixels))
        words = queue.submit_texts(texts)
        np.testing.assert_array_equal(images.result(20), ColourEncoder().images(pixels))
        np.testing.assert_array_equal(several.result(20), ColourEncoder().images(pixels))
        np.testing.assert_array_equal(words.result(20), ColourEncoder().texts(texts))


def test_many_threads_may_submit_at_once() -> None:
    with EncodingQueue(ReplicatedEncoder([ColourEncoder(), ColourEncoder()])) as queue:
        found: dict[int, Rows] = {}

        def submit(number: int) -> None:
            found[number] = queue.submit_images(pictures(number)).result(20)

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(1, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, rows in found.items():
        np.testing.assert_array_equal(rows, ColourEncoder().images(pictures(number)))
    assert len(found) == 19


def test_nothing_gives_no_rows() -> None:
    with EncodingQueue(ColourEncoder()) as queue:
        assert queue.submit_images([]).result(20).shape == (0, 16)
        assert queue.submit_texts([]).result(20).shape == (0, 16)


def test_a_device_gets_further_batches_before_the_first_is_fetched() -> None:
    encoder = LaunchingEncoder()
    encoder.may_finish.clear()
    with EncodingQueue(encoder) as queue:
        futures = [queue.submit_images(pictures(4)) for _ in range(LAUNCHED_AHEAD + 1)]
        while len(encoder.events) <= LAUNCHED_AHEAD:
            time.sleep(0.001)
        encoder.may_finish.set()
        for future in futures:
            assert len(future.result(20)) == 4
    begun = LAUNCHED_AHEAD + 1
    assert encoder.events == ["begin 4 images"] * begun + ["fetch 4 images"] * begun


#: The most batches that a device has been given while none is fetched: one in each thread, too.
MOST = LAUNCHED_AHEAD + 2


def test_small_submissions_are_encoded_together_and_large_ones_in_parts() -> None:
    encoder = LaunchingEncoder()
    encoder.may_finish.clear()
    with EncodingQueue(encoder) as queue:
        first = queue.submit_images(pictures(9))  # 4, 4 and 1 at a time
        small = [queue.submit_images(pictures(1)) for _ in range(3)]
        encoder.may_finish.set()
        for future in (first, *small):
            future.result(20)
    sizes = [int(event.split()[1]) for event in encoder.events if event.startswith("begin")]
    assert sum(sizes) == 12
    assert max(sizes) == 4
    assert len(sizes) < 6


def begun(encoder: LaunchingEncoder, count: int) -> list[str]:
    """Wait until so many batches are begun; all that were, without "begin"."""
    while len(encoder.events) < count:
        time.sleep(0.001)
    return [event.removeprefix("begin ") for event in encoder.events if event.startswith("begin")]


def test_a_small_batch_waits_for_more_while_the_device_has_work() -> None:
    encoder = LaunchingEncoder()
    encoder.may_finish.clear()
    pixels = [pictures(3) for _ in range(4)]
    with EncodingQueue(encoder) as queue:
        futures = []
        for number, one in enumerate(pixels, 1):
            futures.append(queue.submit_images(one))
            begun(encoder, min(number, 2))
        assert begun(encoder, 3) == ["3 images", "3 images", "4 images"]  # one from the next
        encoder.may_finish.set()
        for future, one in zip(futures, pixels, strict=True):
            np.testing.assert_array_equal(future.result(20), ColourEncoder().images(one))
    assert begun(encoder, 4)[3:] == ["2 images"]


def test_a_full_batch_of_one_kind_goes_before_a_small_one_of_the_other() -> None:
    encoder = LaunchingEncoder()
    encoder.may_finish.clear()
    with EncodingQueue(encoder) as queue:
        futures = []
        for number in (1, 2):
            futures.append(queue.submit_images(pictures(3)))
            begun(encoder, number)
        futures.append(queue.submit_texts(TEXTS[:2]))
        futures.append(queue.submit_images(pictures(4)))
        assert begun(encoder, 3)[2] == "4 images"
        encoder.may_finish.set()
        assert [len(future.result(20)) for future in futures] == [3, 3, 2, 4]
    assert begun(encoder, 4)[3] == "2 texts"


def test_texts_of_similar_length_are_encoded_together() -> None:
    lengths: list[list[int]] = []

    class Noting(ColourEncoder):
        def texts(self, texts: Sequence[str]) -> Rows:
            lengths.append([len(text) for text in texts])
            return super().texts(texts)

    with EncodingQueue(Noting()) as queue:
        rows = queue.submit_texts(TEXTS).result(20)
    np.testing.assert_array_equal(rows, ColourEncoder().texts(TEXTS))
    assert len(lengths) > 1
    assert [max(some) for some in lengths] == sorted(max(some) for some in lengths)


def test_submitting_does_not_wait() -> None:
    encoder = LaunchingEncoder()
    encoder.may_finish.clear()
    with EncodingQueue(encoder) as queue:
        futures = [queue.submit_images(pictures(4)) for _ in range(50)]
        assert not any(future.done() for future in futures)
        encoder.may_finish.set()
        assert [len(future.result(20)) for future in futures] == [4] * 50


def test_closing_releases_memory() -> None:
    released = []

    class Keeping(ColourEncoder):
        def release(self) -> None:
            released.append(self.images_seen)

    with EncodingQueue(ReplicatedEncoder([Keeping(), Keeping()])) as queue:
        queue.submit_images(pictures(9))
        assert not released
    assert sum(released) == 9
    assert len(released) == 2


def test_an_error_reaches_whoever_waits_and_the_queue_goes_on() -> None:
    class Broken(ColourEncoder):
        def images(self, pixels: Pixels) -> Rows:
            if pixels.max() == 0:
                raise ValueError("a black image")
            return super().images(pixels)

    with EncodingQueue(Broken()) as queue:
        failed = queue.submit_images(np.zeros((4, SIDE, SIDE, 3), np.uint8))
        with pytest.raises(ValueError, match="a black image"):
            failed.result(20)
        assert queue.submit_images(pictures(4)).result(20).shape == (4, 16)


def test_an_error_while_rows_are_fetched_reaches_whoever_waits() -> None:
    class Failing(LaunchingEncoder):
        def _begin(self, what: str, rows: Rows) -> Callable[[], Rows]:
            def wait() -> Rows:
                raise RuntimeError("the device is lost")

            return wait

    with EncodingQueue(Failing()) as queue, pytest.raises(RuntimeError, match="device is lost"):
        queue.submit_texts(TEXTS).result(20)


@pytest.mark.parametrize("wrong", ["fewer", "more", "flat", "narrow", "none"])
def test_rows_of_another_shape_are_an_error_and_the_queue_goes_on(wrong: str) -> None:
    class Wrong(ColourEncoder):
        def images(self, pixels: Pixels) -> Rows:
            rows = super().images(pixels)
            if pixels.max() > 0:
                return rows
            given = {
                "fewer": rows[1:],
                "more": np.repeat(rows, 2, axis=0),
                "flat": rows[0],
                "narrow": rows[:, 1:],
                "none": None,
            }
            return given[wrong]  # type: ignore[return-value]

    with EncodingQueue(Wrong()) as queue:
        failed = queue.submit_images(np.zeros((4, SIDE, SIDE, 3), np.uint8))
        with pytest.raises(ModelError, match=r"colours:none gave rows of the shape \("):
            failed.result(20)
        assert queue.submit_images(pictures(4)).result(20).shape == (4, 16)


def test_the_queue_goes_on_after_nothing_was_submitted() -> None:
    with EncodingQueue(ColourEncoder()) as queue:
        for _ in range(3):
            assert queue.submit_images([]).result(20).shape == (0, 16)
            assert queue.submit_images(pictures(3)).result(20).shape == (3, 16)


def test_closing_waits_for_what_was_submitted() -> None:
    with EncodingQueue(ColourEncoder()) as queue:
        futures = [queue.submit_images(pictures(3)) for _ in range(5)]
    assert all(len(future.result(0)) == 3 for future in futures)
    assert queue.seconds > 0
    with pytest.raises(RuntimeError, match="closed"):
        queue.submit_images(pictures(1))


def test_cancelling_drops_what_no_device_has_begun() -> None:
    encoder = LaunchingEncoder()
    encoder.may_finish.clear()
    queue = EncodingQueue(encoder)
    futures = [queue.submit_images(pictures(4)) for _ in range(MOST + 1)]
    while len(encoder.events) < MOST:
        time.sleep(0.001)
    release = threading.Timer(0.1, encoder.may_finish.set)
    release.start()
    queue.close(cancel=True)
    release.join()
    assert futures[-1].cancelled()
    assert [len(future.result(0)) for future in futures[:-1]] == [4] * MOST

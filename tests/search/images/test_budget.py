"""One budget of memory for all decoding of a process."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from twinlens.search.images import budget as module
from twinlens.search.images.budget import (
    RETURNED,
    SHARE,
    DecodingBudget,
    decoding_budget,
    divide_budget,
)
from twinlens.search.images.decode import decode
from twinlens.search.memory import UNKNOWN, available_memory


@pytest.fixture
def restored() -> Iterator[None]:
    """Put the budget of this process back."""
    before = module._budget
    yield
    module._budget = before


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_waits_until_there_is_room() -> None:
    budget = DecodingBudget(100)
    entered = threading.Event()

    def another() -> None:
        with budget.reserve(50):
            entered.set()

    with budget.reserve(60):
        assert budget.used == 60
        thread = threading.Thread(target=another)
        thread.start()
        until(lambda: budget.waiting == 1)
        assert not entered.is_set()
    thread.join(20)
    assert entered.is_set()
    assert (budget.used, budget.waiting) == (0, 0)


def test_what_is_larger_than_the_budget_runs_alone_and_in_its_turn() -> None:
    budget = DecodingBudget(100)
    order: list[str] = []
    with ThreadPoolExecutor(2) as pool:

        def take(name: str, size: int) -> None:
            with budget.reserve(size):
                order.append(f"{name} {budget.used}")

        with budget.reserve(10):
            large = pool.submit(take, "large", 1_000)
            until(lambda: budget.waiting == 1)
            small = pool.submit(take, "small", 1)  # there is room, but it came later
            until(lambda: budget.waiting == 2)
            assert order == []
        large.result(20)
        small.result(20)
    assert order == ["large 1000", "small 1"]


def test_a_reservation_within_another_takes_nothing() -> None:
    budget = DecodingBudget(100)
    with budget.reserve(90):
        with budget.reserve(90):
            assert budget.used == 90
        assert budget.used == 90
    assert budget.used == 0


def test_is_given_back_after_an_error() -> None:
    budget = DecodingBudget(100)
    with pytest.raises(ValueError, match="damaged"), budget.reserve(90):
        raise ValueError("damaged")
    assert budget.used == 0


def test_is_divided_among_workers(restored: None) -> None:
    whole = int(available_memory() * SHARE)
    assert divide_budget(4).total == whole // 4
    assert decoding_budget().total == whole // 4


def test_a_fork_starts_without_the_reservations_of_its_parent(restored: None) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork")
    divide_budget(1)
    with decoding_budget().reserve(5):
        module._forget()  # what runs in the child
        assert decoding_budget().used == 0


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_are_decoded_within_the_budget(
    restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = png(400)  # 640 kB decoded, and some for the conversion
    module._budget = budget = DecodingBudget(7 << 20)
    used: list[int] = []
    load = PngImageFile.load

    def noted(image: PngImageFile) -> object:
        used.append(budget.used)
        time.sleep(0.005)
        return load(image)

    monkeypatch.setattr(PngImageFile, "load", noted)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: decode(data, target=50), range(16)))
    assert max(used) <= budget.total
    assert min(used) >= 4 * 400 * 400
    assert max(used) >= 2 * min(used)  # at the same time
    assert budget.used == 0


def test_the_conversion_is_within_the_budget_too(
    restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinlens.search.images import decode as decoder

    module._budget = budget = DecodingBudget(100 << 20)
    buffer = io.BytesIO()
    Image.new("P", (400, 400)).save(buffer, "PNG", transparency=0)
    used: list[int] = []
    convert = decoder.to_rgb

    def noted(image: Image.Image, shorter: int | None) -> Image.Image:
        used.append(budget.used)
        return convert(image, shorter)

    monkeypatch.setattr(decoder, "to_rgb", noted)
    for target, bytes_per_pixel in ((50, 9), (None, 13)):
        used.clear()
        decode(buffer.getvalue(), target=target)
        assert used[0] >= bytes_per_pixel * 400 * 400


def test_the_decoded_image_is_freed_once_it_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    from twinlens.search.images import decode as decoder

    seen: list[Image.Image] = []
    convert = decoder.to_rgb

    def noted(image: Image.Image, shorter: int | None) -> Image.Image:
        seen.append(image)
        return convert(image, shorter)

    monkeypatch.setattr(decoder, "to_rgb", noted)
    assert decode(png(30)).image is seen[0]  # nothing to convert
    decode(png(300), target=20)
    with pytest.raises(ValueError, match="closed"):
        seen[1].getpixel((0, 0))


def test_free_memory_is_returned_after_large_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = DecodingBudget(1 << 30)
    returned: list[int] = []
    monkeypatch.setattr(module, "return_memory", lambda: returned.append(budget.used))
    for size in (RETURNED - 1, RETURNED):
        with budget.reserve(size):
            assert returned == []
    assert returned == [RETURNED]  # before another picture may have it
    monkeypatch.undo()
    module.return_memory()


def test_a_picture_larger_than_the_budget_is_decoded(restored: None) -> None:
    module._budget = DecodingBudget(1)
    with ThreadPoolExecutor(4) as pool:
        sizes = [one.image.size for one in pool.map(decode, [png(30)] * 8)]
    assert sizes == [(30, 30)] * 8


def test_memory_of_the_container(tmp_path) -> None:
    (tmp_path / "limit").write_text("1000000\n")
    (tmp_path / "none").write_text("max\n")
    limits = [tmp_path / "none", tmp_path / "missing"]
    machine = available_memory(limits)
    assert machine > 1_000_000 or machine == UNKNOWN
    assert available_memory([*limits, tmp_path / "limit"]) == 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are of Linux")
@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/system.slice/twinlens.service\n", "system.slice/twinlens.service/memory.max"),
        ("0::/system.slice/twinlens.service\n", "system.slice/memory.max"),
        ("0::/\n", "memory.max"),
        ("5:cpu:/a\n4:memory:/a/b\n", "memory/a/memory.limit_in_bytes"),
    ],
)
def test_memory_of_a_service(
    groups: str, file: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinlens.search import memory

    (tmp_path / "self").write_text(groups)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("2000000")
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "self")
    assert available_memory() == 2_000_000

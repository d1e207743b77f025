"""Work is shared by all who want it, and dropped once nobody does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from twinlens.server.batching import QueueFullError
from twinlens.server.shared_work import SharedWork


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def work(gate: threading.Event) -> Iterator[SharedWork[str]]:
    """Work in one thread, which waits for the gate."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(gate.wait, 30)
        yield SharedWork(executor, 3)
        gate.set()


def test_the_same_work_is_done_once(work: SharedWork[str], gate: threading.Event) -> None:
    done: list[str] = []
    futures = [work.get(name, lambda name=name: done.append(name) or name) for name in "aab"]  # type: ignore[func-returns-value]
    assert futures[0] is futures[1]
    gate.set()
    assert [future.result(30) for future in futures] == ["a", "a", "b"]
    assert done == ["a", "b"]
    assert work.get("a", lambda: "again").result(30) == "again"


def test_what_nobody_wants_any_more_is_not_done(
    work: SharedWork[str], gate: threading.Event
) -> None:
    done: list[str] = []
    first, second = (work.get("a", lambda: done.append("a") or "a") for _ in range(2))  # type: ignore[func-returns-value]
    other = work.get("b", lambda: "b")
    work.leave(first)
    assert not second.cancelled()
    work.leave(second)
    assert second.cancelled()
    again = work.get("a", lambda: "anew")
    gate.set()
    assert (other.result(30), again.result(30)) == ("b", "anew")
    assert done == []


def test_the_place_of_dropped_work_is_free(work: SharedWork[str]) -> None:
    futures = [work.get(name, lambda: "") for name in "abc"]
    with pytest.raises(QueueFullError):
        work.get("d", lambda: "")
    work.leave(futures[1])
    work.get("d", lambda: "")


def test_leaving_what_is_done_changes_nothing(work: SharedWork[str], gate: threading.Event) -> None:
    gate.set()
    future = work.get("a", lambda: "a")
    assert future.result(30) == "a"
    work.leave(future)
    work.leave(future)
    assert future.result(30) == "a"

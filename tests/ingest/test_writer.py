"""The writer thread: chunks in order, with retries while Milvus is unreachable."""

from __future__ import annotations

import threading

import pytest

from twinlens.ingest import writer
from twinlens.ingest.writer import WriterThread
from twinlens.search.errors import StoreError, StoreUnreachableError


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(writer, "LONGEST_PAUSE", 0.002)


def test_everything_is_written_in_order() -> None:
    written: list[int] = []
    with WriterThread(written.append) as writing:
        for number in range(50):
            writing.put(number)
    assert written == list(range(50))


def test_one_other_thread_writes() -> None:
    threads: set[int] = set()
    with WriterThread[int](lambda _: threads.add(threading.get_ident())) as writing:
        for number in range(5):
            writing.put(number)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_writes_are_retried_until_milvus_is_back() -> None:
    written: list[int] = []
    away = 5

    def write(number: int) -> None:
        nonlocal away
        if number == 1 and away:
            away -= 1
            raise StoreUnreachableError("Milvus went away")
        written.append(number)

    with WriterThread(write, patience=60) as writing:
        for number in range(4):
            writing.put(number)
    assert written == [0, 1, 2, 3]
    assert away == 0


def test_retries_end() -> None:
    tries = 0

    def write(_: int) -> None:
        nonlocal tries
        tries += 1
        raise StoreUnreachableError("Milvus went away")

    with pytest.raises(StoreUnreachableError), WriterThread(write, patience=0.01) as writing:
        writing.put(1)
    assert tries > 1


def test_other_errors_are_not_retried() -> None:
    tried: list[int] = []

    def write(number: int) -> None:
        tried.append(number)
        raise StoreError("Milvus could not write")

    def give() -> None:
        with WriterThread(write) as writing:
            for number in range(100):
                writing.put(number)

    with pytest.raises(StoreError, match="could not write"):
        give()
    assert tried == [0]


def test_an_error_elsewhere_ends_the_retries() -> None:
    trying = threading.Event()

    def write(_: int) -> None:
        trying.set()
        raise StoreUnreachableError("Milvus went away")

    def give() -> None:
        with WriterThread(write, patience=1e9) as writing:
            writing.put(1)
            assert trying.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give()


def test_the_queue_is_bounded() -> None:
    """A slow Milvus slows down reading and encoding, so that memory does not fill up."""
    may_write = threading.Event()
    given = 0

    def give(writing: WriterThread[int]) -> None:
        nonlocal given
        for number in range(20):
            writing.put(number)
            given += 1

    with WriterThread[int](lambda _: may_write.wait(10) and None) as writing:
        giving = threading.Thread(target=give, args=(writing,))
        giving.start()
        giving.join(0.05)
        assert given <= writer.WAITING + 1
        may_write.set()
        giving.join()
    assert given == 20


def test_an_interruption_at_the_end_leaves_no_thread_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_write = threading.Event()
    written: list[int] = []

    def write(chunk: int) -> None:
        assert may_write.wait(20)
        written.append(chunk)

    writing = WriterThread(write)
    join = writing._thread.join

    def interrupted() -> None:
        if not may_write.is_set():
            may_write.set()
            raise KeyboardInterrupt
        join()

    monkeypatch.setattr(writing._thread, "join", interrupted)
    writing.__enter__()
    writing.put(1)
    writing.put(2)
    with pytest.raises(KeyboardInterrupt):
        writing.__exit__(None)
    assert not writing._thread.is_alive()
    assert written == [1, 2]

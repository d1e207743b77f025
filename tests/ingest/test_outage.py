"""Milvus goes away and comes back: writes are retried, searches fail with a clear error."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest
from PIL import Image
from support.colours import ColourEncoder
from support.relay import Relay, relayed

import twinlens
from twinlens.ingest import sinks
from twinlens.ingest.writer import wait_for_milvus
from twinlens.search.errors import StoreError, StoreUnreachableError
from twinlens.search.milvus.pymilvus_calls import milvus_errors
from twinlens.server.problems import Problem


class Leaving:
    """A progress bar that stops Milvus for a while once some items are stored."""

    def __init__(self, relay: Relay, after: int, seconds: float) -> None:
        self._relay = relay
        self._after = after
        self._seconds = seconds
        self.back: threading.Timer | None = None

    def update(self, n: float = 1) -> bool | None:
        self._after -= 1
        if self._after == 0:
            self._relay.stop()
            self.back = threading.Timer(self._seconds, self._relay.start)
            self.back.start()
        return None


def _shades(folder: Path, count: int) -> Path:
    """Different pictures, each twice: for the second only the texts are looked up."""
    folder.mkdir()
    for number in range(count):
        for twin in ("a", "b"):
            Image.new("RGB", (8, 8), (number, 90, 200)).save(folder / f"{number:02}{twin}.png")
            (folder / f"{number:02}{twin}.txt").write_text(f"shade {number} {twin}")
    return folder


@pytest.mark.parametrize("after", [4, 16])
def test_an_ingest_retries_while_milvus_is_away(
    backend: str,
    encoder: ColourEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    """During the writing, and at the end, while missing files are cleaned up."""
    monkeypatch.setattr(sinks, "CHUNK", 4)
    folder = _shades(tmp_path / "shades", 8)
    name = f"test_{uuid.uuid4().hex[:12]}"
    with relayed(backend) as relay, twinlens.open(relay.address, name, model=encoder) as index:
        leaving = Leaving(relay, after, seconds=1.5)
        try:
            report = index.ingest(folder, progress=leaving)
            assert leaving.back is not None
            assert (report.images, report.duplicates, report.failed_count) == (8, 8, 0)
            assert (index.info().images, index.info().files) == (8, 16)
        finally:
            if leaving.back is not None:
                leaving.back.join()
            index._database.drop(name)


def test_a_search_fails_while_milvus_is_away(
    backend: str, encoder: ColourEncoder, photos: Path
) -> None:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with relayed(backend) as relay, twinlens.open(relay.address, name, model=encoder) as index:
        try:
            index.ingest(photos)
            relay.stop()
            with pytest.raises(StoreUnreachableError, match="Milvus went away while") as away:
                index.search("red")
            assert "\n" not in str(away.value)
            told = Problem.of(away.value)
            assert (told.status_code, "Retry-After" in (told.headers or {})) == (503, True)
        finally:
            relay.start()
            # The client pauses before it tries to connect once more.
            wait_for_milvus(lambda: index._database.drop(name))


def test_a_closed_index_says_that_it_is_closed(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    index.close()
    for ask in (lambda: index.search("red"), index.info, lambda: index.ingest(photos)):
        with pytest.raises(StoreError, match="this index is closed") as refused:
            ask()
        assert not isinstance(refused.value, StoreUnreachableError)


def test_errors_of_pymilvus_for_an_unreachable_server() -> None:
    from pymilvus.exceptions import ConnectError, MilvusException

    for error in (
        ConnectError(message="nobody"),
        MilvusException(2, "Fail connecting to server on h:1, illegal connection params"),
        MilvusException(message="[query] Retry timeout: 5s, StatusCode.UNAVAILABLE"),
        MilvusException(message="one line\ncontext deadline exceeded"),
        MilvusException(message="Unexpected error, message=<Cannot invoke RPC on closed channel!>"),
        ValueError("Cannot invoke RPC: Channel closed!"),
    ):
        with pytest.raises(StoreUnreachableError), milvus_errors("count rows"):
            raise error
    with pytest.raises(StoreError, match="could not count rows: no such field") as other:  # noqa: SIM117
        with milvus_errors("count rows"):
            raise MilvusException(message="no such field")
    assert not isinstance(other.value, StoreUnreachableError)

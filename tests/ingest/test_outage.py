"""Milvus goes away and comes back: writes are retried, searches fail with a clear error."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.relay import Relay, relayed

import twinlens
from twinlens.ingest import sinks
from twinlens.ingest.writer import wait_for_milvus
from twinlens.search.errors import StoreError, StoreLoadingError, StoreUnreachableError
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.generations import KINDS
from twinlens.search.milvus.pymilvus_calls import milvus_errors
from twinlens.server.app import create_app
from twinlens.server.library import Library
from twinlens.server.problems import Problem
from twinlens.server.settings import Settings


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


class Releasing:
    """A progress bar that makes the server lose a collection from memory, as a restart does."""

    def __init__(self, index: twinlens.Index, after: int) -> None:
        self._index = index
        self._after = after

    def update(self, n: float = 1) -> bool | None:
        self._after -= 1
        if self._after == 0:
            release(self._index)
        return None


def release(index: twinlens.Index) -> None:
    for kind in KINDS:
        physical = index.engine.collection.physical(kind)
        index._database.client.release_collection(physical)


@pytest.fixture
def on_server(server: str, encoder: ColourEncoder) -> Iterator[twinlens.Index]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with twinlens.open(server, name, model=encoder) as index:
        yield index
        index._database.drop(name)


def test_an_ingest_retries_while_a_collection_is_not_loaded(
    on_server: twinlens.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "CHUNK", 4)
    folder = _shades(tmp_path / "shades", 8)
    report = on_server.ingest(folder, progress=Releasing(on_server, 4))
    assert (report.images, report.duplicates, report.failed_count) == (8, 8, 0)
    info = wait_for_milvus(on_server.info)
    assert (info.images, info.files) == (8, 16)


def test_an_ingest_waits_for_a_collection_that_is_loading(
    on_server: twinlens.Index, photos: Path
) -> None:
    first = on_server.ingest(photos)
    release(on_server)
    with pytest.raises(StoreLoadingError, match="Milvus is still loading") as loading:
        on_server.search("red")
    assert "\n" not in str(loading.value)
    assert on_server.ingest(photos).unchanged == first.images
    assert on_server.search("red", limit=1)[0].path.endswith("red.png")


def test_the_server_answers_503_until_the_collection_is_loaded(
    on_server: twinlens.Index, server: str, photos: Path, tmp_path: Path
) -> None:
    on_server.ingest(photos)
    library = Library(Database(server), default=on_server.collection, model=ColourEncoder())
    try:
        app = create_app(library, Settings(media=tmp_path / "media", warm=False))
        with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
            asked = {"query": "red", "limit": 1}
            assert client.post("/v1/search", json=asked).status_code == 200
            release(on_server)
            answer = client.post("/v1/search", json=asked | {"query": "blue"})
            assert (answer.status_code, answer.json()["type"]) == (
                503,
                "/problems/store-unreachable",
            )
            assert int(answer.headers["Retry-After"]) > 0
            until = time.monotonic() + 60
            while answer.status_code == 503 and time.monotonic() < until:
                time.sleep(0.2)
                answer = client.post("/v1/search", json=asked)
            assert (answer.status_code, len(answer.json()["hits"])) == (200, 1)
    finally:
        library.close()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (101, "collection not loaded[collection=1]"),
        (103, "collection not fully loaded[collection=1]"),
        (503, "channel not available[channel=x]"),
        (65535, "fail to get shard leaders: no available shard delegator found"),
        (901, "node not found[node=3]"),
    ],
)
def test_errors_of_a_server_that_has_just_started(code: int, message: str) -> None:
    from pymilvus.exceptions import MilvusException

    with pytest.raises(StoreLoadingError, match="cannot read rows"), milvus_errors("read rows"):
        raise MilvusException(code, message)
    with pytest.raises(StoreError) as other, milvus_errors("read rows"):
        raise MilvusException(1100, "invalid parameter")
    assert not isinstance(other.value, StoreUnreachableError)

"""The library: opening collections by name, following changes, sharing models."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.serving import library_of, paint

import twinlens
from twinlens.search.errors import (
    CollectionNotFoundError,
    ModelError,
    ModelMismatchError,
    UsageError,
)
from twinlens.search.models.base import Encoder
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.server import app as app_module
from twinlens.server import library as module
from twinlens.server.app import create_app
from twinlens.server.library import Library, SharedEncoder
from twinlens.server.routes import health as health_routes
from twinlens.server.settings import Settings

SOURCE = "local-dir:somewhere"
SLOW = "local-dir:far-away"


class Named(ColourEncoder):
    """A model that can be loaded by its name."""

    def __init__(self, source: str = SOURCE) -> None:
        super().__init__()
        weights = source.rpartition(":")[2]
        self.fingerprint = Fingerprint("colours", weights, 16, 8, "{}", source=source)
        self.logit_scale = 7.0


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("library") / "photos")


@pytest.fixture
def db(tmp_path: Path, photos: Path) -> Path:
    for name in ("first", "second"):
        with twinlens.open(tmp_path / "library.db", name, model=Named()) as index:
            index.ingest(photos / "red.png", photos / "blue.png")
    return tmp_path / "library.db"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of models that were loaded."""
    names: list[str] = []

    def load(name: str, **options: object) -> Encoder:
        names.append(name)
        return Named()

    monkeypatch.setattr(module, "open_encoders", load)
    return names


@pytest.fixture
def library(db: Path) -> Iterator[Library]:
    held = library_of(db, None)
    yield held
    held.close()


def test_collections_of_one_model_share_it(library: Library, opened: list[str]) -> None:
    assert library.names() == ["first", "second"]
    assert opened == []  # nothing was asked yet
    for name in library.names():
        assert library.index(name).engine.search("red", limit=1)[0].path.endswith("red.png")
    assert opened == [SOURCE]
    assert library.index("first") is library.index("first")


def test_concurrent_callers_load_a_model_once(opened: list[str]) -> None:
    started = threading.Barrier(8)
    loads: list[int] = []

    def load() -> Encoder:
        loads.append(1)
        return Named()

    shared = SharedEncoder(Named().fingerprint, load)
    assert shared.state == "not needed yet"

    def ask(_: int) -> int:
        started.wait(10)
        return len(shared.texts(["red"]))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [1] * 8
    assert loads == [1]
    assert shared.state == "loaded"
    assert shared.logit_scale == 7.0
    assert not hasattr(shared, "sigmoid")


def test_a_failed_model_load_is_retried() -> None:
    outcomes: list[Encoder | Exception] = [ModelError("not now"), Named()]

    def load() -> Encoder:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    shared = SharedEncoder(Named().fingerprint, load)
    with pytest.raises(ModelError, match="not now"):
        shared.texts(["red"])
    assert shared.state == "not needed yet"
    assert len(shared.texts(["red"])) == 1


def test_a_model_that_has_changed_is_refused() -> None:
    shared = SharedEncoder(Named().fingerprint, lambda: ColourEncoder("others"))
    with pytest.raises(ModelMismatchError, match="has changed since the collection was made"):
        shared.texts(["red"])


def test_the_state_of_the_model(library: Library, opened: list[str]) -> None:
    library.default = "first"
    assert library.model_state() == "not needed yet"
    loading = library.warm()
    assert loading is not None
    loading.result(10)
    assert library.model_state() == "loaded"
    assert library.warm() is None
    assert opened == [SOURCE]


def test_a_custom_encoder_must_be_passed_in(tmp_path: Path, photos: Path) -> None:
    with twinlens.open(tmp_path / "own.db", model=ColourEncoder()) as index:
        index.ingest(photos / "red.png")
    held = library_of(tmp_path / "own.db", None)
    with pytest.raises(ModelError, match=r"twinlens\.serve\(model="):
        held.index().engine.search("red")
    held.close()


def test_missing_collections(library: Library) -> None:
    with pytest.raises(CollectionNotFoundError, match="the database has: first, second"):
        library.index("third")
    with pytest.raises(CollectionNotFoundError):
        library.index()
    with pytest.raises(UsageError, match="is not a valid collection name"):
        library.index("../first")


def test_a_new_collection_can_be_filled(library: Library, opened: list[str], photos: Path) -> None:
    new = library.index("third", create=True)
    assert isinstance(new, twinlens.Index)
    assert "third" not in library.names()  # it is made by the first picture
    new.ingest(photos / "green.png")
    assert library.names() == ["first", "second", "third"]
    assert library.index("third").info().images == 1


def test_the_library_follows_a_new_generation(library: Library, opened: list[str]) -> None:
    library.recheck_seconds = 0.0
    before = library.index("first")
    assert library.index("first") is before
    other = twinlens.Index(library.database, "first", model=Named())
    other.reindex(ColourEncoder(dim=24))
    after = library.index("first")
    assert after is not before
    assert after.engine.collection.fingerprint.dim == 24


def test_a_dropped_collection_is_missing(library: Library, opened: list[str]) -> None:
    index = library.index("first")
    assert isinstance(index, twinlens.Index)
    index.drop()
    library.reopen("first")
    with pytest.raises(CollectionNotFoundError, match="the database has: second"):
        library.index("first")


class Gated:
    """Loads models; the one of the first collection waits for a gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.fails: list[Exception] = []

    def __call__(self, name: str, **options: object) -> Encoder:
        if name == SLOW:
            self.entered.set()
            assert self.gate.wait(30)
        if self.fails:
            raise self.fails.pop(0)
        return Named(name)

    @contextmanager
    def opened_at_last(self) -> Iterator[None]:
        """Open the gate at the end, even if the test fails."""
        try:
            yield
        finally:
            self.gate.set()


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    loads = Gated()
    monkeypatch.setattr(module, "open_encoders", loads)
    yield loads
    loads.gate.set()


@pytest.fixture
def two(tmp_path: Path, photos: Path) -> Path:
    """Two collections; the model of the first is slow to load."""
    for name, source in (("first", SLOW), ("second", SOURCE)):
        with twinlens.open(tmp_path / "two.db", name, model=Named(source)) as index:
            index.ingest(photos / "red.png", photos / "blue.png")
    return tmp_path / "two.db"


@contextmanager
def served(db: Path, **settings: Any) -> Iterator[TestClient]:
    """A server that loads its models itself."""
    library = library_of(db, None)
    library.default = settings["collection"]
    try:
        app = create_app(library, Settings.of(media=db.with_suffix(".media"), **settings))
        with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
            yield client
    finally:
        library.close()


def test_while_a_model_loads_everything_else_answers(two: Path, gated: Gated, photos: Path) -> None:
    picture = base64.b64encode((photos / "red.png").read_bytes()).decode()
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/search", {"query": "red"}),
        ("/v1/search", {"query": {"image": {"base64": picture}}}),
        ("/v1/search/many", {"queries": ["red"]}),
        ("/v1/embed", {"texts": ["red"]}),
        ("/v1/classify", {"labels": ["red", "blue"], "images": [{"base64": picture}]}),
        ("/v1/describe", {"images": [{"base64": picture}]}),
        ("/v1/match", {"texts": ["red", "blue"], "images": [{"base64": picture}]}),
    ] * 4
    with (
        ThreadPoolExecutor(len(asked) + 2) as pool,
        served(two, collection="second", warm=False) as client,
        gated.opened_at_last(),
    ):
        waiting = [
            pool.submit(client.post, path, json=said | {"collection": "first"})
            for path, said in asked
        ]
        item = {"uri": "/photos/new.png", "captions": ["new"], "file": 0}
        written = {"items": json.dumps({"items": [item], "collection": "first"})}
        green = {"file": (photos / "green.png").read_bytes()}
        waiting.append(pool.submit(client.post, "/v1/items", data=written, files=green))
        assert gated.entered.wait(10)
        for path, said in asked:
            assert pool.submit(client.post, path, json=said).result(20).status_code == 200
        for path in ("/healthz", "/readyz", "/v1/collections"):
            assert pool.submit(client.get, path).result(20).status_code == 200
        assert not any(one.done() for one in waiting)
        gated.gate.set()
        assert [one.result(20).status_code for one in waiting] == [200] * len(waiting)


def test_a_server_is_ready_once_its_model_is_loaded(two: Path, gated: Gated) -> None:
    with served(two, collection="first") as client:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "loading")
        until(lambda: client.get("/readyz").json()["loading"] == 1)
        gated.gate.set()
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json()["model"] == "loaded"
        assert client.get("/readyz").json()["loading"] == 0


def test_a_server_reports_and_retries_a_failed_model_load(
    two: Path, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "RETRY_SECONDS", 0.2)
    gated.gate.set()
    gated.fails = [ModelError("not now"), RuntimeError("out of memory"), ModelError("not now")]
    with served(two, collection="first") as client:
        until(lambda: client.get("/readyz").json()["status"] == "no model")
        until(lambda: client.get("/readyz").json()["status"] == "ok")


def test_a_server_stops_while_its_model_is_loading(two: Path, gated: Gated) -> None:
    with served(two, collection="first"):
        assert gated.entered.wait(10)
    assert not gated.gate.is_set()


def test_a_server_is_not_ready_while_its_database_hangs(
    two: Path, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_routes, "TIMEOUT", 0.2)
    hangs = threading.Event()
    looks: list[str] = []
    with served(two, collection="second", warm=False) as client:
        library = client.app.state.context.library  # type: ignore[attr-defined]

        def exists(name: str) -> bool:
            looks.append(name)
            return hangs.wait(30)

        monkeypatch.setattr(library.database, "exists", exists)
        for _ in range(12):
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (503, "no database")
            assert client.get("/healthz").status_code == 200
        assert looks == ["second"], "the question is asked once, however often it is waited for"
        hangs.set()
        until(lambda: client.get("/readyz").status_code == 200)


def test_a_hanging_collection_does_not_block_others(
    library: Library, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, entered = threading.Event(), threading.Event()
    there = library.database.exists

    def exists(name: str) -> bool:
        if name == "first":
            entered.set()
            assert hangs.wait(30)
        return there(name)

    before = library.index("first")
    library.recheck_seconds = 0.0
    monkeypatch.setattr(library.database, "exists", exists)
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(library.index, "first")
        assert entered.wait(10)
        assert library.index("second").collection == "second"
        assert library.index("first") is before, "what it was, until it is known to be another"
        hangs.set()
        assert looking.result(10) is before
    assert not library._name_locks


def test_the_least_recently_used_model_is_released(db: Path, opened: list[str]) -> None:
    library = library_of(db, None, max_models=1)
    before = library.index("first")
    library.encoder(Named("local-dir:another").fingerprint)
    assert library.index("first") is not before
    library.close()


def until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)

"""A server's collections: opened by name, anew when they change, with models that they share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ColourEncoder
from serving import library_of, paint

import twinlens
from search.encoder import Encoder
from search.errors import (
    CollectionNotFoundError,
    ModelError,
    ModelMismatchError,
    UsageError,
)
from search.models import Fingerprint
from search.server import library as module
from search.server.library import Library, SharedEncoder

SOURCE = "local-dir:somewhere"


class Named(ColourEncoder):
    """A model that a name brings back."""

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = Fingerprint("colours", "none", 16, 8, "{}", source=SOURCE)
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


def test_a_model_is_loaded_once_however_many_ask(opened: list[str]) -> None:
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


def test_a_model_that_cannot_be_loaded_is_tried_again() -> None:
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


def test_a_model_that_is_another_one_now_is_refused() -> None:
    shared = SharedEncoder(Named().fingerprint, lambda: ColourEncoder("others"))
    with pytest.raises(ModelMismatchError, match="another model"):
        shared.texts(["red"])


def test_the_model_says_how_far_it_is(library: Library, opened: list[str]) -> None:
    library.default = "first"
    assert library.model_state() == "not needed yet"
    library.warm()
    assert library.model_state() == "loaded"
    assert opened == [SOURCE]


def test_an_encoder_of_ones_own_must_be_brought(tmp_path: Path, photos: Path) -> None:
    with twinlens.open(tmp_path / "own.db", model=ColourEncoder()) as index:
        index.ingest(photos / "red.png")
    held = library_of(tmp_path / "own.db", None)
    with pytest.raises(ModelError, match=r"twinlens\.serve\(model="):
        held.index().engine.search("red")
    held.close()


def test_what_is_not_there(library: Library) -> None:
    with pytest.raises(CollectionNotFoundError, match="there are: first, second"):
        library.index("third")
    with pytest.raises(CollectionNotFoundError):
        library.index()
    with pytest.raises(UsageError, match="cannot name"):
        library.index("../first")


def test_a_new_collection_can_be_filled(library: Library, opened: list[str], photos: Path) -> None:
    new = library.index("third", create=True)
    assert isinstance(new, twinlens.Index)
    assert "third" not in library.names()  # it is made by the first picture
    new.ingest(photos / "green.png")
    assert library.names() == ["first", "second", "third"]
    assert library.index("third").info().images == 1


def test_another_generation_is_served_once_it_is(
    library: Library, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH", 0.0)
    before = library.index("first")
    assert library.index("first") is before
    other = twinlens.Index(library.store, "first", model=Named())
    other.reindex(ColourEncoder(dim=24))
    after = library.index("first")
    assert after is not before
    assert after.engine.corpus.fingerprint.dim == 24


def test_what_was_dropped_is_not_there(
    library: Library, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = library.index("first")
    assert isinstance(index, twinlens.Index)
    index.drop()
    library.forget("first")
    with pytest.raises(CollectionNotFoundError, match="there are: second"):
        library.index("first")

"""An index stays open while others drop, recreate and reindex its collection."""

from __future__ import annotations

import logging
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.colours import ColourEncoder

import twinlens
import twinlens.search.models.collection_model
from twinlens.search.errors import ModelError, ModelMismatchError, StoreError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.models import load
from twinlens.search.models.collection_model import CollectionModel


class OtherEncoder(ColourEncoder):
    """Another model of the same dimension."""

    def __init__(self) -> None:
        super().__init__("other colours")


@pytest.fixture
def place(backend: str) -> Iterator[tuple[str, str]]:
    """A database and a name in it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield backend, name
    with Database(backend) as database:
        database.drop(name)


@pytest.fixture(autouse=True)
def wary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search checks that the collection still exists."""
    monkeypatch.setattr("twinlens.search.query.session.CHECK_SECONDS", 0.0)


@pytest.fixture
def one(photos: Path, tmp_path: Path) -> Path:
    """A folder with a single picture."""
    (tmp_path / "one").mkdir()
    return (photos / "red.png").rename(tmp_path / "one" / "red.png").parent


def _made_again(place: tuple[str, str], encoder: ColourEncoder, pictures: Path) -> None:
    """Recreate the collection, as another process would: same generation number and names."""
    with twinlens.open(*place) as other:
        other.drop()
    with twinlens.open(*place, model=encoder) as other:
        other.ingest(pictures)


def test_a_collection_recreated_with_another_model_is_not_written_with_the_old_one(
    place: tuple[str, str], encoder: ColourEncoder, one: Path, photos: Path, tmp_path: Path
) -> None:
    other = OtherEncoder()
    with twinlens.open(*place, model=encoder) as index:
        index.ingest(one)
        index.search("red")
        _made_again(place, other, one)
        for act in (
            lambda: index.ingest(photos),
            lambda: index.ingest(photos),  # rejected every time
            lambda: index.search("red"),
            lambda: index.delete(one),
            lambda: index.export(tmp_path / "export"),
            index.info,
        ):
            with pytest.raises(ModelMismatchError, match="holds embeddings of other colours"):
                act()
    assert other.images_seen == 1
    with twinlens.open(*place, model=other) as index:
        assert index.info().images == 1


def test_a_recreated_collection_is_searched_with_its_new_model(
    tmp_path: Path, encoder: ColourEncoder, one: Path
) -> None:
    """With model "auto"; the index of a tenant switches, too."""
    place = (str(tmp_path / "test.db"), "photos")
    other = OtherEncoder()
    with twinlens.open(*place, model=encoder, tenant="alice") as index:
        index.ingest(one)
    with twinlens.open(*place) as index:
        index._model.register(encoder)
        index._model.register(other)
        alice = index.for_tenant("alice")
        alice.search("red")
        asked = encoder.texts_seen
        assert asked
        with twinlens.open(*place) as another:
            another.drop()
        with twinlens.open(*place, model=other, tenant="alice") as another:
            another.ingest(one)
            another.ingest(one)
        assert alice.search("red")[0].path.endswith("red.png")
        assert (encoder.texts_seen, other.texts_seen > 0) == (asked, True)


def test_existence_is_checked_once_for_a_series_of_searches(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    looked = []
    still_exists = Collection.still_exists
    monkeypatch.setattr(
        Collection, "still_exists", lambda self: looked.append(1) or still_exists(self)
    )
    monkeypatch.setattr("twinlens.search.query.session.CHECK_SECONDS", 60.0)
    index.search("red")
    looked.clear()
    for colour in ("red", "green", "blue"):
        assert index.search(colour)[0].captions == (f"a {colour} picture",)
    assert not looked
    monkeypatch.setattr("twinlens.search.query.session.CHECK_SECONDS", 0.0)
    index.search("red")
    assert looked


def test_a_writer_notices_a_recreated_collection(
    index: twinlens.Index, photos: Path, one: Path
) -> None:
    index.ingest(one)
    collection = index._require_collection()
    collection.check_open()
    index.drop()
    with pytest.raises(StoreError, match="was dropped or created again while this ran"):
        collection.check_open()
    index.ingest(one)
    with pytest.raises(StoreError, match="was dropped or created again while this ran"):
        collection.check_open()
    assert not collection.still_exists()
    assert index._require_collection().still_exists()


def test_a_collection_without_a_token_opens(
    tmp_path: Path, encoder: ColourEncoder, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "old.db"
    monkeypatch.setattr("twinlens.search.milvus.database.secrets.token_hex", lambda _: "")
    with twinlens.open(db, model=encoder) as index:
        index.ingest(photos)
        assert "twinlens.token" not in str(
            index._database.client.describe_collection("twinlens_images")
        )
    monkeypatch.undo()
    with twinlens.open(db, model=encoder) as index:
        assert index.ingest(photos).unchanged == 8
        assert index.search("red")[0].captions == ("a red picture",)
        assert index.reindex(OtherEncoder()).generation == 2
        assert index.rollback().token == ""
        assert index.search("red")[0].captions == ("a red picture",)


def test_an_index_switches_to_the_current_generation_when_its_own_is_dropped(
    place: tuple[str, str], encoder: ColourEncoder, one: Path
) -> None:
    """After another process has reindexed and dropped the old generation."""
    other = OtherEncoder()
    with twinlens.open(*place, model=encoder) as index:
        index.ingest(one)
    with twinlens.open(*place) as index, twinlens.open(*place, model=encoder) as strict:
        index._model.register(encoder)
        index._model.register(other)
        held = index._require_collection()
        assert index.search("red") == strict.search("red")
        with twinlens.open(*place) as another:
            another._model.register(encoder)
            assert another.reindex(other).generation == 2
            assert index.search("red")[0].path.endswith("red.png")
            assert index._require_collection() is held, "reading stays with what it held"
            assert another.drop_old() == [1]
        asked = (encoder.texts_seen, other.texts_seen)
        assert index.search("green or red")[0].path.endswith("red.png")
        assert index.search_many(["red or blue"])[0][0].path.endswith("red.png")
        assert index.info().generation == 2
        assert encoder.texts_seen == asked[0]
        assert other.texts_seen > asked[1]
        for ask in (lambda: strict.search("red"), strict.info):
            with pytest.raises(ModelMismatchError, match="holds embeddings of other colours"):
                ask()


def test_a_search_is_retried_when_the_collection_is_replaced(
    tmp_path: Path, encoder: ColourEncoder, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "test.db"
    search, gone = Collection.search, [True]

    def once_gone(self: Collection, *args: object, **options: object) -> object:
        if gone.pop() if gone else False:
            with twinlens.open(db, model=encoder) as other:
                other.drop()
                other.ingest(one)
        return search(self, *args, **options)  # type: ignore[arg-type]

    with twinlens.open(db, model=encoder) as index:
        index.ingest(one)
        held = index._require_collection()
        monkeypatch.setattr(Collection, "search", once_gone)
        assert index.search("red")[0].path.endswith("red.png")
        assert not gone
        assert index._require_collection() is not held


# ---- threads


def _together(count: int, act: Callable[[], object]) -> list[BaseException]:
    """Call in threads that start together; return what they raised."""
    begin, raised = threading.Barrier(count), []

    def run() -> None:
        begin.wait()
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - checked by the test
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_concurrent_first_searches_load_the_model_once(
    tmp_path: Path, tiny_model: Path, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    real = twinlens.search.models.collection_model.open_query_encoder

    def slowly(*args: object, **options: object) -> object:
        loads.append(args)
        time.sleep(0.05)
        return real(*args, **options)  # type: ignore[arg-type]

    with twinlens.open(tmp_path / "test.db", model=f"local-dir:{tiny_model}") as index:
        index.ingest(one)
    monkeypatch.setattr(twinlens.search.models.collection_model, "open_query_encoder", slowly)
    with twinlens.open(tmp_path / "test.db") as index:
        assert _together(8, lambda: index.search("red")) == []
        assert len(loads) == 1


def test_loading_models_concurrently_leaves_the_process_unchanged(tiny_model: Path) -> None:
    from huggingface_hub import constants

    before = (logging.root.manager.disable, constants.HF_HUB_OFFLINE, list(warnings.filters))
    raised = _together(4, lambda: load.open_encoder(f"local-dir:{tiny_model}", device="cpu"))
    raised += _together(4, lambda: load.open_encoder("local-dir:/nowhere", device="cpu"))
    assert [type(error) for error in raised] == [ModelError] * 4
    after = (logging.root.manager.disable, constants.HF_HUB_OFFLINE, list(warnings.filters))
    assert after == before


def test_one_model_loads_at_a_time(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = [0], [0]
    real = load.load_openclip

    def counted(*args: object) -> object:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        try:
            return real(*args)  # type: ignore[arg-type]
        finally:
            inside[0] -= 1

    monkeypatch.setattr(load, "load_openclip", counted)
    assert (
        _together(3, lambda: CollectionModel("a", f"local-dir:{tiny_model}", device="cpu").load())
        == []
    )
    assert most == [1]


def test_tenants_are_opened_from_many_threads(
    tmp_path: Path, encoder: ColourEncoder, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.index.MAX_TENANTS", 2)
    with twinlens.open(tmp_path / "test.db", model=encoder, tenant="t0") as index:
        index.ingest(one)
    with twinlens.open(tmp_path / "test.db", model=encoder) as index:
        names = [f"t{number}" for number in range(6)]

        def ask() -> None:
            for name in names * 3:
                assert index.for_tenant(name).tenant == name

        assert _together(6, ask) == []
        assert len(index._tenants) == 2


def test_an_engine_made_during_an_ingest_is_dropped(index: twinlens.Index, photos: Path) -> None:
    """Its calibration was measured on a half-filled collection."""
    index.ingest(photos)
    taken = []

    class Watching:
        def update(self, n: float = 1) -> bool | None:
            taken.append(index.engine)
            return None

    Image.new("RGB", (8, 8), (1, 2, 3)).save(photos / "new.png")
    index.ingest(photos, progress=Watching())
    assert taken
    assert index.engine not in taken


def test_failures_are_counted_without_reading_them(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (photos / f"broken{number}.png").write_bytes(b"no picture")
    assert index.ingest(photos).failed_count == 3
    monkeypatch.setattr(Collection, "scan", None)
    info = index.info()
    assert (info.failed, info.files, info.images) == (3, 11, 8)

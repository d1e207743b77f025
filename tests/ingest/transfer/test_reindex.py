"""Another model: built beside, served when complete, rolled back, gone on with."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.errors import (
    ModelError,
    ModelMismatchError,
    StoreError,
    UnsupportedError,
    UsageError,
)
from twinlens.search.models.base import Pixels, Rows


@pytest.fixture
def wider() -> ColourEncoder:
    return ColourEncoder("wider", dim=24)


class Interrupted(ColourEncoder):
    """Goes so far and no further."""

    left = 4

    def images(self, pixels: Pixels) -> Rows:
        self.left -= len(pixels)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().images(pixels)


def found(index: twinlens.Index) -> list[tuple[str, str]]:
    """What red finds, both sides, and what is kept of it."""
    (picture,) = index.search("red", limit=1)
    (text,) = index.search(image=picture.path, target="texts", limit=1)
    return [(picture.path, picture.captions[0]), (text.path, text.text)]


def test_another_model(either: twinlens.Index, photos: Path, wider: ColourEncoder) -> None:
    """On Milvus Lite and on a server: built, served, rolled back, forward again, tidied."""
    index = either
    index.ingest(photos)
    before, counted = found(index), index.info()
    report = index.reindex(wider)
    assert (report.images, report.texts, report.failed) == (8, 8, ())
    assert (report.switched, report.generation) == (True, 2)
    after = index.info()
    assert (after.fingerprint, after.generation) == (wider.fingerprint, 2)
    assert (after.images, after.texts, after.files) == (8, 8, 8)
    assert found(index) == before
    assert index.ingest(photos).unchanged == 8
    assert [one.served for one in index.generations()] == [False, True]
    with pytest.raises(ModelMismatchError):
        twinlens.Index(index._database, index.collection, model=ColourEncoder())

    assert index.rollback().number == 1
    # A server goes on building indexes meanwhile.
    assert replace(index.info(), unindexed=0) == replace(counted, unindexed=0)
    assert found(index) == before
    seen = wider.images_seen
    assert index.reindex(wider).generation == 2
    assert wider.images_seen == seen, "what was there already is not encoded again"

    assert index.drop_old() == [1]
    with pytest.raises(UsageError, match="no earlier generation"):
        index.rollback()
    assert index.ingest(photos).unchanged == 8
    assert found(index) == before
    left = {name for name in index._database.client.list_collections() if index.collection in name}
    assert left == {f"{index.collection}_{kind}_g2" for kind in ("files", "images", "texts")}


def test_another_index(server: str, photos: Path, encoder: ColourEncoder, tmp_path: Path) -> None:
    """HNSW to IVF_FLAT on a server: vectors are copied as they are, no model is asked."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with twinlens.open(server, name, model=encoder) as index:
        try:
            index.ingest(photos, index="HNSW")
            assert (index.info().index, _built(index)) == ("HNSW", "HNSW")
            before, rows = found(index), vectors_of(index)
            encoder.images_seen = encoder.texts_seen = 0
            for picture in photos.glob("*.png"):
                picture.rename(tmp_path / picture.name)  # nothing is left to be read again
            report = index.reindex(index="IVF_FLAT")
            assert (report.images, report.texts, report.failed_count) == (8, 8, 0)
            assert (report.switched, report.generation) == (True, 2)
            assert (encoder.images_seen, encoder.texts_seen) == (0, 0)
            assert (index.info().index, _built(index)) == ("IVF_FLAT", "IVF_FLAT")
            assert vectors_of(index) == rows
            for picture in tmp_path.glob("*.png"):
                picture.rename(photos / picture.name)
            assert found(index) == before
            assert index.ingest(photos).unchanged == 8
        finally:
            index._database.drop(name)


def test_milvus_lite_has_no_other_index(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    rows = vectors_of(index)
    with pytest.raises(UnsupportedError, match=r"Milvus Lite .* has no index HNSW: it has FLAT"):
        index.reindex(index="HNSW")
    with pytest.raises(UnsupportedError, match="as float32 only"):
        index.reindex(vectors="float16")
    assert [one.number for one in index.generations()] == [1], "nothing was begun"
    assert index.reindex(index="FLAT").generation == 1, "it is FLAT: nothing to do"
    assert vectors_of(index) == rows


def vectors_of(index: twinlens.Index) -> dict[str, list[float]]:
    """Every stored vector of pictures and texts, by id."""
    return {
        row["id"]: [float(x) for x in row["vector"]]
        for kind in ("images", "texts")
        for rows in index.engine.collection.scan(kind, ["id", "vector"])
        for row in rows
    }


def _built(index: twinlens.Index) -> str:
    """The index that Milvus says it has built, or is building."""
    collection = index.engine.collection
    physical = collection.generation.physical(collection.name, "images")
    return str(collection.client.describe_index(physical, "vector")["index_type"])


def test_an_interrupted_one_is_gone_on_with(
    index: twinlens.Index, photos: Path, wider: ColourEncoder
) -> None:
    index.ingest(photos)
    with pytest.raises(KeyboardInterrupt):
        index.reindex(Interrupted("wider", dim=24))
    assert index.info().generation == 1
    assert found(index)[0][0] == str(photos / "red.png")
    assert index.ingest(photos).unchanged == 8, "the old one still takes pictures"
    assert [one.complete for one in index.generations()] == [True, False]
    with pytest.raises(UsageError, match="no earlier"):
        index.rollback()
    report = index.reindex(wider)
    assert (report.generation, report.images) == (2, 4)
    assert wider.images_seen == 4
    assert index.info().images == 8


@pytest.mark.parametrize("steps", range(3))
def test_a_switch_that_broke_off(
    index: twinlens.Index,
    photos: Path,
    wider: ColourEncoder,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After each alias: either generation is whole, and the names agree again."""
    index.ingest(photos)
    client, left = index._database.client, steps
    alter = client.alter_alias

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return alter(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(client, "alter_alias", counted)
        with pytest.raises(KeyboardInterrupt):
            index.reindex(wider)
    again = twinlens.Index(index._database, index.collection, model=ColourEncoder())
    assert found(again)[0][0] == str(photos / "red.png")
    names = [
        client.describe_collection(f"{index.collection}_{kind}")["collection_name"][-2:]
        for kind in ("images", "texts", "files")
    ]
    assert names == ["g1", "g1", "g1"]
    assert again.ingest(photos).unchanged == 8
    assert again.reindex(wider).switched
    assert again.info().generation == 2


def test_what_changes_meanwhile_is_carried_over(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path]
) -> None:
    """Searched, ingested, renamed and deleted while the next generation is being made."""
    index.ingest(photos)

    class Busy(ColourEncoder):
        began = False

        def texts(self, texts: Sequence[str]) -> Rows:
            if not self.began:
                self.began = True
                paint("red", "photos/new.png", (50, 50))
                (photos / "green.png").rename(photos / "grass.png")
                (photos / "blue.png").unlink()
                (photos / "black.txt").write_text("a dark black picture")
                index.ingest(photos, prune=True)
                assert index.info().generation == 1
                assert len(index.search("red", limit=100)) == 8
            return super().texts(texts)

    report = index.reindex(Busy("busy", dim=24))
    assert report.switched
    assert index.info().generation == 2
    paths = {Path(hit.path).name for hit in index.search("red", limit=100)}
    names = {f"{colour}.png" for colour in COLOURS} - {"green.png", "blue.png"}
    assert paths == names | {"new.png", "grass.png"}
    texts = {hit.text for hit in index.search("red", target="texts", limit=100)}
    assert "a dark black picture" in texts
    assert not texts & {"a black picture", "a blue picture"}
    assert index.ingest(photos).unchanged == 8


def test_a_frozen_generation_takes_nothing(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path]
) -> None:
    index.ingest(photos)
    index._require_collection().set_state(frozen=True)
    paint("red", "photos/new.png", (50, 50))
    with pytest.raises(StoreError, match="is being reindexed"):
        index.ingest(photos)
    assert index.info().images == 8
    assert index.drop_old() == []
    assert index.ingest(photos).images == 1


def test_pictures_that_cannot_be_read_again(
    index: twinlens.Index, photos: Path, wider: ColourEncoder
) -> None:
    index.ingest(photos)
    (photos / "red.png").unlink()
    Image.new("RGB", (9, 9), "pink").save(photos / "blue.png")
    (photos / "green.png").write_bytes(b"")
    report = index.reindex(wider)
    assert not report.switched
    reasons = {Path(failure.uri).name: failure.reason for failure in report.failed}
    assert set(reasons) == {"red.png", "blue.png", "green.png"}
    assert "no longer exists" in reasons["red.png"]
    assert "ingest it first" in reasons["blue.png"]
    assert index.info().generation == 1
    assert len(index.search("red", limit=100)) == 8

    report = index.reindex(wider, drop_unreadable=True)
    assert (report.switched, report.failed_count, report.images) == (True, 3, 0)
    held = index.info()
    assert (held.generation, held.images, held.texts, held.files) == (2, 5, 5, 5)
    outcome = index.ingest(photos)
    assert (outcome.images, outcome.unchanged, outcome.failed_count) == (1, 5, 1)


def test_pictures_in_an_archive_are_read_again(
    index: twinlens.Index, photos: Path, tmp_path: Path, wider: ColourEncoder
) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for file in sorted(photos.iterdir()):
            tar.add(file, file.name)
    index.ingest(tmp_path / "shard.tar")
    report = index.reindex(wider)
    assert (report.switched, report.images, report.texts) == (True, 8, 8)
    assert index.search("red", limit=1)[0].path == f"{tmp_path}/shard.tar!red.png"


def test_the_same_again_is_nothing_to_do(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    report = index.reindex(ColourEncoder())
    assert (report.switched, report.generation, report.images) == (True, 1, 0)
    assert len(index.generations()) == 1


def test_an_unknown_model_changes_nothing(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    with pytest.raises(ModelError):
        index.reindex("no-such-model")
    with pytest.raises(UsageError, match="unknown index type"):
        index.reindex(index="nonsense")
    assert len(index.generations()) == 1

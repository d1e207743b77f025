"""The public API: its names, and what ``Index`` does."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support import ROOT
from support.colours import COLOURS, ColourEncoder

import twinlens


def test_every_public_name_exists() -> None:
    assert [name for name in twinlens.__all__ if not hasattr(twinlens, name)] == []
    assert len(set(twinlens.__all__)) == len(twinlens.__all__)


def test_all_lists_every_public_name() -> None:
    ours = {
        name
        for name, value in vars(twinlens).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").partition(".")[0] in ("twinlens", "search", "ingest")
    }
    assert ours | twinlens._LAZY.keys() | {"__version__"} == set(twinlens.__all__)


def test_types_in_signatures_are_public() -> None:
    """``open`` takes an encoder, which has a fingerprint; ``item`` gives what is stored."""
    from twinlens.search.models.base import Encoder
    from twinlens.search.models.fingerprint import Fingerprint
    from twinlens.search.query.stored import StoredItem

    assert (twinlens.Encoder, twinlens.Fingerprint) == (Encoder, Fingerprint)
    assert twinlens.StoredItem is StoredItem


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'twinlens' has no attribute 'serch'"):
        _ = twinlens.serch  # type: ignore[attr-defined]


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == twinlens.__version__


@pytest.mark.parametrize("name", ["CollectionInfo", "Hit", "IngestReport", "Image", "Text"])
def test_results_cannot_be_changed(name: str) -> None:
    cls = getattr(twinlens, name)
    assert dataclasses.is_dataclass(cls)
    one = object.__new__(cls)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, dataclasses.fields(cls)[0].name, "changed")


def test_every_public_name_has_a_docstring() -> None:
    methods = inspect.getmembers(twinlens.Index, inspect.isfunction)
    undocumented = [name for name, value in methods if name[0] != "_" and not value.__doc__]
    undocumented += [
        n for n in twinlens.__all__ if n[0] != "_" and not getattr(twinlens, n).__doc__
    ]
    assert undocumented == []


def test_importing_twinlens_imports_nothing_heavy() -> None:
    heavy = ["torch", "open_clip", "pymilvus", "PIL", "numpy", "pyarrow"]
    code = f"import sys, twinlens; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_all_four_directions(index: twinlens.Index, photos: Path) -> None:
    report = index.ingest(photos)
    assert (report.images, report.texts) == (len(COLOURS), len(COLOURS))
    for colour in COLOURS:
        picture = photos / f"{colour}.png"
        for query in ({"query": colour}, {"image": picture}):
            assert index.search(**query, limit=1)[0].path == str(picture)
            assert index.search(**query, limit=1, target="texts")[0].text == f"a {colour} picture"


def test_embedding_uses_the_model_of_the_collection(index: twinlens.Index, photos: Path) -> None:
    with pytest.raises(twinlens.CollectionNotFoundError):
        index.embed(["red"])
    index.ingest(photos)
    texts = [f"{colour} {number}" for colour in COLOURS for number in range(10)]
    np.testing.assert_allclose(index.embed(texts), ColourEncoder().texts(texts), atol=1e-6)
    rows = index.embed(images=[photos / "red.png", (photos / "blue.png").read_bytes()])
    assert (rows.shape, rows.dtype) == ((2, 16), np.float32)
    for row, colour in zip(rows, ("red", "blue"), strict=True):
        best = index.search(twinlens.Vector(row), limit=1)[0]
        assert best.path == str(photos / f"{colour}.png")
        assert best.score == pytest.approx(1)
    for wrong in ({}, {"texts": []}, {"texts": ["red"], "images": [photos / "red.png"]}):
        with pytest.raises(twinlens.UsageError, match="a list of texts or a list of pictures"):
            index.embed(**wrong)
    with pytest.raises(twinlens.ImageError):
        index.embed(images=[b"no picture"])


def test_a_collection_can_be_reopened(photos: Path, tmp_path: Path) -> None:
    db = tmp_path / "new" / "folder" / "photos.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
        before = index.info()
    with twinlens.open(db, model=ColourEncoder()) as index:
        assert index.info() == before
        assert index.search("red", limit=1)[0].captions == ("a red picture",)
    assert before.images == before.texts == before.files == len(COLOURS)


def test_info_counts_rows(index: twinlens.Index, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"no picture")
    index.ingest(photos)
    info = index.info()
    assert (info.name, info.images, info.texts) == ("twinlens", 8, 8)
    assert (info.files, info.failed) == (9, 1)
    assert info.fingerprint == ColourEncoder().fingerprint


def test_an_exception_closes_the_index(tmp_path: Path, photos: Path) -> None:
    db = tmp_path / "test.db"

    def ingest_and_fail() -> None:
        with twinlens.open(db, model=ColourEncoder()) as index:
            index.ingest(photos)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        ingest_and_fail()
    code = f"import twinlens\nwith twinlens.open({str(db)!r}) as index: print(index.info().images)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == "8\n"


def test_closing_twice_is_no_error(tmp_path: Path) -> None:
    index = twinlens.open(tmp_path / "test.db", model=ColourEncoder())
    index.close()
    index.close()
    with pytest.raises(twinlens.StoreError, match="this index is closed: open it again"):
        index.info()


def test_a_database_can_be_opened_twice_in_one_process(tmp_path: Path, photos: Path) -> None:
    db = tmp_path / "test.db"
    with twinlens.open(db, model=ColourEncoder()) as one:
        one.ingest(photos)
        with twinlens.open(db, model=ColourEncoder()) as two:
            assert two.info().images == 8
        assert one.search("red", limit=1)[0].path == str(photos / "red.png")


def test_threads_may_begin_to_fill_a_collection_at_once(
    index: twinlens.Index, paint: Callable[..., Path]
) -> None:
    folders = [paint(colour, f"{colour}/one.png").parent for colour in list(COLOURS)[:4]]
    with ThreadPoolExecutor(len(folders)) as pool:
        reports = list(pool.map(index.ingest, folders))
    assert [report.images for report in reports] == [1] * len(folders)
    assert index.info().images == len(folders)


def test_another_model_is_refused(tmp_path: Path, photos: Path) -> None:
    db = tmp_path / "test.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    for other in (ColourEncoder("shapes"), "ViT-B-32:openai"):
        with pytest.raises(twinlens.ModelMismatchError) as refused:
            twinlens.open(db, model=other)
        said = str(refused.value)
        assert said.startswith("the collection 'twinlens' holds embeddings of colours:none (")
        assert "leave the model out, or use another collection" in said
    # The refused call left nothing open.
    with twinlens.open(db, model=ColourEncoder()) as index:
        assert index.info().images == 8


def test_a_custom_encoder_must_be_given_again(tmp_path: Path, photos: Path) -> None:
    db = tmp_path / "test.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with twinlens.open(db) as index:
        assert index.info().images == 8
        with pytest.raises(
            twinlens.ModelError, match=r"colours:none.*twinlens\.open\(model=\.\.\.\)"
        ):
            index.search("red")


def test_two_collections_in_one_database(tmp_path: Path, paint: Callable[..., Path]) -> None:
    db = tmp_path / "test.db"
    with (
        twinlens.open(db, "one", model=ColourEncoder()) as one,
        twinlens.open(db, "two", model=ColourEncoder("shapes")) as two,
    ):
        one.ingest(paint("red"))
        two.ingest(paint("blue"))
        assert [hit.path for hit in one.search("blue")] == [str(paint("red"))]
        one.drop()
        assert two.info().images == 1


def test_there_is_no_collection_before_the_first_ingest(
    index: twinlens.Index, photos: Path
) -> None:
    for ask in (index.info, index.drop, lambda: index.search("red"), lambda: index.delete(photos)):
        with pytest.raises(twinlens.CollectionNotFoundError, match="it is empty, so ingest first"):
            ask()


def test_a_missing_collection_lists_the_existing_ones(tmp_path: Path, photos: Path) -> None:
    db = tmp_path / "test.db"
    with twinlens.open(db, "holidays", model=ColourEncoder()) as index:
        index.ingest(photos)
    with (
        twinlens.open(db, "hollidays") as index,
        pytest.raises(twinlens.CollectionNotFoundError, match="it holds: holidays"),
    ):
        index.search("red")


def test_a_dropped_collection_can_be_created_again(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    index.drop()
    with pytest.raises(twinlens.CollectionNotFoundError):
        index.info()
    assert index.ingest(photos).images == 8


def test_an_empty_ingest_creates_nothing(index: twinlens.Index, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(twinlens.SourceError, match=f"no pictures in {empty}: looked for .*png"):
        index.ingest(empty)
    with pytest.raises(twinlens.CollectionNotFoundError):
        index.info()


@pytest.mark.parametrize("name", ["", "1st", "my-photos", "a b", "ünï", "a" * 300, "a;b", "a\n"])
def test_a_name_that_milvus_rejects_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(twinlens.UsageError, match="is not a valid collection name: use letters"):
        twinlens.open(tmp_path / "test.db", name)
    assert not (tmp_path / "test.db").exists()


def test_the_default_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINLENS_DB", str(tmp_path / "mine.db"))
    assert twinlens.default_db() == str(tmp_path / "mine.db")
    with twinlens.open(model=ColourEncoder()) as index:
        assert index.backend.startswith("Milvus Lite 3.")
    assert (tmp_path / "mine.db").is_dir()
    monkeypatch.setenv("TWINLENS_DB", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Path(twinlens.default_db()).name == "twinlens.db"
    assert not twinlens.default_db().startswith(str(tmp_path / "mine"))


def test_the_home_folder_is_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photos: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with twinlens.open("~/test.db", model=ColourEncoder()) as index:
        index.ingest("~/photos")
        assert index.delete("~/photos/red.png") == 1
        assert index.info().images == 7
        assert index.search(image="~/photos/blue.png", limit=1)[0].score == pytest.approx(1)
    assert (tmp_path / "test.db").is_dir()


def test_a_deleted_picture_is_not_found(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    assert index.delete(photos / "red.png") == 1
    assert "red.png" not in {Path(hit.path).name for hit in index.search("red")}
    assert "a red picture" not in {hit.text for hit in index.search("red", target="texts")}
    assert (photos / "red.png").exists()


def test_the_encoder_runs_only_when_needed(index: twinlens.Index, photos: Path) -> None:
    encoder = index._load_encoder()
    assert isinstance(encoder, ColourEncoder)
    index.ingest(photos)
    assert (encoder.images_seen, encoder.texts_seen) == (8, 8)
    index.search("red")
    seen = (encoder.images_seen, encoder.texts_seen)
    index.search("blue")
    assert (encoder.images_seen, encoder.texts_seen) == (seen[0], seen[1] + 1)
    index.search(np.ones(16))
    assert (encoder.images_seen, encoder.texts_seen) == (seen[0], seen[1] + 1)

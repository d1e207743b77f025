"""Reconciling stored pictures with the ledger, also after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.rows import comparable

import twinlens
from twinlens.ingest.ledger import Ledger
from twinlens.ingest.reconcile import delete_images, reconcile, shown_captions
from twinlens.ingest.sample import relative_path
from twinlens.search.milvus.collection import Collection

Paint = Callable[..., Path]


@pytest.fixture
def collection(index: twinlens.Index, paint: Paint) -> Collection:
    """One picture under two paths, each with a caption."""
    for name in ("a", "b"):
        paint("red", f"photos/{name}.png").with_suffix(".txt").write_text(f"caption {name}")
    index.ingest(paint("red", "photos/a.png").parent)
    return index.engine.collection


def image(collection: Collection) -> dict[str, object]:
    (row,) = collection.query("images", 'id != ""', ["*"], 10)
    row.pop("sparse", None)  # Milvus makes it of the words, nobody else may write it
    return comparable(row)


def test_nothing_to_do_changes_nothing(collection: Collection) -> None:
    before = image(collection)
    assert reconcile(collection, [str(before["id"])]).deleted == frozenset()
    assert reconcile(collection, []).deleted == reconcile(collection, [""]).deleted == frozenset()
    assert image(collection) == before


def test_paths_and_captions_are_repaired_from_the_ledger(collection: Collection) -> None:
    right = image(collection)
    collection.upsert("images", [right | {"paths": ["/wrong"], "captions": [], "path": "/wrong"}])
    reconcile(collection, [str(right["id"])])
    assert image(collection) == right


def test_removing_a_path_removes_its_caption(collection: Collection, tmp_path: Path) -> None:
    row = image(collection)
    gone = str(tmp_path / "photos" / "a.png")
    assert reconcile(collection, [str(row["id"])], removed=[gone]).deleted == frozenset()
    assert image(collection)["captions"] == ["caption b"]
    assert image(collection)["path"] == str(tmp_path / "photos" / "b.png")
    (text,) = collection.query("texts", 'id != ""', ["text", "path"], 10)
    assert (text["text"], text["path"]) == ("caption b", image(collection)["path"])


def test_a_picture_without_a_path_is_deleted(collection: Collection, tmp_path: Path) -> None:
    row = image(collection)
    gone = [str(tmp_path / "photos" / f"{name}.png") for name in "ab"]
    assert reconcile(collection, [str(row["id"])], removed=gone).deleted == {row["id"]}
    assert collection.count("images") == collection.count("texts") == 0
    # The caller deletes the ledger rows.
    assert collection.count("files") == 2


@pytest.mark.parametrize("status", ["failed", "gone"])
def test_a_picture_without_a_readable_path_is_deleted(collection: Collection, status: str) -> None:
    key = str(image(collection)["id"])
    rows = collection.query("files", 'path != ""', ["*"], 10)
    collection.upsert("files", [rows[0] | {"status": status}])
    assert reconcile(collection, [key]).deleted == frozenset()
    assert image(collection)["paths"] == [rows[1]["path"]]
    collection.upsert("files", [rows[1] | {"status": status}])
    assert reconcile(collection, [key]).deleted == {key}
    assert collection.count("images") == collection.count("texts") == 0


def test_a_picture_in_the_ledger_that_is_not_stored_is_lost(collection: Collection) -> None:
    key = str(image(collection)["id"])
    delete_images(collection, [key])
    assert reconcile(collection, [key]).lost == {key}


def test_a_picture_that_is_deleted_during_a_run_is_stored_by_the_next(
    index: twinlens.Index, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete_images(collection, [str(image(collection)["id"])])
    for name in "ab":
        (tmp_path / "photos" / f"{name}.txt").write_text("another caption")
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "_find_lost", lambda *_: None)  # it was there when the run began
        first = index.ingest(tmp_path / "photos")
    assert "ingest once more" in first.failed[0].reason
    second = index.ingest(tmp_path / "photos")
    assert (second.images, second.failed_count) == (1, 0)
    assert index.search("red")[0].captions == ("another caption",)


@pytest.mark.parametrize(
    ("path", "root", "relative"),
    [
        ("/photos/a/b.png", "/photos", "a/b.png"),
        ("/photos/a.png", "/photos/", "a.png"),
        ("/photos.tar!a/b.png", "/photos.tar", "a/b.png"),
        ("/photos2/a.png", "/photos", "/photos2/a.png"),
        ("/a.png", "/", "a.png"),
        ("https://example.org/a.png", "/list.urls", "https://example.org/a.png"),
    ],
)
def test_paths_relative_to_their_root(path: str, root: str, relative: str) -> None:
    assert relative_path(path, root) == relative


def test_captions_shown_are_bounded() -> None:
    shown = shown_captions(f"{i} " + "é" * 5_000 for i in range(100))
    assert len(shown) == 64
    assert all(len(text.encode()) <= 2_000 for text in shown)

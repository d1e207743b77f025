"""Paths of Windows: stored with slashes, so that folders can be found in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

import twinlens
from twinlens.ingest.ledger import Ledger, file_row
from twinlens.ingest.sample import Failure, Sample, relative_path
from twinlens.search.paths import stored_path

PHOTOS = PureWindowsPath(r"C:\Users\me\photos")


@pytest.fixture
def backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make texts be taken for paths of Windows."""
    monkeypatch.setattr(os, "sep", "\\")


def sample(path: PureWindowsPath) -> Sample:
    return Sample(str(path), str(PHOTOS), path.relative_to(PHOTOS).as_posix(), lambda: b"")


def test_a_path_is_stored_with_slashes() -> None:
    assert stored_path(PHOTOS / "a.jpg") == "C:/Users/me/photos/a.jpg"
    assert stored_path(PureWindowsPath(r"\\nas\share\a.jpg")) == "//nas/share/a.jpg"


@pytest.mark.usefixtures("backslashes")
def test_a_text_is_stored_with_slashes_on_windows() -> None:
    assert stored_path(r"C:\photos\a.zip!b\c.jpg") == "C:/photos/a.zip!b/c.jpg"
    assert stored_path("https://example.org/a\\b.jpg") == "https://example.org/a\\b.jpg"


def test_a_backslash_elsewhere_is_a_character_of_a_name() -> None:
    assert stored_path("/photos/a\\b.jpg") == "/photos/a\\b.jpg"
    assert stored_path(PurePosixPath("/photos/a\\b.jpg")) == "/photos/a\\b.jpg"


@pytest.mark.usefixtures("backslashes")
def test_names_below_a_root_are_found() -> None:
    one = sample(PHOTOS / "trips" / "a.jpg")
    assert (one.uri, one.root) == ("C:/Users/me/photos/trips/a.jpg", "C:/Users/me/photos")
    assert relative_path(one.uri, one.root) == one.relative == "trips/a.jpg"
    failed = Failure(str(PHOTOS / "b.jpg"), "broken", str(PHOTOS))
    assert relative_path(failed.uri, failed.root) == "b.jpg"


@pytest.mark.usefixtures("backslashes")
def test_a_subfolder_can_be_pruned(index: twinlens.Index, paint: Callable[..., Path]) -> None:
    index.ingest(paint("red", "seed.png"))
    inside, beside = sample(PHOTOS / "trips" / "a.jpg"), sample(PHOTOS / "trips2" / "a.jpg")
    rows = [file_row(one, "1" * 32, []) for one in (inside, beside)]
    index.engine.collection.upsert("files", rows)
    ledger = Ledger(index.engine.collection)
    ledger.find_missing([stored_path(str(PHOTOS / "trips"))])
    assert list(ledger.missing(5)) == [[inside.uri]]

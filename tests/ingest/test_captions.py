"""The captions of a picture: those that its paths give, or inherit from paths that are gone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import twinlens
from twinlens.ingest.receiver import Receiver
from twinlens.ingest.upload import Upload

Paint = Callable[..., Path]


@pytest.fixture
def picture(paint: Paint) -> Path:
    """A picture with a caption beside it."""
    path = paint("red", "photos/a.png")
    path.with_suffix(".txt").write_text("first")
    return path


@pytest.fixture
def captioned(index: twinlens.Index, paint: Paint, tmp_path: Path) -> Path:
    """A stored picture with a caption of a file that is not ingested again."""
    path = paint("red", "photos/a.png")
    (tmp_path / "c.jsonl").write_text(json.dumps({"image": "a.png", "caption": "first"}))
    index.ingest(path.parent, captions=tmp_path / "c.jsonl")
    assert stored(index) == [("first",)]
    return path


def stored(index: twinlens.Index) -> list[tuple[str, ...]]:
    """The captions of each stored picture; its texts must be the same."""
    hits = index.search("red", limit=20)
    texts = index.search("x", target="texts", limit=20)
    assert sorted(hit.text for hit in texts) == sorted(one for hit in hits for one in hit.captions)
    return [hit.captions for hit in hits]


def test_a_copy_has_no_captions_of_its_own(index: twinlens.Index, picture: Path) -> None:
    index.ingest(picture.parent)
    copy = shutil.copy(picture, picture.with_name("b.png"))
    index.ingest(picture.parent)
    assert stored(index) == [("first",)]
    picture.with_suffix(".txt").write_text("second")
    index.ingest(picture.parent)
    assert stored(index) == [("second",)]
    Path(copy).with_suffix(".txt").write_text("of the copy")
    index.ingest(picture.parent)
    assert stored(index) == [("second", "of the copy")]
    index.delete(picture)
    assert stored(index) == [("of the copy",)]


@pytest.mark.parametrize("together", [False, True])
def test_captions_go_with_a_path_that_is_deleted(
    index: twinlens.Index, picture: Path, together: bool
) -> None:
    if not together:
        index.ingest(picture.parent)
    shutil.copy(picture, picture.with_name("b.png"))
    index.ingest(picture.parent)
    assert index.delete(picture) == 0
    assert stored(index) == [()]


def test_captions_go_with_a_path_that_is_pruned(index: twinlens.Index, picture: Path) -> None:
    shutil.copy(picture, picture.with_name("b.png"))
    index.ingest(picture.parent)
    picture.unlink()
    index.ingest(picture.parent, prune=True)
    assert stored(index) == [()]


def test_a_missing_path_leaves_its_captions_to_a_copy(index: twinlens.Index, picture: Path) -> None:
    shutil.copy(picture, picture.with_name("b.png"))
    index.ingest(picture.parent)
    moved = picture.rename(picture.parent.parent / "a.png")
    index.ingest(picture.parent)
    assert stored(index) == [("first",)]
    # What is inherited counts no longer once a path has captions.
    moved.rename(picture)
    picture.with_suffix(".txt").write_text("second")
    index.ingest(picture.parent)
    assert stored(index) == [("second",)]
    index.delete(picture)
    assert stored(index) == [()]


def test_a_copy_with_captions_inherits_none(index: twinlens.Index, picture: Path) -> None:
    copy = picture.with_name("b.png")
    shutil.copy(picture, copy)
    copy.with_suffix(".txt").write_text("of the copy")
    index.ingest(picture.parent)
    picture.unlink()
    index.ingest(picture.parent)
    assert stored(index) == [("of the copy",)]


def test_a_renamed_file_keeps_captions_that_its_source_lacks(
    index: twinlens.Index, captioned: Path
) -> None:
    renamed = captioned.rename(captioned.with_name("b.png"))
    index.ingest(captioned.parent)
    assert stored(index) == [("first",)]
    renamed.rename(captioned.with_name("c.png"))
    index.ingest(captioned.parent)
    assert stored(index) == [("first",)]
    assert index.ingest(captioned.parent).unchanged == 1
    # A source without captions removes them if asked.
    index.ingest(captioned.parent, prune=True)
    assert stored(index) == [()]


def test_renamed_files_keep_captions_when_others_take_their_names(
    index: twinlens.Index, captioned: Path, paint: Paint
) -> None:
    for name in ("b", "c"):
        captioned.rename(captioned.with_name(f"{name}.png"))
        paint("blue", "photos/a.png", (40, 30 + len(name)))
        index.ingest(captioned.parent)
        assert {hit.path: hit.captions for hit in index.search("red", limit=9)} == {
            str(captioned): (),
            str(captioned.with_name(f"{name}.png")): ("first",),
        }
        captioned.unlink()
        captioned.with_name(f"{name}.png").rename(captioned)
        index.ingest(captioned.parent)
        assert stored(index) == [("first",)]


def test_a_touched_file_keeps_captions_that_its_source_lacks(
    index: twinlens.Index, captioned: Path, tmp_path: Path
) -> None:
    shutil.copy(captioned, captioned.with_name("b.png"))
    os.utime(captioned, (1, 1))
    report = index.ingest(captioned.parent)
    assert (report.updated, report.unchanged, report.duplicates) == (0, 1, 1)
    assert stored(index) == [("first",)]
    # They are still its own, and not those of the copy.
    (tmp_path / "c.jsonl").write_text(json.dumps({"image": "a.png", "caption": "second"}))
    index.ingest(captioned.parent, captions=tmp_path / "c.jsonl")
    assert stored(index) == [("second",)]


def test_a_run_that_broke_off_leaves_captions_to_the_next(
    index: twinlens.Index, captioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioned.rename(captioned.with_name("b.png"))
    collection = index.engine.collection
    with monkeypatch.context() as patched:

        def fail(kind: str, _ids: object) -> None:
            if kind == "files":
                raise KeyboardInterrupt

        patched.setattr(type(collection), "delete", lambda _, kind, ids: fail(kind, ids))
        with pytest.raises(KeyboardInterrupt):
            index.ingest(captioned.parent)
    index.ingest(captioned.parent)
    assert stored(index) == [("first",)]
    assert index.info().files == 1


def test_uploaded_files_inherit_alike(index: twinlens.Index, picture: Path) -> None:
    receiver: Receiver = index.intake()
    data = picture.read_bytes()
    receiver.put([Upload("/c/a.png", "/c", captions=("first",), data=data)])
    receiver.put([Upload("/c/b.png", "/c", data=data)])
    receiver.put([])
    receiver.remove_missing(["/c/a.png"])
    assert stored(index) == [("first",)]
    receiver.put([Upload("/c/c.png", "/c", captions=("second",), data=data)])
    assert stored(index) == [("second",)]
    receiver.remove(["/c/c.png"])
    assert stored(index) == [()]
    assert index.info().files == 1


def test_the_mark_of_a_proposed_caption_goes_with_it(either: twinlens.Index, paint: Paint) -> None:
    picture = paint("red", "photos/a.png")
    proposal = {"caption": "perhaps", "caption_source": "proposed", "caption_probability": 0.6}
    picture.with_suffix(".json").write_text(json.dumps(proposal))
    either.ingest(picture)
    (hit,) = either.search("red")
    assert hit.metadata["caption_source"] == "proposed"
    picture.with_suffix(".json").unlink()
    picture.with_suffix(".txt").write_text("mine")
    either.ingest(picture)
    (hit,) = either.search("red")
    assert hit.captions == ("mine",)
    assert not hit.metadata.keys() & {"caption_source", "caption_probability"}

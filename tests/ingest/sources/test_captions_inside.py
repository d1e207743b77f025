"""Caption files that lie in a folder of pictures, and folders that nobody means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.sources import FileFilter, open_sources
from twinlens.ingest.sources.folder import count
from twinlens.search.errors import SourceError
from twinlens.search.images import formats

Paint = Callable[..., Path]
Told = dict[str, str]


@pytest.fixture
def photos(paint: Paint) -> Path:
    for name, colour in {"a": "red", "b": "green", "sub/c": "blue"}.items():
        paint(colour, f"photos/{name}.png")
    return paint("black", "photos/d.png").parent


def read(*paths: Path, **options: object) -> tuple[dict[str, tuple[str, ...]], Told]:
    told: Told = {}
    items = list(open_sources(paths, warn=told.__setitem__, **options))  # type: ignore[arg-type]
    assert not [item for item in items if isinstance(item, Failure)], items
    return {i.relative: i.captions for i in items if isinstance(i, Sample)}, told


DESCRIBED = {"a.png": ("one", "two"), "b.png": ("three",), "d.png": (), "sub/c.png": ("four",)}
ROWS = [("a.png", "one"), ("a.png", "two"), ("b.png", "three"), ("sub/c.png", "four")]
COCO = {
    "images": [{"id": i, "file_name": name} for i, (name, _) in enumerate(ROWS)],
    "annotations": [{"image_id": i, "caption": text} for i, (_, text) in enumerate(ROWS)],
}
FILES = {
    "captions.csv": "image,caption\n" + "".join(f"{name},{text}\n" for name, text in ROWS),
    "metadata.csv": "file_name,text\n" + "".join(f"{name},{text}\n" for name, text in ROWS),
    "captions.jsonl": "".join(
        json.dumps({"image": name, "caption": text}) + "\n" for name, text in ROWS
    ),
    "results_20130124.token": "".join(f"{name}#0\t{text}\n" for name, text in ROWS),
    "annotations.json": json.dumps(COCO),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_describes_these_pictures_is_used(photos: Path, name: str) -> None:
    (photos / name).write_text(FILES[name])
    found, told = read(photos)
    assert found == DESCRIBED
    assert told == {str(photos / name): f"its captions are used; --exclude {name} leaves them out"}


@pytest.mark.parametrize("backup", [False, True])
def test_a_database_in_the_folder_is_not_read(
    photos: Path, encoder: ColourEncoder, backup: bool
) -> None:
    """Its tables name the pictures, and have their captions."""
    db = photos / "own.db"
    (photos / "a.txt").write_text("a caption")
    for _ in range(3):  # the third one reads what the second has flushed
        with twinlens.open(db, model=encoder) as index:
            report = index.ingest(photos)
            assert report.updated == 0
            assert not report.notices
            index.engine.collection.flush()
    if backup:
        twinlens.backup(photos / "backups", db)
        shutil.rmtree(db)
    (photos / "b.txt").write_text("a caption")
    with twinlens.open(db, model=encoder) as index:
        report = index.ingest(photos)
        assert (report.failed_count, report.notice_count) == (0, 0)
    (inside,) = photos.rglob("backups/*/database.db") if backup else [db]
    (inside / "picture.png").write_bytes((photos / "a.png").read_bytes())
    assert count(photos) == 4
    with pytest.raises(SourceError, match="no pictures in"), twinlens.open(db) as index:
        index.ingest(inside)


def test_coco_in_a_folder_of_its_own(photos: Path) -> None:
    root = photos.parent / "coco"
    root.mkdir()
    photos.rename(root / "val2014")
    (root / "annotations").mkdir()
    (root / "annotations/captions_val2014.json").write_text(json.dumps(COCO))
    (root / "annotations/instances_val2014.json").write_text(
        json.dumps(COCO | {"annotations": [{"image_id": 0, "bbox": [1, 2, 3, 4]}]})
    )
    found, told = read(root)
    assert found == {f"val2014/{name}": texts for name, texts in DESCRIBED.items()}
    assert list(told) == [str(root / "annotations/captions_val2014.json")]


@pytest.mark.parametrize("explicit", [False, True])
def test_each_folder_keeps_its_own_captions(paint: Paint, explicit: bool) -> None:
    """The same names in each folder, and a caption file in each."""
    files = []
    for folder, colours in {"x": ("red", "green"), "y": ("blue", "black")}.items():
        for number, colour in enumerate(colours):
            path = paint(colour, f"photos/{folder}/{number}.png")
        files.append(path.with_name("captions.csv"))
        files[-1].write_text(f"image,caption\n0.png,first of {folder}\n1.png,next of {folder}\n")
    found, told = read(path.parent.parent, *(files if explicit else ()))
    assert found == {
        f"{folder}/{number}.png": (f"{which} of {folder}",)
        for folder in "xy"
        for number, which in enumerate(("first", "next"))
    }
    assert len(told) == (0 if explicit else 2)


def test_pictures_that_are_gone_are_no_failures(photos: Path) -> None:
    rows = [*ROWS, ("gone.png", "five")]
    text = "image,caption\n" + "".join(f"{name},{text}\n" for name, text in rows)
    (photos / "captions.csv").write_text(text)
    assert read(photos)[0] == DESCRIBED


def test_it_can_be_left_out(photos: Path) -> None:
    (photos / "captions.csv").write_text(FILES["captions.csv"])
    found, told = read(photos, files=FileFilter(exclude=("captions.csv",)))
    assert (set(found.values()), told) == ({()}, {})
    assert read(photos, files=FileFilter(include=("*.png",)))[0] == DESCRIBED


def test_a_named_file_is_read_once_and_others_are_told(photos: Path) -> None:
    one, other = photos / "captions.csv", photos / "captions_de.csv"
    one.write_text(FILES["captions.csv"])
    other.write_text("image,caption\na.png,eins\n")
    found, told = read(photos, one)
    assert found == DESCRIBED
    assert told == {
        str(other): "is not read, because another caption file is named: name this one, too"
    }
    assert read(photos, captions=one) == (found, told)


def test_what_does_not_describe_these_pictures_is_told(photos: Path) -> None:
    (photos / "other.csv").write_text("image,caption\nx.png,one\ny.png,two\n")
    (photos / "labels.csv").write_text("file,label\na.png,7\n")
    found, told = read(photos)
    assert set(found.values()) == {()}
    assert "has captions, but not of pictures that are here" in told[str(photos / "other.csv")]
    assert "names pictures, but none of its columns" in told[str(photos / "labels.csv")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("image,caption\na.png,größe\n".encode("cp1252"), "save it as UTF-8"),
        (b"image,caption\na.png,one\n" * 300 + "a.png,größe\n".encode("cp1252"), "save it as"),
        (b"image,caption\na.png,one\nb.png,two,three\n", "line 3: expected 2 columns"),
    ],
)
def test_a_caption_file_that_cannot_be_read_is_told(photos: Path, data: bytes, says: str) -> None:
    (photos / "captions.csv").write_bytes(data)
    found, told = read(photos)
    assert set(found.values()) == {()}
    assert says in told[str(photos / "captions.csv")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.txt", "These are my pictures.\n"),
        ("a.txt", "one\n"),
        ("settings.json", '{"theme": "dark", "recent": [1, 2]}'),
        ("package.json", "[]"),
        ("broken.json", "{"),
        ("sales.csv", "month,total\n1,2\n"),
        ("empty.csv", ""),
        ("binary.csv", "\0\1"),
        ("d.png.supplemental-metadata.json", '{"description": "one"}'),
    ],
)
def test_the_files_of_other_programs_say_nothing(photos: Path, name: str, text: str) -> None:
    (photos / name).write_text(text)
    found, told = read(photos)
    assert len(found) == 4
    assert told == {}


def test_an_ingest_stores_and_lists_them(photos: Path, index: twinlens.Index) -> None:
    (photos / "captions.csv").write_text(FILES["captions.csv"])
    planned = index.preview(photos)
    report = index.ingest(photos)
    assert (report.images, report.texts, report.notice_count) == (4, 4, 1)
    assert (planned.new, planned.notices) == (4, report.notices)
    assert report.notices[0].uri == str(photos / "captions.csv")
    assert index.ingest(photos).unchanged == 4
    assert index.search("red", limit=1)[0].captions == ("one", "two")


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found"])
def test_folders_of_file_servers_are_passed_over_and_told(
    photos: Path, paint: Paint, name: str
) -> None:
    for folder in ("", "sub/"):
        paint("white", f"photos/{folder}{name}/a.png/thumb.png")
    found, told = read(photos)
    assert len(found) == 4
    assert told == {str(photos): f"folders called {name} are passed over: name one to read it"}
    assert count(photos) == 4
    assert list(read(photos / name)[0]) == ["a.png/thumb.png"]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_pictures_without_a_decoder_are_told(
    photos: Path, index: twinlens.Index, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures of a phone, without the extra that reads them."""
    for name in ("x.HEIC", "y.heic", "z.nef", "notes.md"):
        (photos / name).write_bytes(b"x")
    path = photos
    if kind != "folder":
        archive = shutil.make_archive(str(photos.parent / "all"), kind, photos)
        path = Path(archive)
    lacking = formats.supported_extensions() - {".heic", ".nef"}
    monkeypatch.setattr(formats, "supported_extensions", lambda: lacking)
    report = index.ingest(path)
    assert report.images == 4
    assert [(notice.uri, notice.text) for notice in report.notices] == [
        (str(path), "pictures ending in .heic are passed over: pip install 'twinlens[formats]'"),
        (str(path), "pictures ending in .nef are passed over: pip install 'twinlens[raw]'"),
    ]


def test_a_folder_of_undecodable_pictures_says_why(
    tmp_path: Path, index: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "x.heic").write_bytes(b"x")
    lacking = formats.supported_extensions() - {".heic"}
    monkeypatch.setattr(formats, "supported_extensions", lambda: lacking)
    with pytest.raises(SourceError, match=r"no pictures in .*; pictures ending in \.heic are"):
        index.ingest(tmp_path / "phone")

"""Which column names the pictures: by its name, whatever its spelling, or by its values."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources.captions import CaptionFile
from twinlens.search.errors import SourceError

Paint = Callable[..., Path]


@pytest.fixture
def photos(paint: Paint) -> Path:
    """Pictures 0.png, 1.png and 2.png."""
    paths = [paint(c, f"photos/{i}.png") for i, c in enumerate(("red", "green", "blue"))]
    return paths[0].parent


def captioned(*paths: Path, **options: Any) -> dict[str, tuple[str, ...]]:
    items = list(open_sources(paths, **options))
    assert not [item for item in items if isinstance(item, Failure)], items
    return {Path(i.uri).name: i.captions for i in items if isinstance(i, Sample)}


EXPECTED = {f"{i}.png": (f"caption of {i}",) for i in range(3)}
NAMES = ["image", "image_name", "img_path", "Img Name", "SourceFile", "File Name", "imagePath",
         "file_name2", "src", "XMP:FileName", "ImageFile", "Bild", "文件"]  # fmt: skip


def table(folder: Path, column: str, form: str, values: list[Any]) -> Path:
    rows = [
        {"nr": 7, column: value, "caption": f"caption of {i}"} for i, value in enumerate(values)
    ]
    path = folder / f"t.{form}"
    if form == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    elif form == "json":
        path.write_text(json.dumps(rows), "utf-8")
    elif form == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        sign = "\t" if form == "tsv" else ","
        lines = [sign.join(rows[0]), *(sign.join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("column", NAMES)
@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_a_column_of_names_of_files(photos: Path, column: str, form: str) -> None:
    path = table(photos.parent, column, form, [f"{i}.png" for i in range(3)])
    assert captioned(photos, path) == EXPECTED


@pytest.mark.parametrize("values", [["0", "1", "2"], [0, 1, 2], ["./0", "1", "2"]])
@pytest.mark.parametrize("column", ["id", "image_id", "nummer"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_column_of_names_without_suffixes(
    photos: Path, column: str, form: str, values: list[Any]
) -> None:
    path = table(photos.parent, column, form, values)
    assert captioned(photos, path) == EXPECTED


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_of_members_of_an_archive(photos: Path, kind: str) -> None:
    archive = photos.parent / f"all.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(photos.iterdir()):
                file.write(path, f"inner/{path.name}")
    else:
        with tarfile.open(archive, "w") as tar:
            for path in sorted(photos.iterdir()):
                tar.add(path, f"inner/{path.name}")
    path = table(photos.parent, "nummer", "csv", ["0", "1", "2"])
    found = captioned(archive, path)
    assert list(found.values()) == list(EXPECTED.values())


@pytest.mark.parametrize("order", [1, -1])
def test_captions_for_nobody_are_refused(photos: Path, order: int) -> None:
    path = photos.parent / "t.csv"
    path.write_text("nr,caption\n7,a dog\n8,a cat\n")
    with pytest.raises(
        SourceError, match=r"t\.csv does not say which pictures.*columns are: nr, caption.*alone"
    ):
        open_sources([photos, path][::order])
    with pytest.raises(SourceError, match="does not say which pictures"):
        open_sources([photos], captions=path)
    found = list(open_sources([photos, path], texts_alone=True))
    assert sum(isinstance(item, Sample) and not item.has_image for item in found) == 2


def test_a_column_told_by_its_values_only_is_told(photos: Path) -> None:
    told: list[str] = []
    path = table(photos.parent, "nummer", "csv", ["0", "1", "2"])
    assert captioned(photos, path, warn=lambda _, text: told.append(text)) == EXPECTED
    assert told == ["its column nummer names the pictures; --image-column sets another"]


def test_two_pictures_of_one_name_are_told(photos: Path, paint: Paint) -> None:
    paint("black", "photos/sub/0.png")
    path = photos.parent / "c.csv"
    path.write_text("image,caption\n0.png,a dog\nsub/1.png,x\n")
    paint("white", "photos/sub/1.png")
    told: dict[str, str] = {}
    items = list(open_sources([photos, path], warn=told.__setitem__))
    assert {i.relative for i in items if isinstance(i, Sample) and i.captions} == {
        "0.png", "sub/0.png", "sub/1.png",
    }  # fmt: skip
    assert told == {
        str(photos / "sub/0.png"): "shares its captions with another 0.png (c.csv, line 2): "
        "add the folder to the name there"
    }


def test_texts_alone_need_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("nr,caption\n7,a dog\n")
    [item] = open_sources([path])
    assert isinstance(item, Sample)
    assert (item.has_image, item.captions) == (False, ("a dog",))


def test_a_named_column_wins_over_others_that_look_like_files(photos: Path) -> None:
    path = photos.parent / "t.jsonl"
    rows = [
        {"image": str(i), "coco_url": f"http://a.example/{i}.png", "caption": f"caption of {i}"}
        for i in range(3)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert captioned(photos, path) == EXPECTED


@pytest.mark.parametrize("place", ["/Users/me/pictures", "C:\\\\Users\\\\me", "/mnt/photos"])
def test_absolute_paths_of_another_machine(photos: Path, paint: Paint, place: str) -> None:
    paint("black", "photos/sub/0.png")
    paint("white", "photos/other/0.png")
    sign = "\\\\" if "C:" in place else "/"
    path = photos.parent / "t.csv"
    names = [f"{place}{sign}{i}.png" for i in range(3)] + [f"{place}{sign}sub{sign}0.png"]
    lines = [f"{name},caption {i}" for i, name in enumerate(names)]
    path.write_text("\n".join(["image,caption", *lines]).replace("\\\\", "\\"))
    items = [item for item in open_sources([photos, path]) if isinstance(item, Sample)]
    assert {item.relative: item.captions for item in items} == {
        "0.png": (),  # of two that end like this, neither is taken
        "1.png": ("caption 1",),
        "2.png": ("caption 2",),
        "sub/0.png": ("caption 3",),
        "other/0.png": (),
    }


SHAPES: dict[str, tuple[str, Any]] = {
    "SBU": ("sbu.json", {"image_urls": ["0.png"], "captions": ["a dog"], "user_ids": ["1"]}),
    "exiftool": (
        "x.json",
        [{"SourceFile": "./0.png", "FileName": "0.png", "Directory": ".", "Description": "a dog"}],
    ),
    "TextCaps": (
        "t.json",
        {"dataset_type": "train", "data": [{"image_id": "0", "caption_str": "a dog"}]},
    ),
    "LLaVA": (
        "l.json",
        [{"id": "7", "image": "0.png", "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a dog"},
        ]}],
    ),
    "Label Studio": (
        "s.json",
        [{"id": 3, "data": {"image": "/data/upload/1/0a1b2c3d-0.png"}, "annotations": [
            {"result": [{"type": "textarea", "value": {"text": ["a dog"]}}]}]}],
    ),
    "Label Studio, local": (
        "s.json",
        [{"id": 3, "data": {"image": "/data/local-files/?d=photos/0.png"}, "annotations": [
            {"result": [{"type": "textarea", "value": {"text": ["a dog"]}}]}]}],
    ),
    "Label Studio, least": ("m.json", [{"image": "0.png", "caption": "a dog", "annotator": 1}]),
    "VIA": (
        "v.json",
        {"_via_settings": {}, "_via_img_metadata": {"0.png123": {
            "filename": "0.png", "size": 123, "regions": [],
            "file_attributes": {"caption": "a dog"}}}},
    ),
    "VIA, annotations": (
        "v.json",
        {"0.png123": {"filename": "0.png", "size": 123, "regions": [],
                      "file_attributes": {"caption": "a dog"}}},
    ),
    "kohya": ("meta_cap.json", {"0": {"caption": "a dog"}}),
    "kohya, tags": ("meta_lat.json", {"/old/place/0": {"tags": "a dog", "train_resolution": [1]}}),
    "lists": ("c.json", [{"images": ["0.png"], "caption": "a dog"}]),
    "objects": ("c.json", [{"image": {"path": "0.png", "bytes": None}, "caption": "a dog"}]),
    "lists of objects": ("c.json", [{"image": "0.png", "captions": [{"text": "a dog"}]}]),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_what_tools_and_datasets_write(photos: Path, shape: str) -> None:
    name, content = SHAPES[shape]
    path = photos.parent / name
    path.write_text(json.dumps(content), "utf-8")
    assert captioned(photos, path) == {"0.png": ("a dog",), "1.png": (), "2.png": ()}


def test_a_list_of_pictures_in_a_cell(photos: Path) -> None:
    path = photos.parent / "c.csv"
    path.write_text("images,caption\n\"['0.png', '1.png']\",both\n")
    assert captioned(photos, path) == {"0.png": ("both",), "1.png": ("both",), "2.png": ()}
    assert [entry.image for entry in CaptionFile(path)] == ["0.png", "1.png"]

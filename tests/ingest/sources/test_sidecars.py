"""What files beside a picture say about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.ingest.sources.sidecars import MAX_SIDECAR_BYTES, read_sidecars


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return tmp_path / "photo.jpg"


def test_a_picture_alone_has_nothing_said_of_it(picture: Path) -> None:
    said = read_sidecars(picture)
    assert said.captions == ()
    assert dict(said.metadata) == {}


@pytest.mark.parametrize("name", ["photo.json", "photo.jpg.json"])
def test_img2dataset_json_gives_caption_and_columns(name: str, picture: Path) -> None:
    described = {
        "caption": "a beach",
        "url": "https://example.org/a.jpg",
        "key": "000000000",
        "status": "success",
        "error_message": None,
        "exif": "{}",
        "similarity": 0.3,
        "nested": {"a": 1},
    }
    picture.with_name(name).write_text(json.dumps(described))
    said = read_sidecars(picture)
    assert said.captions == ("a beach",)
    assert dict(said.metadata) == {
        "url": "https://example.org/a.jpg",
        "key": "000000000",
        "similarity": 0.3,
        "nested_a": 1,
    }


def test_text_and_json_say_it_once(picture: Path) -> None:
    picture.with_suffix(".txt").write_text("a beach\nthe sea\n")
    picture.with_suffix(".json").write_text('{"captions": ["the sea", "waves"], "year": 2020}')
    said = read_sidecars(picture)
    assert said.captions == ("a beach", "the sea", "waves")
    assert said.metadata["year"] == 2020


def test_a_title_that_is_the_files_name_is_no_caption(picture: Path) -> None:
    picture.with_name("photo.jpg.json").write_text('{"title": "photo.jpg", "views": "3"}')
    assert read_sidecars(picture).captions == ()


def test_what_is_too_long_for_a_column_is_left_out(picture: Path) -> None:
    picture.with_suffix(".json").write_text(json.dumps({"imageData": "A" * 9_000, "version": "5"}))
    assert dict(read_sidecars(picture).metadata) == {"version": "5"}


def test_the_json_of_another_program_says_nothing(picture: Path) -> None:
    beside = picture.with_suffix(".json")
    for text in (
        "[1, 2]",
        "{",
        '"words"',
        "\ufeff",
        "[" * 50_000,
        " " * (MAX_SIDECAR_BYTES + 1) + "{}",
    ):
        beside.write_text(text)
        assert read_sidecars(picture).captions == ()
        assert not read_sidecars(picture).metadata


def test_a_text_that_is_too_long_is_refused(picture: Path) -> None:
    picture.with_suffix(".txt").write_text("x" * (MAX_SIDECAR_BYTES + 1))
    found = read_sidecars(picture)
    assert found.captions == ()
    [note] = found.notes
    assert note.startswith("its sidecar photo.txt is larger than 1 MB")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["photo.txt", "photo.jpg.json"])
def test_unicode_of_any_width_is_read(name: str, encoding: str, picture: Path) -> None:
    text = "ein Hund am Meer, größer als 犬"
    whole = text if name.endswith(".txt") else json.dumps({"caption": text}, ensure_ascii=False)
    picture.with_name(name).write_text(whole, encoding)
    assert read_sidecars(picture).captions == (text,)


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("a.jpg", "a.jpg.json"),
        ("a.jpg", "a.jpg.supplemental-metadata.json"),
        ("a.jpg", "a.jpg.suppl.json"),
        ("a(1).jpg", "a.jpg(1).json"),
        ("a(1).jpg", "a.jpg.supplemental-metadata(1).json"),
        ("a-edited.jpg", "a.jpg.supplemental-metadata.json"),
        ("a-bearbeitet(2).jpg", "a.jpg.suppl(2).json"),
        ("x" * 60 + ".jpg", "x" * 46 + ".json"),
        ("x" * 40 + ".jpg", ("x" * 40 + ".jpg.supplemental-metadata")[:46] + ".json"),
    ],
)
def test_google_takeouts_sidecars(name: str, sidecar: str, tmp_path: Path) -> None:
    (tmp_path / sidecar).write_text(json.dumps({"title": name, "description": "at the sea"}))
    assert read_sidecars(tmp_path / name).captions == ("at the sea",)


@pytest.mark.parametrize("sidecar", ["a.jpg(1).json", "b.jpg.suppl.json", "a.jpg.other.json"])
def test_the_sidecar_of_another_picture_says_nothing(sidecar: str, tmp_path: Path) -> None:
    (tmp_path / sidecar).write_text(json.dumps({"description": "another"}))
    assert read_sidecars(tmp_path / "a.jpg").captions == ()


def test_every_sidecar_counts(picture: Path) -> None:
    picture.with_suffix(".txt").write_text("dog, sea")
    picture.with_suffix(".caption").write_text("a dog at the sea")
    picture.with_suffix(".json").write_text('{"version": "5.0", "shapes": []}')
    picture.with_name("photo.jpg.supplemental-metadata.json").write_text('{"description": "Rex"}')
    assert read_sidecars(picture).captions == ("dog, sea", "a dog at the sea", "Rex")


def test_a_list_of_captions(picture: Path) -> None:
    picture.with_suffix(".json").write_text('["a dog", "it is wet"]')
    assert read_sidecars(picture).captions == ("a dog", "it is wet")


@given(data=st.binary(max_size=100))
def test_any_bytes_beside_a_picture_can_be_read(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    picture = tmp_path_factory.mktemp("any") / "photo.jpg"
    picture.with_suffix(".txt").write_bytes(data)
    picture.with_suffix(".json").write_bytes(data)
    said = read_sidecars(picture)
    assert all(text == " ".join(text.split()) != "" for text in said.captions)
    assert not any("\ufffd" in text for text in said.captions) or "\ufffd".encode() in data

"""Caption files: JSON lines, CSV and TSV, a row for each caption or lists of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import open_sources
from twinlens.ingest.sources.captions import CaptionFile
from twinlens.search.errors import SourceError, UsageError
from twinlens.search.paths import one_form
from twinlens.search.records import clean_metadata, clean_text

Paint = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return make


Write = Callable[[str, str], Path]


def entries(path: Path, **columns: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.image, row.captions) for row in CaptionFile(path, **columns)]


def samples(items: list[Item]) -> list[Sample]:
    assert all(isinstance(item, Sample) for item in items), items
    return [item for item in items if isinstance(item, Sample)]


# ---- reading

SAME = {
    "lists.jsonl": '{"image": "a.jpg", "captions": ["one", "two"]}\n'
    '{"image": "b.jpg", "captions": ["three"]}\n',
    "rows.jsonl": '{"image": "a.jpg", "caption": "one"}\n{"image": "b.jpg", "caption": "three"}\n'
    '{"image": "a.jpg", "caption": "two"}\n',
    "rows.csv": "image,caption\na.jpg,one\na.jpg,two\nb.jpg,three\n",
    "rows.tsv": "image\tcaption\na.jpg\tone\na.jpg\ttwo\nb.jpg\tthree\n",
    "windows.csv": "image,caption\r\na.jpg,one\r\na.jpg,two\r\nb.jpg,three\r\n",
    "spaced.jsonl": '\n{"image": "a.jpg", "captions": [" one ", "two", "one"]}\n\n'
    '{"image": "b.jpg", "captions": "three"}',
    "semicolons.csv": "image;caption\na.jpg;one\na.jpg;two\nb.jpg;three\n",
    "marked.csv": "\ufeffimage,caption\na.jpg,one\na.jpg,two\nb.jpg,three\n",
    "marked.jsonl": '\ufeff{"image": "a.jpg", "captions": ["one", "two"]}\n'
    '{"image": "b.jpg", "caption": "x", "captions": ["three"]}\n',
}


@pytest.mark.parametrize("name", SAME)
def test_however_it_is_written_it_says_the_same(write: Write, name: str) -> None:
    assert entries(write(name, SAME[name])) == [("a.jpg", ("one", "two")), ("b.jpg", ("three",))]


def test_quoted_cells_hold_commas_quotes_and_lines(write: Write) -> None:
    path = write("c.csv", 'image,caption\n"a,b.jpg","He said ""hi"",\nthen left"\nc.jpg,next\n')
    assert entries(path) == [("a,b.jpg", ('He said "hi", then left',)), ("c.jpg", ("next",))]
    assert [row.line for row in CaptionFile(path)] == [3, 4]


@pytest.mark.parametrize(
    ("header", "guessed"),
    [
        ("file_name,text", True),
        ("Image,Caption", True),
        ("FILEPATH,Description", True),
        ("path,title", True),
        ("text,image", False),
    ],
)
def test_columns_are_guessed(write: Write, header: str, guessed: bool) -> None:
    row = "a.jpg,words" if guessed else "words,a.jpg"
    assert entries(write("c.csv", f"{header}\n{row}\n")) == [("a.jpg", ("words",))]


def test_columns_can_be_named(write: Write) -> None:
    path = write("c.csv", "caption,bild,satz\nx,a.jpg,ein Hund\n")
    named = CaptionFile(path, image_column="bild", caption_column="satz")
    (row,) = named
    assert (row.image, row.captions, dict(row.metadata)) == (
        "a.jpg",
        ("ein Hund",),
        {"caption": "x"},
    )


def test_a_picture_may_have_no_caption(write: Write) -> None:
    assert entries(write("c.csv", "image,caption\na.jpg,\n")) == [("a.jpg", ())]


def test_other_columns_go_along(write: Write) -> None:
    row = {"image": "a.jpg", "caption": "x", "year": 2020, "ok": True, "place": "Ulm", "gps": {}}
    (described,) = CaptionFile(write("c.jsonl", json.dumps(row)))
    assert dict(described.metadata) == {"year": 2020, "ok": True, "place": "Ulm"}


BROKEN = {
    "not JSON": ("c.jsonl", '{"image": "a.jpg", "caption": "x"}\n{"image": \n', "line 2: not JSON"),
    "no object": ("c.jsonl", '["a.jpg", "x"]\n', "line 1: not a JSON object, but list"),
    "no captions": ("c.jsonl", '{"image": "a.jpg"}\n', "line 1: no column captions or caption"),
    "no such column": ("c.csv", "image,words\na.jpg,x\n", "line 2: no column captions"),
    "nothing said": (
        "c.csv",
        "image,caption\na.jpg,x\n,\n",
        "line 3: no value in 'image', 'caption",
    ),
    "too few cells": ("c.csv", "image,caption\na.jpg,x\nb.jpg\n", "line 3: expected 2 columns"),
    "too many cells": ("c.csv", "image,caption\na.jpg,x,y\n", "line 2: expected 2 columns"),
    "open quote": ("c.csv", 'image,caption\na.jpg,"x\nb.jpg,y\n', "line 3: unexpected end"),
    "a number": (
        "c.jsonl",
        '{"image": true, "caption": "x"}\n',
        "line 1: 'image' is not a file name",
    ),
    "nested": ("c.jsonl", "[" * 100_000 + "\n", "line 1: not JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_said_with_its_line(write: Write, kind: str) -> None:
    name, text, reason = BROKEN[kind]
    path = write(name, text)
    with pytest.raises(SourceError) as refused:
        open_sources([path])
    assert str(refused.value).startswith(f"{path}, {reason}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.tsv", "c.json", "c.txt"])
def test_unicode_of_any_width_is_read(tmp_path: Path, name: str, encoding: str) -> None:
    sign = "\t" if name == "c.tsv" else ","
    text = f"image{sign}caption\na.jpg{sign}größe\n"
    if name.startswith("c.json"):
        row = json.dumps({"image": "a.jpg", "caption": "größe"}, ensure_ascii=False)
        text = row if name == "c.jsonl" else f"[{row}]"
    (tmp_path / name).write_text(text, encoding)
    assert entries(tmp_path / name) == [("a.jpg", ("größe",))]


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.tsv"])
def test_a_code_page_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("image,caption\na.jpg,größe\n".encode("cp1252"))
    with pytest.raises(SourceError, match=rf"{name} is neither UTF-8 nor UTF-16 text: save it as"):
        CaptionFile(tmp_path / name)


def test_an_error_names_the_columns_there_are(write: Write) -> None:
    with pytest.raises(SourceError, match=r"there are: bild, satz.*--caption-column"):
        CaptionFile(write("c.csv", "bild,satz\na.jpg,x\n"))


def test_a_missing_caption_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*none\.jsonl"):
        open_sources([tmp_path], tmp_path / "none.jsonl")


def test_an_empty_file_says_nothing(write: Write) -> None:
    for name in ("c.jsonl", "c.csv", "d.csv"):
        text = "image,caption\n" if name == "d.csv" else ""
        assert entries(write(name, text)) == []


@settings(max_examples=150)
@given(data=st.binary(max_size=120), ending=st.sampled_from(["jsonl", "csv", "tsv"]),
       begin=st.sampled_from([b"", b"image,caption\n", b'{"image": "a.jpg", "caption": '])
)  # fmt: skip
def test_no_file_breaks_the_reader(
    data: bytes, ending: str, begin: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / f"c.{ending}"
    path.write_bytes(begin + data)
    try:
        rows = list(CaptionFile(path))
    except SourceError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(row.image or row.captions for row in rows)


@settings(max_examples=60)
@given(
    said=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/."), min_size=1, max_size=10),
        st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=4),
        max_size=6,
    )
)
def test_what_is_written_is_read(
    said: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    said = {one_form(image): texts for image, texts in said.items() if image.strip()}
    path = tmp_path_factory.mktemp("said") / "c.jsonl"
    lines = [json.dumps({"image": image, "captions": texts}) for image, texts in said.items()]
    path.write_text("\n".join(lines))
    wanted = [
        (one_form(image), tuple(dict.fromkeys(filter(None, map(clean_text, texts)))))
        for image, texts in said.items()
    ]
    assert entries(path) == wanted


# ---- pictures and their captions


def test_a_caption_file_alone_brings_its_pictures(write: Write, paint: Paint) -> None:
    paint("red", "photos/a.png")
    paint("blue", "b.png")
    path = write("c.csv", "image,caption\nphotos/a.png,a red thing\nb.png,a blue thing\n")
    first, second = samples(list(open_sources([path])))
    assert (first.uri, first.captions) == (str(path.parent / "photos/a.png"), ("a red thing",))
    assert second.load is not None
    assert second.load() == (path.parent / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["photos/a.png", "a.png", "a", "./photos/a.png", "photos/../a"])
def test_a_folders_pictures_are_found_by_path_or_name(
    write: Write, paint: Paint, name: str
) -> None:
    photo = paint("red", "photos/a.png")
    path = write("c.jsonl", json.dumps({"image": name, "caption": "a red thing"}))
    found = samples(list(open_sources([photo.parent], path)))
    assert {(sample.uri, sample.captions) for sample in found} == {(str(photo), ("a red thing",))}


def test_captions_beside_and_in_files_come_together_once(write: Write, paint: Paint) -> None:
    photo = paint("red", "photos/a.png")
    photo.with_suffix(".txt").write_text("one\ntwo\n")
    first = write("c.csv", "image,caption,year\na.png,two,2020\na.png,three,2020\n")
    second = write("d.csv", "image,caption,place\na.png,four,Ulm\n")
    (sample,) = samples(list(open_sources([photo.parent, second], first)))
    assert sorted(sample.captions) == ["four", "one", "three", "two"]
    assert sample.captions[:2] == ("one", "two")
    assert dict(sample.metadata) == {"year": 2020, "place": "Ulm"}


@pytest.mark.parametrize("name", ["\\ud800.png", "a\\u0000.png", "\\udcff"])
def test_a_name_that_no_file_can_have_is_a_missing_picture(write: Write, name: str) -> None:
    (failure,) = open_sources([write("c.jsonl", f'{{"image": "{name}", "caption": "x"}}')])
    assert isinstance(failure, Failure)
    assert "there is no such picture" in failure.reason
    failure.uri.encode()


def test_a_missing_picture_is_a_failure_with_its_line(write: Write, paint: Paint) -> None:
    photo = paint("red", "photos/a.png")
    path = write("c.csv", "image,caption\na.png,x\nphotos/none.png,y\n")
    sample, failure = open_sources([photo.parent], path)
    assert isinstance(sample, Sample)
    assert isinstance(failure, Failure)
    assert failure.uri == str(path.parent / "photos/none.png")
    assert failure.reason == "c.csv, line 3: there is no such picture"
    assert failure.root == str(path)


def test_texts_alone(write: Write) -> None:
    path = write("c.jsonl", '{"text": "one"}\n{"text": ["two", "three"], "year": 1}\n')
    first, second = samples(list(open_sources([path])))
    assert not first.has_image
    assert (first.captions, second.captions) == (("one",), ("two", "three"))
    assert dict(second.metadata) == {"year": 1}
    assert first.uri != second.uri


def test_a_text_alone_keeps_its_name_when_lines_move(write: Write) -> None:
    before = {item.uri for item in open_sources([write("c.jsonl", '{"text": "one"}\n')])}
    after = {
        item.uri for item in open_sources([write("c.jsonl", '{"text": "0"}\n{"text": "one"}')])
    }
    assert before < after


# ---- what is stored beside


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("year", "year"),
        ("id", "id_"),
        ("vector", "vector_"),
        ("text", "text_"),
        ("captions", "captions_"),
        ("two words", "two_words"),
        ("größe", "größe"),
        ("gro\u0308ße", "größe"),
        ("标题", "标题"),
        ("цена, €", "цена___"),
        ("हिन्दी", "हिन्दी"),
        ("٣", "_٣"),
        ("flag-nudity", "_flag_nudity"),
        ("1st", "_1st"),
        ("", "_"),
    ],
)
def test_columns_are_called_as_milvus_takes_them(name: str, kept: str) -> None:
    assert clean_metadata({name: 1}) == {kept: 1}


def test_missing_values_are_left_out() -> None:
    values = {"a": None, "b": "", "c": [], "d": {}, "e": float("nan"), "f": float("inf")}
    assert clean_metadata(values) == {}
    assert clean_metadata({"a": 0, "b": False, "c": 0.0}) == {"a": 0, "b": False, "c": 0.0}


def test_dates_decimals_lists_and_objects_are_kept() -> None:
    values = {
        "shot": datetime(2020, 5, 17, 8, 30),
        "day": date(2020, 5, 17),
        "at": time(8, 30),
        "took": timedelta(minutes=1),
        "price": Decimal("12.50"),
        "count": Decimal("3"),
        "tags": ["sea", "dog"],
        "box": (1, 2.5),
        "lens": {"make": "Canon", "mm": {"min": 24}},
    }
    assert clean_metadata(values) == {
        "shot": "2020-05-17T08:30:00",
        "day": "2020-05-17",
        "at": "08:30:00",
        "took": 60.0,
        "price": 12.5,
        "count": 3,
        "tags": "sea, dog",
        "box": "1, 2.5",
        "lens_make": "Canon",
        "lens_mm_min": 24,
    }


def test_what_cannot_be_kept_is_told() -> None:
    lost: dict[str, str] = {}
    values = {"a": b"x", "b": [{"x": 1}], "c": [0.5] * 1_000, "d": "x" * 5_000, "e": object()}
    assert set(clean_metadata(values, lost)) == {"d"}
    assert lost == {
        "a": "is neither text nor a number and is not kept",
        "b": "is a list of objects and is not kept",
        "c": "is a list of more than 256 values and is not kept",
        "d": "is cut to 2,000 bytes",
        "e": "is neither text nor a number and is not kept",
    }


def test_columns_stay_apart() -> None:
    row = {
        "a-b": 1,
        "a b": 2,
        "a_b": 3,
        "größe": 4,
        "grüße": 5,
        "标题": 6,
        "价格": 7,
        "a": {"b": 8},
    }
    assert clean_metadata(row) == {
        "a_b": 3, "a_b_2": 1, "a_b_3": 2, "a_b_4": 8,
        "größe": 4, "grüße": 5, "标题": 6, "价格": 7,
    }  # fmt: skip


@given(names=st.lists(st.text(max_size=8), max_size=6, unique=True))
def test_no_column_replaces_another(names: list[str]) -> None:
    row = {name: number for number, name in enumerate(names)}
    once = clean_metadata(row)
    assert sorted(once.values()) == sorted(row.values())
    assert clean_metadata(once) == once


def test_a_number_too_large_for_milvus_is_kept_as_its_digits() -> None:
    values = {"a": 2**63 - 1, "b": 2**63, "c": -(2**63) - 1}
    assert clean_metadata(values) == {"a": 2**63 - 1, "b": str(2**63), "c": str(-(2**63) - 1)}


def test_a_long_value_is_cut_to_whole_characters() -> None:
    cut = clean_metadata({"a": "é" * 5_000})["a"]
    assert isinstance(cut, str)
    assert len(cut.encode()) == 2_000

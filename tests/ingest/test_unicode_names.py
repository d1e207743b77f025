"""A name is the same name in NFC, as Linux and Windows type it, and in NFD, as Macs write it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

import twinlens

Paint = Callable[..., Path]
Forms = tuple[str, str]


@pytest.fixture(params=["NFC", "NFD"])
def forms(request: pytest.FixtureRequest) -> Forms:
    """A name as it is on disk, and as it is typed."""
    other = "NFD" if request.param == "NFC" else "NFC"
    return unicodedata.normalize(request.param, "Café.png"), unicodedata.normalize(
        other, "Café.png"
    )


@pytest.fixture
def photo(forms: Forms, paint: Paint) -> Path:
    paint("blue", "photos/other.png")
    return paint("red", f"photos/{forms[0]}")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json"])
@pytest.mark.parametrize("with_folder", [True, False])
def test_a_caption_file_names_the_picture(
    photo: Path, forms: Forms, index: twinlens.Index, ending: str, with_folder: bool
) -> None:
    row = {"image": forms[1], "caption": "two cups"}
    sign = "\t" if ending == ".tsv" else ","
    text = f"{sign.join(row)}\n{sign.join(row.values())}\n" if ending.endswith("sv") else ""
    text = text or json.dumps(row if ending == ".jsonl" else [row], ensure_ascii=False)
    table = photo.parent / f"c{ending}"
    table.write_text(text, "utf-8")
    report = index.ingest(photo.parent, captions=table) if with_folder else index.ingest(table)
    assert not report.failed
    hit = index.search("red", limit=1)[0]
    assert (hit.path, hit.captions) == (str(photo), ("two cups",))


def test_filters_find_it(photo: Path, forms: Forms, index: twinlens.Index) -> None:
    index.ingest(photo.parent)
    stem = forms[1].removesuffix(".png")
    for where in (
        f'path == "{forms[1]}"',
        f'path == "{photo.parent}/{forms[1]}"',
        f'paths has "{photo.parent}/{forms[1]}"',
        f'path startswith "{stem}"',
        f'path contains "{stem}"',
        f'path in ("x", "{forms[1]}")',
        f'not (path != "{forms[1]}")',
        f'path not in ("other.png") and path endswith "{forms[1]}"',
    ):
        assert [hit.path for hit in index.search("red", where=where)] == [str(photo)], where
    others = [hit.path for hit in index.search("red", where=f'path != "{forms[1]}"')]
    assert others == [str(photo.parent / "other.png")]


def test_it_is_found_by_name(
    photo: Path, forms: Forms, index: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photo.parent)
    monkeypatch.chdir(photo.parent.parent)
    names = [f"{photo.parent}/{forms[1]}", f"photos/{forms[1]}", forms[1], str(photo)]
    assert {index.item(name).path for name in names} == {str(photo)}
    assert index.add_tag("cup", *names) == 1  # all of them are one picture


def test_delete_finds_it(photo: Path, forms: Forms, index: twinlens.Index) -> None:
    index.ingest(photo.parent)
    assert index.delete(photo.parent / forms[1]) == 1
    assert index.info().images == 1


def test_a_path_that_is_typed_finds_it(
    photo: Path, forms: Forms, paint: Paint, index: twinlens.Index
) -> None:
    inner = paint("green", f"photos/{forms[0]} d/{forms[1]}")
    assert index.ingest(photo.parent / forms[1]).images == 1
    assert index.ingest(photo.parent / f"{forms[1]} d").images == 1
    assert index.search("green", limit=1)[0].path == str(inner)
    assert index.delete(f"{photo.parent}/{forms[1]} d/{forms[0]}") == 1


def test_a_list_leaves_it_out(
    photo: Path, forms: Forms, index: twinlens.Index, tmp_path: Path
) -> None:
    listed = tmp_path / "out.txt"
    listed.write_text(forms[1], "utf-8")
    assert index.ingest(photo.parent, leave_out=listed).left_out == 1


def test_words_find_it(photo: Path, forms: Forms, index: twinlens.Index) -> None:
    photo.with_suffix(".txt").write_text(unicodedata.normalize("NFD", "größer"))
    index.ingest(photo.parent)
    word = unicodedata.normalize("NFC", "größer")
    hit = index.search("red", limit=1)[0]
    assert hit.captions == (word,)


def test_fields_in_any_script_are_filtered_by(either: twinlens.Index, paint: Paint) -> None:
    rows = [
        {"image": "red.png", "caption": "x", "标题": "春", "价格": 9, "größe": 1.5, "хит": True},
        {"image": "blue.png", "caption": "y", "标题": "秋", "价格": 12, "a-b": 1, "हिन्दी": "न"},
    ]
    table = paint("red", "red.png").with_name("c.jsonl")
    paint("blue", "blue.png")
    table.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    either.ingest(table)
    for where, name in {
        '标题 == "春"': "red.png",
        "价格 >= 10": "blue.png",
        "größe > 1": "red.png",
        "хит == true": "red.png",
        "a_b == 1 and 标题 is known": "blue.png",
        '`हिन्दी` in ("न", "x")': "blue.png",
    }.items():
        hits = either.search("red", where=where)
        assert [Path(hit.path).name for hit in hits] == [name], where
    assert either.fields("images")["价格"] == "integer"
    (hit,) = either.search("red", where='标题 == "秋"')
    assert (hit.metadata["标题"], hit.metadata["हिन्दी"]) == ("秋", "न")


def test_paths_in_either_form_are_filtered_by(
    either: twinlens.Index, photo: Path, forms: Forms
) -> None:
    either.ingest(photo.parent)
    for where in (f'path == "{forms[1]}"', f'path startswith "{forms[1][:-4]}"'):
        assert [hit.path for hit in either.search("red", where=where)] == [str(photo)]
    assert either.delete(photo.parent / forms[1]) == 1

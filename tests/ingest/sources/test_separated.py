"""CSV and TSV files as spreadsheets, pandas and datasets write them, and the types of columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import twinlens
from twinlens.ingest.sources.captions import CaptionFile
from twinlens.ingest.sources.cell_types import ColumnTypes

Paint = Callable[..., Path]


def read(tmp_path: Path, text: str, name: str = "c.csv") -> list[tuple[str, Any, dict[str, Any]]]:
    path = tmp_path / name
    path.write_text(text, "utf-8", newline="")
    return [(row.image, row.captions, dict(row.metadata)) for row in CaptionFile(path)]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["9", "10.5", "100"], [9.0, 10.5, 100.0]),
        (["9", "-10", ""], [9, -10, None]),
        (["true", "False", ""], [True, False, None]),
        (["007", "12", "13"], ["007", "12", "13"]),
        (["12", "12a"], ["12", "12a"]),
        (["1.5", "nan", "NA"], [1.5, None, None]),
        (["nan", "None"], ["nan", "None"]),
        (["9223372036854775807"], [2**63 - 1]),
        (["9223372036854775808"], ["9223372036854775808"]),
        (["1e999", "1"], ["1e999", "1"]),
        (["+4912345"], ["+4912345"]),
        (["2020-05-17", "2021-01-01"], ["2020-05-17", "2021-01-01"]),
        (["1e3", ".5", "-0.25"], [1000.0, 0.5, -0.25]),
    ],
)
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_column_has_the_type_of_all_its_cells(
    tmp_path: Path, cells: list[str], values: list[object], sign: str
) -> None:
    lines = [sign.join((f"{i}.jpg", "x", cell)) for i, cell in enumerate(cells)]
    text = "\n".join([sign.join(("image", "caption", "value")), *lines])
    found = [row.get("value") for _, _, row in read(tmp_path, text)]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@given(numbers=st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False,
       allow_infinity=False), min_size=1))  # fmt: skip
def test_numbers_come_back(numbers: list[float]) -> None:
    rows: list[dict[str, Any]] = [{"n": repr(number)} for number in numbers]
    types = ColumnTypes()
    for row in rows:
        types.see(row)
    assert [types.typed(row)["n"] for row in rows] == [
        pytest.approx(number, rel=1e-12) for number in numbers
    ]


def test_years_of_a_table_and_of_exif_are_filtered_alike(
    tmp_path: Path, paint: Paint, index: twinlens.Index
) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:03:01 10:00:00"
    (tmp_path / "camera").mkdir()
    Image.new("RGB", (20, 20), (220, 30, 30)).save(tmp_path / "camera/e.jpg", exif=exif.tobytes())
    for name, colour in {"a": "blue", "b": "green", "c": "black"}.items():
        paint(colour, f"{name}.png")
    table = tmp_path / "c.csv"
    table.write_text("image,caption,year,价格\na.png,x,2019,9\nb.png,y,2021,10.5\nc.png,z,1999,\n")
    index.ingest(table, tmp_path / "camera")

    def names(where: str) -> list[str]:
        return sorted(Path(hit.path).name for hit in index.search("red", where=where))

    assert names("year >= 2019") == ["a.png", "b.png", "e.jpg"]
    assert names("价格 >= 10") == ["b.png"]
    assert names("`价格` < 10 and 价格 is known") == ["a.png"]
    assert index.fields("images")["价格"] == "number"


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nimage;caption\na.jpg;a dog, wet\n",
        '"sep=;"\r\nimage;caption\r\na.jpg;a dog, wet\r\n',
        " image ; caption \n a.jpg ; a dog, wet \n",
        'image, caption\na.jpg, "a dog, wet"\n',
        "\ufeffimage;caption\na.jpg;a dog, wet\n\n",
        "File Name;Caption-Abstract\na.jpg;a dog, wet\n",
    ],
)
def test_what_spreadsheets_write(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [("a.jpg", ("a dog, wet",), {})]


def test_columns_with_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    text = "image,caption,tag,tag\na.jpg,x,sea,dog\n"
    assert read(tmp_path, text) == [("a.jpg", ("x",), {"tag": "sea", "tag_2": "dog"})]
    text = "image,caption,caption,Caption_3\na.jpg,x,y,z\n"
    assert read(tmp_path, text) == [("a.jpg", ("x", "y"), {"Caption_3": "z"})]


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        (str(["a dog", "it's wet"]), ("a dog", "it's wet")),
        (json.dumps(["a dog", "it's wet"]), ("a dog", "it's wet")),
        ("['a dog' \"it's wet\"]", ("a dog", "it's wet")),
        ("['a dog'\n 'it is wet']", ("a dog", "it is wet")),
        ('[ "a dog" ]', ("a dog",)),
        ("['one']", ("one",)),
        ("[a dog]", ("[a dog]",)),
        ("['a dog] and 'so on", ("['a dog] and 'so on",)),
        ("[__import__('os')]", ("[__import__('os')]",)),
    ],
)
def test_a_list_in_a_cell(tmp_path: Path, cell: str, captions: tuple[str, ...]) -> None:
    quoted = '"' + cell.replace('"', '""') + '"'
    assert read(tmp_path, f"image,captions\na.jpg,{quoted}\n") == [("a.jpg", captions, {})]


def test_conceptual_captions_have_no_header(tmp_path: Path) -> None:
    url = "https://example.org/a.jpg"
    assert read(tmp_path, f"a dog\t{url}\n", "cc3m.tsv") == [(url, ("a dog",), {})]
    assert read(tmp_path, f"{url}\ta dog\n", "cc12m.tsv") == [(url, ("a dog",), {})]


def test_yfcc_has_no_header(tmp_path: Path) -> None:
    cells = ["1", "2@N0", "me", "2010-05-01 12:00:00", "1", "Canon", "My+dog", "at+the%20sea",
             "dog,sea", "", "9.5", "48.1", "16", "http://f.example/p", "http://f.example/a.jpg",
             "CC BY", "http://l.example", "1", "2", "3", "4", "jpg", "0"]  # fmt: skip
    [(image, captions, metadata)] = read(tmp_path, "\t".join(cells) + "\n", "yfcc.tsv")
    assert (image, captions) == ("http://f.example/a.jpg", ("at the sea",))
    assert (metadata["title"], metadata["longitude"], metadata["photo_id"]) == ("My dog", 9.5, 1)

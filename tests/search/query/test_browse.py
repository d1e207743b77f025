"""Test listing pictures by date, and counting the values of their fields."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.colours import ColourEncoder
from support.serving import served

import twinlens
from twinlens.search.errors import FilterError, UsageError
from twinlens.search.query.browse import Browsed
from twinlens.search.query.facets import Facet

#: File, day of EXIF or "", file time, columns.
PHOTOS: list[tuple[str, str, float, dict[str, object]]] = [
    ("rome/a.jpg", "2019:07:03 10:00:00", 0, {"keywords": ["sea", "red"], "stars": 5}),
    ("rome/b.jpg", "2019:07:02 10:00:00", 0, {"keywords": ["sea"], "stars": 4}),
    ("rome/c.jpg", "2019:06:30 23:59:59", 0, {"keywords": ["blue, deep", "sea"], "stars": 5}),
    ("oslo/d.jpg", "2021:01:01 00:00:00", 0, {"keywords": ["sea", "snow"], "stars": 5}),
    ("oslo/e.jpg", "", 1_609_459_200 - 1, {"keywords": ["snow", "red"], "in": "x"}),
    ("oslo/f.jpg", "", 1_609_459_200, {"keywords": ["snow"], "in": 'say "x"'}),
    ("top.jpg", "", 86_400, {"in": 'say "x"'}),
]
BY_DATE = ["oslo/f.jpg", "oslo/d.jpg", "oslo/e.jpg", "rome/a.jpg", "rome/b.jpg", "rome/c.jpg",
           "top.jpg"]  # fmt: skip


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browse")
    lines = []
    for number, (name, taken, changed, columns) in enumerate(PHOTOS):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if taken:
            exif.get_ifd(0x8769)[0x9003] = taken
            exif[0x0110] = "X100"
        Image.new("RGB", (30, 20), (30 * number, 0, 0)).save(path, exif=exif)
        if changed:
            os.utime(path, (changed, changed))
        lines.append(
            json.dumps({"image": f"photos/{name}", "caption": f"number {number}"} | columns)
        )
    (folder / "captions.jsonl").write_text("\n".join(lines))
    with twinlens.open(folder / "browse.db", model=ColourEncoder()) as index:
        report = index.ingest(folder / "photos", captions=folder / "captions.jsonl")
        assert report.images == len(PHOTOS)
    return folder / "browse.db"


@pytest.fixture(scope="module")
def index(db: Path) -> Iterator[twinlens.Index]:
    with twinlens.open(db, model=ColourEncoder()) as opened:
        yield opened


def names(found: Browsed) -> list[str]:
    return [str(hit.metadata.get("relative_path") or hit.path) for hit in found.items]


def ends(found: Browsed) -> list[str]:
    return [name.partition("photos/")[2] or name for name in names(found)]


def by_name(found: tuple[Facet, ...]) -> dict[str, dict[object, int]]:
    return {one.field: {value.value: value.count for value in one.values} for one in found}


def test_newest_first_by_the_day_taken_or_else_the_file(index: twinlens.Index) -> None:
    found = index.browse()
    # Of two pictures of the same second, the one with the lower id comes first.
    assert sorted(ends(found)[:2]) == sorted(BY_DATE[:2])
    assert ends(found)[2:] == BY_DATE[2:]
    assert found.total == 7
    assert [(one.month, one.count, one.offset) for one in found.months] == [
        ("2021-01", 2, 0),
        ("2020-12", 1, 2),
        ("2019-07", 2, 3),
        ("2019-06", 1, 5),
        ("1970-01", 1, 6),
    ]


def test_pages_continue_one_another(index: twinlens.Index) -> None:
    whole = ends(index.browse())
    parts = [ends(index.browse(offset=offset, limit=3)) for offset in (0, 3, 6, 9)]
    assert [name for part in parts for name in part] == whole
    assert index.browse(limit=0).items == ()
    assert index.browse(limit=0).total == 7


def test_a_filter_and_its_timeline(index: twinlens.Index) -> None:
    found = index.browse('path startswith "rome/"', limit=1)
    assert found.total == 3
    assert [one.month for one in found.months] == ["2019-07", "2019-06"]
    assert index.browse("width > 1000") == Browsed((), 0, ())
    with pytest.raises(FilterError):
        index.browse("widht > 1000")


@pytest.mark.parametrize(("offset", "limit"), [(-1, 1), (0, 501), (0, -1)])
def test_ranges_are_checked(index: twinlens.Index, offset: int, limit: int) -> None:
    with pytest.raises(UsageError, match="limit must be"):
        index.browse(offset=offset, limit=limit)


def test_facets_count_values(index: twinlens.Index) -> None:
    found = index.facets()
    assert [one.field for one in found] == ["year", "folder", "in", "keywords", "stars"]
    counts = by_name(found)
    assert counts["year"] == {2021: 1, 2019: 3}
    assert list(counts["year"]) == [2021, 2019], "the latest year comes first"
    assert counts["folder"] == {"oslo": 3, "rome": 3}
    assert counts["keywords"] == {"sea": 4, "snow": 3, "red": 2, "blue": 1, "deep": 1}
    assert counts["in"] == {'say "x"': 2, "x": 1}
    assert by_name(index.facets("stars == 5"))["folder"] == {"rome": 2, "oslo": 1}


def test_the_filter_of_a_value_selects_as_many_pictures_as_it_says(index: twinlens.Index) -> None:
    for facet in index.facets():
        for value in facet.values:
            assert index.browse(value.where, limit=0).total == value.count, value.where


def test_the_values_of_a_field_are_counted_without_what_is_chosen_of_it(
    index: twinlens.Index,
) -> None:
    found = index.facets("year == 2019 and stars == 5")
    assert by_name(found)["year"] == {2021: 1, 2019: 2}, "of those with five stars"
    assert by_name(found)["stars"] == {5: 2, 4: 1}, "of 2019"
    assert "folder" not in by_name(found), "all are in one"
    chosen = {one.field: [value.value for value in one.values if value.chosen] for one in found}
    assert chosen == {"year": [2019], "stars": [5]}
    clauses = {one.field: one.clauses for one in found}
    assert (clauses["year"], clauses["stars"]) == (("year == 2019",), ("stars == 5",))


@pytest.mark.parametrize(
    ("where", "field", "counts", "chosen"),
    [
        ("year in (2019, 2021)", "year", {2021: 1, 2019: 3}, {2019, 2021}),
        ("year == 2019 or year == 2021", "year", {2021: 1, 2019: 3}, {2019, 2021}),
        ("(year == 1999)  and width > 1", "year", {2021: 1, 2019: 3, 1999: 0}, {1999}),
        ("year >= 2020", "folder", {"oslo": 1}, None),
        ("not year == 2019", "folder", {"oslo": 3}, None),
        ("year == 2019 or stars == 5", "folder", {"rome": 3, "oslo": 1}, None),
        ('path startswith "rome/"', "folder", {"oslo": 3, "rome": 3}, {"rome"}),
        ('path startswith "rome/a"', "folder", {"rome": 1}, None),
        ("`in` == 'say \"x\"'", "in", {'say "x"': 2, "x": 1}, {'say "x"'}),
    ],
)
def test_what_chooses_values_and_what_does_not(
    index: twinlens.Index,
    where: str,
    field: str,
    counts: dict[object, int],
    chosen: set[object] | None,
) -> None:
    facets = [one for one in index.facets(where) if one.field == field]
    if chosen is None:  # such a facet is shown if it can narrow further
        assert by_name(tuple(facets)).get(field, counts) == counts
        assert all(not one.clauses and not any(v.chosen for v in one.values) for one in facets)
        return
    (facet,) = facets
    assert {value.value: value.count for value in facet.values} == counts
    assert {value.value for value in facet.values if value.chosen} == chosen
    assert len(facet.clauses) == 1
    assert facet.clauses[0] in where


def test_elements_of_lists_are_chosen_alone(index: twinlens.Index) -> None:
    (facet,) = [one for one in index.facets() if one.field == "keywords"]
    where = {value.value: value.where for value in facet.values}
    both = f"({where['red']} or {where['blue']}) and year > 1999"
    (facet,) = [one for one in index.facets(both) if one.field == "keywords"]
    assert [value.value for value in facet.values if value.chosen] == ["blue", "red"]
    counts = {value.value: value.count for value in facet.values}
    assert counts == {"sea": 4, "red": 1, "blue": 1, "deep": 1, "snow": 1}


def test_the_counts_are_those_of_choosing_each_value_instead(index: twinlens.Index) -> None:
    where = ["year == 2019", "stars == 5", 'path startswith "rome/"']
    for facet in index.facets(" and ".join(where)):
        others = [one for one in where if one not in facet.clauses]
        for value in facet.values:
            alone = " and ".join([*others, value.where])
            assert index.browse(alone, limit=0).total == value.count, alone


def test_what_is_written_later_is_listed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "photos/red.png")
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder()) as index:
        index.ingest(tmp_path / "photos")
        assert index.browse().total == 1
        Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "photos/blue.png")
        index.ingest(tmp_path / "photos")
        assert index.browse().total == 2
        assert index.delete(tmp_path / "photos/red.png")
        assert [Path(hit.path).name for hit in index.browse().items] == ["blue.png"]


def test_dates_that_are_none_come_last(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, taken in enumerate(["2019-02-31", "soon", "2019-02", "2018-05-05T10:00:00+02:00"]):
        Image.new("RGB", (8, 8), (50 * number, 9, 9)).save(tmp_path / f"photos/{number}.png")
        os.utime(tmp_path / f"photos/{number}.png", (0, 0))
        line = {"image": f"photos/{number}.png", "caption": f"{number}", "taken": taken}
        with (tmp_path / "c.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder()) as index:
        index.ingest(tmp_path / "photos", captions=tmp_path / "c.jsonl")
        found = index.browse()
    assert [one.month for one in found.months] == ["2018-05", ""]
    assert Path(found.items[0].path).name == "3.png"


def test_the_same_over_http(db: Path, index: twinlens.Index) -> None:
    with served(db) as address, twinlens.connect(address) as there:
        assert there.browse("stars >= 4", offset=1, limit=2) == index.browse(
            "stars >= 4", offset=1, limit=2
        )
        for where in ("", "year == 2019"):
            assert there.facets(where) == index.facets(where)
        with pytest.raises(FilterError):
            there.facets("nothing == 1")

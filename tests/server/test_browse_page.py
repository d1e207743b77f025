"""Test browsing on the search page: pictures by month, chips of fields, dates to click."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from support.browser import PHONE, Page, expect, listening
from support.colours import COLOURS, ColourEncoder

import twinlens

#: Pictures in each month, so many that most of them have no tile at first.
MONTHS = {"2021-05": 40, "2019-07": 300, "2019-06": 260, "2012-01": 30}
TOTAL = sum(MONTHS.values()) + 1


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browse")
    photos = folder / "photos"
    lines = []
    number = 0
    pixels = list(COLOURS.values())
    for month, count in MONTHS.items():
        for day in range(count):
            path = photos / ("trip" if number % 3 else "home") / f"{month}-{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = (40 + number % 20, 30 + number // 20)
            Image.new("RGB", size, pixels[number % len(pixels)]).save(path)
            when = datetime.fromisoformat(f"{month}-15T00:00:00+00:00").timestamp() - day
            os.utime(path, (when, when))
            lines.append({"image": str(path), "caption": f"number {number}", "stars": number % 5})
            number += 1
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2010:03:04 05:06:07"
    Image.new("RGB", (60, 40), (9, 9, 9)).save(photos / "old.jpg", exif=exif)
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with twinlens.open(folder / "browse.db", model=ColourEncoder()) as index:
        index.ingest(photos, captions=folder / "captions.jsonl")
    with listening(folder / "browse.db") as found:
        yield found


def where(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query).get("where", [""])[0]


def months(page: Page) -> list[str]:
    return [str(one) for one in page.locator(".month").all_text_contents()]


def listed(page: Page) -> Any:
    return page.locator(".timeline .tile-link")


def test_the_start_page_shows_everything_newest_first(visit: Callable[..., Page]) -> None:
    page = visit()
    expect(page.get_by_role("heading", name="All pictures")).to_be_visible()
    expect(page.locator(".month")).to_have_count(5)
    assert months(page) == [
        "May 202140 pictures",
        "July 2019300 pictures",
        "June 2019260 pictures",
        "January 201230 pictures",
        "March 20101 picture",
    ]
    expect(listed(page).first).to_have_accessible_name("number 0")
    assert 0 < listed(page).count() < 400, "what is far away has no tiles"


def test_the_start_page_can_be_narrowed(visit: Callable[..., Page]) -> None:
    page = visit()
    expect(listed(page).first).to_be_visible()
    expect(page.get_by_role("radio")).to_have_count(0)  # of kinds to search for
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Folder (2 values)").click()
    page.get_by_role("button", name=re.compile("^home")).click()
    assert where(page) == 'path startswith "home/"'
    expect(page.locator(".hero")).to_have_count(0)
    expect(page.locator("#summary")).to_have_text("210 pictures")


@pytest.mark.parametrize("height", [800, 1600])
def test_the_years_do_not_cover_the_start_screen(visit: Callable[..., Page], height: int) -> None:
    page = visit(viewport={"width": 1600, "height": height})
    years = page.get_by_role("navigation", name="Years")
    expect(listed(page).first).to_be_visible()
    expect(years).to_be_hidden()
    page.mouse.move(700, 500)
    page.mouse.wheel(0, 2_000)
    expect(years).to_be_visible()
    box = years.bounding_box()
    assert (
        page.locator(".start").bounding_box()["y"] + page.locator(".start").bounding_box()["height"]
        < box["y"]
    )


def test_jumping_to_a_month(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+0")
    jump = page.get_by_label("Jump to")
    jump.select_option("2012-01")
    first = page.get_by_role("link", name="number 600", exact=True)
    expect(first).to_be_in_viewport()
    expect(page.get_by_role("heading", name="January 2012")).to_be_in_viewport()
    page.mouse.wheel(0, -200_000)
    expect(page.get_by_role("link", name="number 0", exact=True)).to_be_in_viewport()
    expect(jump).to_have_value("2021-05")
    page.get_by_role("navigation", name="Years").get_by_role("button", name="2019").click()
    expect(page.get_by_role("heading", name="July 2019")).to_be_in_viewport()


def test_a_filter_alone_shows_its_pictures(visit: Callable[..., Page]) -> None:
    page = visit("/?where=stars+%3D%3D+3")
    expect(page.locator("#summary")).to_have_text("126 pictures")
    expect(page).to_have_title("stars == 3 · twinlens")
    assert page.locator("#results .relevance").count() == 0, "nothing was searched for"
    page.get_by_role("link", name="number 3", exact=True).click()
    expect(page.locator(".counter")).to_have_text("1 of 126")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".counter")).to_have_text("2 of 126")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="number 8", exact=True)).to_be_focused()


def test_the_viewer_goes_on_to_pictures_that_were_not_loaded(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+0")
    page.get_by_label("Jump to").select_option("2012-01")
    page.get_by_role("link", name="number 600", exact=True).click()
    for number in range(599, 560, -1):
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".counter")).to_have_text(f"{number + 1} of {TOTAL}")
    expect(page.locator("#viewer-title")).to_have_text("number 561")


def test_chips_of_the_last_filter_change_the_current_one(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Folder (2 values)").click()
    held: list[Any] = []
    page.route("**/v1/facets*", lambda route: held.append(route))
    page.get_by_role("button", name=re.compile("^home")).click()
    page.get_by_text("Stars (5 values)").click()
    page.get_by_role("button", name=re.compile("^3")).click()
    assert where(page) == 'path startswith "home/" and stars == 3'
    page.get_by_role("button", name=re.compile("^4")).click()
    assert where(page) == 'path startswith "home/" and stars in (3, 4)'
    page.get_by_role("button", name=re.compile("^3")).click()
    assert where(page) == 'path startswith "home/" and stars == 4'
    assert len(held) >= 3
    held[-1].continue_()
    expect(page.locator(".chosen .chip-text")).to_have_text(["Folder home", "Stars 4"])


def test_chips_write_the_filter(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Folder (2 values)").click()
    page.get_by_role("button", name=re.compile("^home")).click()
    assert where(page) == 'path startswith "home/"'
    page.get_by_text("Stars (5 values)").click()
    page.get_by_role("button", name=re.compile("^3")).click()
    assert where(page) == 'path startswith "home/" and stars == 3'
    expect(page.get_by_role("combobox", name="Filter")).to_have_value(where(page))
    expect(page.locator(".chosen .chip-text")).to_have_text(["Folder home", "Stars 3"])
    page.get_by_role("button", name="Remove: Folder home").click()
    assert where(page) == "stars == 3"
    page.get_by_text("Folder (2 values)").click()
    expect(page.get_by_role("button", name=re.compile("^home"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name=re.compile("^home"))).to_be_hidden()
    page.get_by_role("button", name="Remove: Stars 3").click()
    assert where(page) == ""


def test_redrawn_chips_keep_the_focus(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("Stars (5 values)").click()
    held: list[Any] = []
    page.route(re.compile("/facets"), lambda route: held.append(route))
    with page.expect_request(re.compile("/facets")):
        page.get_by_role("button", name=re.compile("^3")).click()
    folder = page.locator("summary", has_text="Folder")
    folder.click()
    folder.evaluate("element => element.dataset.old = true")
    held[0].continue_()
    expect(page.locator("[data-old]")).to_have_count(0)
    expect(folder).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".facet[open]")).to_have_count(0)


def test_further_values_of_a_field_can_be_chosen(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red&where=path+startswith+%22home%2F%22")
    page.get_by_text("Stars (5 values)").click()
    values = page.locator(".facet[open] .facet-value")
    counts = page.locator(".facet[open] .facet-count").all_text_contents()
    values.nth(1).click()
    expect(values.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(values).to_have_count(5)  # the list stays open, and shows the others, too
    expect(values.nth(1)).to_be_focused()
    assert page.locator(".facet[open] .facet-count").all_text_contents() == counts
    first = page.locator(".chosen .chip-text").nth(1)
    expect(first).to_have_text(re.compile(r"^Stars \d$"))
    values.nth(3).click()
    expect(page.locator(".facet[open] [aria-pressed='true']")).to_have_count(2)
    found = re.fullmatch(r'path startswith "home/" and stars in \((\d), (\d)\)', where(page))
    assert found, where(page)
    expect(first).to_have_text(f"Stars {found[1]}, {found[2]}")
    values.nth(1).click()  # the other one instead
    expect(page.locator(".facet[open] [aria-pressed='true']")).to_have_count(1)
    assert where(page) == f'path startswith "home/" and stars == {found[2]}'
    page.get_by_text("Folder (2 values)").click()
    page.get_by_role("button", name=re.compile("^trip")).click()
    both = '(path startswith "home/" or path startswith "trip/")'
    expect(page.locator(".chosen .chip-text")).to_have_text(
        [f"Stars {found[2]}", re.compile("^Folder (home, trip|trip, home)$")]
    )
    back = both.replace("home", "x").replace("trip", "home").replace("x", "trip")
    assert where(page) in [f"stars == {found[2]} and {way}" for way in (both, back)]


def test_a_chip_beside_an_or(visit: Callable[..., Page]) -> None:
    page = visit("/?where=stars+%3D%3D+1+or+width+%3D%3D+42")
    page.get_by_text("Folder (2 values)").click()
    page.get_by_role("button", name=re.compile("^trip")).click()
    assert where(page) == '(stars == 1 or width == 42) and path startswith "trip/"'
    expect(page.locator("#summary")).to_have_text(re.compile(r"^\d+ pictures$"))


def test_a_date_is_clicked_as_day_month_or_year(visit: Callable[..., Page]) -> None:
    page = visit("/?where=year+%3D%3D+2010")
    listed(page).first.click()
    taken = page.locator("dt", has_text="Taken").locator("+ dd")
    expect(taken).to_have_text("4 March 2010, 05:06")
    for name, date in (("2010", "2010"), ("March", "2010-03"), ("4", "2010-03-04")):
        taken.get_by_role("button", name=name, exact=True).click()
        expect(page.locator("#summary")).to_have_text("1 picture")
        assert where(page) == f'year == 2010 and taken == "{date}"'
        page.goto(f"{page.url.partition('?')[0]}?where=year+%3D%3D+2010")
        listed(page).first.click()


def test_rows_fill_a_wide_window(visit: Callable[..., Page]) -> None:
    for path in ("/?where=width+>+0", "/?q=red"):
        page = visit(path, viewport={"width": 2560, "height": 1300})
        tiles = page.locator("#results .tile[data-id]")
        expect(tiles.nth(20)).to_be_visible()
        boxes = [tiles.nth(number).bounding_box() for number in range(20)]
        assert min(box["x"] for box in boxes) < 60
        assert max(box["x"] + box["width"] for box in boxes) > 2560 - 120


def test_browsing_on_a_phone(visit: Callable[..., Page]) -> None:
    page = visit("/?where=stars+%3D%3D+3", phone=True)
    expect(listed(page).first).to_be_visible()
    expect(page.get_by_label("Jump to")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("path", ["/", "/?where=stars+%3D%3D+3"])
def test_axe_finds_nothing(visit: Callable[..., Page], path: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(path)
    expect(listed(page).first).to_be_visible()
    if "where" in path:
        page.get_by_text("Folder (2 values)").click()
    found = axe.run(page).response["violations"]
    assert [one["id"] for one in found] == []

"""Test an open result on the search page: zooming, keys, and why it was found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from support.browser import Page, expect, listening
from support.colours import COLOURS, ColourEncoder

import twinlens


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("viewer")
    photos = folder / "photos"
    photos.mkdir()
    for colour, pixel in COLOURS.items():
        Image.new("RGB", (600, 400), pixel).save(photos / f"{colour}.png")
        (photos / f"{colour}.txt").write_text(f"a {colour} picture\nsomething else\n")
    Image.new("RGB", (600, 400), COLOURS["red"]).save(photos / "copy.png")
    with twinlens.open(folder / "viewer.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    with listening(folder / "viewer.db") as found:
        yield found


def opened(visit: Callable[..., Page], query: str = "q=red", **options: Any) -> Page:
    page = visit(f"/?{query}", **options)
    page.locator("#results .tile-link").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator(".large")).to_have_js_property("complete", True)
    return page


def width(page: Page) -> float:
    return float(page.locator(".large").evaluate("one => one.getBoundingClientRect().width"))


def test_the_wheel_zooms_at_the_pointer(visit: Callable[..., Page]) -> None:
    page = opened(visit)
    before = width(page)
    box = page.locator(".large").bounding_box()
    corner = (box["x"] + 10, box["y"] + 10)
    page.mouse.move(*corner)
    page.mouse.wheel(0, -400)
    expect(page.locator(".stage")).to_have_class(re.compile("zoomed"))
    assert width(page) > 2 * before
    after = page.locator(".large").bounding_box()
    scale = after["width"] / before
    assert after["x"] + 10 * scale == pytest.approx(corner[0], abs=2), "the corner stays there"
    page.mouse.down()
    page.mouse.move(corner[0] - 60, corner[1] + 40, steps=3)
    page.mouse.up()
    moved = page.locator(".large").bounding_box()
    assert moved["x"] == pytest.approx(after["x"] - 60, abs=2)
    expect(page.get_by_role("dialog")).to_be_visible()
    page.mouse.wheel(0, 4000)
    expect(page.locator(".stage")).not_to_have_class(re.compile("zoomed"))
    assert width(page) == pytest.approx(before, abs=1)


def test_keys_zoom_and_search(visit: Callable[..., Page]) -> None:
    page = opened(visit)
    before = width(page)
    page.keyboard.press("+")
    assert width(page) == pytest.approx(1.5 * before, abs=1)
    page.keyboard.press("-")
    assert width(page) == pytest.approx(before, abs=1)
    page.keyboard.press("+")
    page.keyboard.press("0")
    assert width(page) == pytest.approx(before, abs=1)
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".counter")).to_have_text(re.compile("^2 of"))
    expect(page.locator(".stage")).not_to_have_class(re.compile("zoomed"))
    page.keyboard.press("m")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).to_have_url(re.compile(r"\?id="))


def test_n_in_an_open_picture_excludes_it(visit: Callable[..., Page]) -> None:
    page = opened(visit)
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile("q=red&unlike="))


def test_keys_of_a_text_field_are_text(visit: Callable[..., Page]) -> None:
    page = opened(visit)
    field = page.get_by_label("Does it show …?")
    field.press_sequentially("m n + 0")
    expect(field).to_have_value("m n + 0")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_double_click_zooms_and_shows_all_again(visit: Callable[..., Page]) -> None:
    page = opened(visit)
    before = width(page)
    page.locator(".large").dblclick()
    assert width(page) == pytest.approx(2.5 * before, abs=2)
    page.locator(".large").dblclick()
    assert width(page) == pytest.approx(before, abs=1)


def test_why_this(visit: Callable[..., Page]) -> None:
    page = opened(visit, "q=red+thing")
    page.get_by_text("Why this?").click()
    why = page.locator(".why")
    expect(why).to_contain_text("How well it fits “red thing”:")
    expect(why.locator("li")).to_have_count(3)
    expect(why.locator("li").first).to_contain_text("The picture itself")
    expect(why.locator("li mark").first).to_have_text("red")
    expect(why.locator("li").nth(1)).to_contain_text("a red picture")
    page.keyboard.press("ArrowRight")
    expect(why.locator("li")).to_have_count(0)


@pytest.mark.parametrize(
    ("locale", "why", "ask"), [("en", "Why this?", "Ask"), ("de", "Warum dieses?", "Fragen")]
)
@pytest.mark.parametrize("words", ["red", "red, green or blue"])
def test_the_same_words_give_a_picture_the_same_number(
    visit: Callable[..., Page], words: str, locale: str, why: str, ask: str
) -> None:
    page = opened(visit, f"q={quote(words)}", locale=locale)
    said = page.locator(".viewer-relevance .relevance-text").inner_text()
    per_cent = said.partition(" · ")[2]
    page.get_by_text(why).click()
    expect(page.locator(".why .relevance-text").first).to_have_text(re.compile(said, re.I))
    page.locator("#question").fill(words)
    page.get_by_role("button", name=ask).click()
    expect(page.locator(".answer")).to_contain_text(f", {per_cent}: ")
    shown = re.findall(r"\d+\s?%", page.get_by_role("dialog").inner_text())
    assert len(shown) >= 3
    assert len(set(shown)) == 1, "there is one scale"


def test_small_words_are_not_marked(visit: Callable[..., Page]) -> None:
    page = opened(visit, "q=a+red+one")
    page.get_by_text("Why this?").click()
    expect(page.locator(".why mark").first).to_be_visible()
    assert set(page.locator(".why mark").all_text_contents()) == {"red"}


def test_a_combined_query_is_explained_by_its_words(visit: Callable[..., Page]) -> None:
    page = opened(visit, "q=red&not=blue")
    page.get_by_text("Why this?").click()
    expect(page.locator(".why")).to_contain_text("How well it fits “red”:")


def test_without_words_there_is_no_why(visit: Callable[..., Page]) -> None:
    page = opened(visit, "where=width+>+0")
    expect(page.get_by_text("Why this?")).to_be_hidden()


def test_all_paths_of_copies_are_listed(visit: Callable[..., Page]) -> None:
    page = opened(visit)
    paths = page.locator("dd.path").all_text_contents()
    assert sorted(path.rpartition("/")[2] for path in paths) == ["copy.png", "red.png"]


def test_captions_have_no_per_cent(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red&in=texts")
    expect(page.locator(".card").first).to_be_visible()
    assert "%" not in page.locator("#results").inner_text()


def test_probabilities_are_never_certain(visit: Callable[..., Page]) -> None:
    page = visit("/?q=a+red+picture")
    expect(page.locator("#results .tile-link").first).to_be_visible()
    assert "100%" not in page.content()

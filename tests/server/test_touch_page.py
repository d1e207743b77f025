"""Test the search page on touched screens, with many results, and signing out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.browser import Page, expect, listening
from support.colours import COLOURS, ColourEncoder
from support.serving import READ

import twinlens


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,200 pictures, more than are in the document at once."""
    folder: Path = tmp_path_factory.mktemp("many")
    (folder / "photos").mkdir()
    for number in range(1_200):
        red, green, blue = list(COLOURS.values())[number % 8]
        pixel = (red, green, (blue + number // 8) % 256)
        Image.new("RGB", (12, 9), pixel).save(folder / f"photos/{number}.png")
    with twinlens.open(folder / "x.db", model=ColourEncoder()) as index:
        index.ingest(folder / "photos")
    return folder / "x.db"


@pytest.fixture(scope="module")
def address(db: Path) -> Iterator[str]:
    with listening(db) as found:
        yield found


def test_many_results_are_in_the_document_near_the_window_only(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red", viewport={"width": 1600, "height": 800})
    expect(page.locator("#results .tile-link").first).to_be_visible()
    for _ in range(60):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        if page.get_by_text("End of results: 1,200 pictures.").count():
            break
        page.wait_for_timeout(150)
    expect(page.get_by_text("End of results: 1,200 pictures.")).to_be_visible()
    there = page.locator("#results .tile[data-id]")
    page.wait_for_function("document.querySelectorAll('#results .tile[data-id]').length < 900")
    last = there.last.get_attribute("data-id")
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator(f'#results .tile[data-id="{last}"]')).to_have_count(0)
    first = there.first.locator("a")
    first.click()
    expect(page.locator(".counter")).to_have_text("1 of 1200")
    page.keyboard.press("Escape")
    expect(first).to_be_focused()


@pytest.mark.parametrize("locale", ["en", "de"])
def test_the_example_of_an_exclusion_stays_on_one_line(
    visit: Callable[..., Page], locale: str
) -> None:
    page = visit(locale=locale)
    example = page.locator(".hero code")
    expect(example).to_be_visible()
    for width in range(320, 440, 10):
        page.set_viewport_size({"width": width, "height": 800})
        assert example.evaluate("one => one.getClientRects().length") == 1, width


def test_words_for_a_touched_screen(visit: Callable[..., Page]) -> None:
    page = visit(phone=True)
    expect(page.get_by_placeholder("Describe a picture", exact=True)).to_be_visible()
    expect(page.get_by_text("Or choose a picture to find similar ones.")).to_be_visible()
    fits = (
        "one => { const c = document.createElement('canvas').getContext('2d');"
        " c.font = getComputedStyle(one).font;"
        " return c.measureText(one.placeholder).width < one.clientWidth; }"
    )
    assert page.locator("#words").evaluate(fits)
    page.goto(page.url + "?q=red")
    page.get_by_role("button", name="What the bars say").click()
    dialog = page.get_by_role("dialog", name="How good a match is")
    expect(dialog).to_contain_text("75%")


def test_a_mouse_can_drop(visit: Callable[..., Page]) -> None:
    page = visit()
    expect(page.get_by_placeholder("Describe a picture, or drop one here")).to_be_visible()
    expect(page.get_by_text("Or drop a picture here")).to_be_visible()
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_signing_out(visit: Callable[..., Page], db: Path) -> None:
    with listening(db, keys=(READ,)) as locked:
        page = visit("/?q=red", at=locked)
        page.get_by_label("Key", exact=True).fill(READ.split(":")[2])
        page.keyboard.press("Enter")
        expect(page.locator("#results .tile-link").first).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("dialog", name=re.compile("API key"))).to_be_visible()

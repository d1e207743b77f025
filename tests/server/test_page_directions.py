"""Names, captions and filters in other directions change nothing around them: in real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.browser import Page, expect, listening
from support.colours import COLOURS, ColourEncoder
from support.policies import RULES
from support.serving import READ, WRITE

import twinlens

OVERRIDE = "\u202e"
#: A name that a terminal or a page may show as "photoexe.png", and one in Hebrew.
HOSTILE = f"photo{OVERRIDE}gnp.exe.png"
HEBREW = "\u05e9\u05dc\u05d5\u05dd"
FOLDER = "\u05ea\u05de\u05d5\u05e0\u05d5\u05ea"
CAPTION = f"{HEBREW} a red picture"
OTHERS = (("green", "green.png"), ("yellow", "yellow.png"))
CLOSED = f"blue \u2069 {OVERRIDE} closed"

#: What is not isolated on a page: texts with characters that reorder others, and Hebrew letters
#: outside of a ``bdi`` or an isolate; the same in names for screen readers.
WRONG = r"""
(whole) => {
  const control = /[\u202a-\u202e\u2066\u2067]/u;
  const outside = (text) => /[\u0590-\u05ff]/u.test(text.replace(/\u2068[^\u2069]*\u2069/gu, ""));
  const wrong = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const { data, parentElement } = walk.currentNode;
    if (control.test(data) || (outside(data) && !parentElement.closest("bdi"))) wrong.push(data);
  }
  const named = [...document.querySelectorAll("[title], [aria-label], [alt]")]
    .flatMap((one) => ["title", "aria-label", "alt"].map((name) => one.getAttribute(name) ?? ""));
  for (const name of [document.title, ...named]) {
    if (control.test(name) || (outside(name) && !whole.includes(name))) wrong.push(name);
  }
  return wrong;
}
"""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("directions")
    photos = folder / FOLDER
    photos.mkdir()
    for colour, name in (("red", f"{HEBREW}.png"), ("blue", HOSTILE), *OTHERS):
        Image.new("RGB", (400, 300), COLOURS[colour]).save(photos / name)
    mixed = f"{HEBREW} {OVERRIDE}abc"
    rows = [
        {"file": f"{HEBREW}.png", "caption": CAPTION, "place": mixed, "stars": 3},
        {"file": HOSTILE, "place": CLOSED, "stars": 3},
        *(
            {"file": name, "place": place}
            for (_, name), place in zip(OTHERS, (mixed, CLOSED), strict=True)
        ),
    ]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "rules.toml").write_text(RULES)
    with twinlens.open(folder / "directions.db", model=ColourEncoder()) as index:
        index.ingest(photos, captions=folder / "captions.jsonl")
    with twinlens.open(folder / "review.db", model=ColourEncoder()) as index:
        index.ingest(photos, captions=folder / "captions.jsonl", policy=folder / "rules.toml")
    return folder / "directions.db"


@pytest.fixture(scope="module")
def address(db: Path) -> Iterator[str]:
    with listening(db) as found:
        yield found


def check(page: Page) -> None:
    """Nothing on the page is outside of an isolate, whatever it shows now."""
    assert page.evaluate(WRONG, [CAPTION, f"{HEBREW}.png"]) == []


def test_the_names_of_hits(visit: Callable[..., Page]) -> None:
    page = visit("/?q=blue")
    tiles = page.locator("#results .tile-link")
    expect(tiles.first).to_have_accessible_name(re.compile(r"^photognp\.exe\.png, "))
    assert tiles.first.locator("bdi").inner_text() == "photognp.exe.png"
    check(page)
    page.goto(page.url.replace("q=blue", "q=red"))
    expect(tiles.first).to_have_accessible_name(re.compile(f"^\u2068{CAPTION}\u2069, "))
    check(page)
    page.get_by_role("radio", name="Captions").check(force=True)
    expect(page.locator(".card-words").first).to_have_text(CAPTION)
    check(page)


def test_the_viewer_and_its_filters(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.locator("#results .tile-link").first.click()
    path = page.locator(".viewer dd.path")
    expect(path).to_contain_text(HEBREW)
    check(page)
    # Folder and name are in their order, although both are in Hebrew.
    at = path.evaluate(
        """(element, names) => names.map((name) => [...element.querySelectorAll("bdi bdi")]
            .find((part) => part.textContent.includes(name)).getClientRects()[0])
            .map(({ left, top }) => top * 10000 + left)""",
        [FOLDER, HEBREW],
    )
    assert at[0] < at[1]
    page.locator(".viewer .value", has_text=HEBREW).click()
    expect(page.locator("#results .tile-link")).to_have_count(2)
    expect(page.get_by_role("combobox", name="Filter")).to_have_value(re.compile(OVERRIDE))
    check(page)


def test_chips_values_and_messages(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.get_by_role("button", name="Filter").click()
    page.locator(".facet summary", has_text="Place").click()
    values = page.locator(".facet-value")
    expect(values).to_have_count(2)
    for value in values.all():
        name, number = (value.locator(tag).bounding_box() for tag in ("bdi", ".facet-count"))
        assert name is not None
        assert number is not None
        assert name["x"] + name["width"] <= number["x"] + 1
    check(page)
    values.filter(has_text="closed").click()
    expect(page.locator(".chosen .chip-text")).to_contain_text("closed")
    check(page)
    words = f"{HEBREW} -{HEBREW}"
    page.goto(page.url.partition("?")[0] + f'?q={words}&where=place == "{HEBREW}"')
    expect(page.get_by_role("heading", name="No picture matches the filter.")).to_be_visible()
    expect(page.locator(".chip-text").first).to_have_text(HEBREW)
    check(page)
    page.goto(page.url.partition("?")[0] + f"?q={HEBREW}&collection={HEBREW}{OVERRIDE}")
    expect(page.get_by_role("heading", name="The request is not valid")).to_be_visible()
    check(page)


def test_the_map(visit: Callable[..., Page]) -> None:
    page = visit("/map")
    entries = page.locator("#list a")
    expect(entries).to_have_count(4)
    for entry in entries.all():
        entry.scroll_into_view_if_needed()
    expect(entries.filter(has_text=HEBREW)).to_have_count(1)
    expect(entries.filter(has_text="photognp.exe.png")).to_have_count(1)
    check(page)
    entries.filter(has_text=HEBREW).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(page.locator(".map-card-title")).to_have_text(re.compile(HEBREW))
    check(page)


def test_the_review_page(db: Path, browser: Any, visit: Callable[..., Page]) -> None:
    with listening(db.with_name("review.db"), keys=(READ, WRITE)) as address:
        page = visit("/review", at=address)
        page.get_by_label("Write key", exact=True).fill(WRITE.split(":")[2])
        page.get_by_role("button", name="Continue").click()
        cards = page.locator(".review-card")
        expect(cards).to_have_count(2)
        expect(cards.filter(has_text="photognp.exe.png")).to_have_count(1)
        check(page)
        page.get_by_role("button", name="Dismiss").click()
        expect(page.locator("#toast")).to_have_text("photognp.exe.png: released")
        check(page)

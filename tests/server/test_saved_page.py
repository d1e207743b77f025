"""Test saved searches on the search page: save, run and remove them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Page, expect, listening
from support.colours import ColourEncoder
from support.serving import READ, WRITE, painted_db

import twinlens
from twinlens import Not, Text


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return painted_db(tmp_path)


@pytest.fixture
def address(db: Path) -> Iterator[str]:
    with listening(db) as found:
        yield found


def stored(page: Page) -> list[dict[str, Any]]:
    origin = page.evaluate("location.origin")
    found: list[dict[str, Any]] = page.request.get(f"{origin}/v1/searches").json()["searches"]
    return found


def saved(page: Page) -> Any:
    return page.get_by_role("list", name="Saved searches").get_by_role("listitem")


def save(page: Page, name: str) -> None:
    page.get_by_role("button", name="Save …").click()
    dialog = page.get_by_role("dialog", name="Save this search")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("button", name="Save", exact=True).click()


def test_a_search_is_saved_run_and_removed(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red&not=blue&where=width+>+3&mode=hybrid")
    expect(page.locator("#results .tile[data-id]")).to_have_count(8)
    page.get_by_role("button", name="Save …").click()
    expect(page.get_by_label("Name")).to_have_value("red -blue")
    page.keyboard.press("Escape")
    save(page, "Red  <b>ones</b>")
    expect(page.locator("#toast")).to_have_text("Saved as Red <b>ones</b>")
    wanted = {"query": ["red", {"not": "blue"}], "where": "width > 3", "mode": "hybrid"}
    assert stored(page) == [{"name": "Red <b>ones</b>", "search": wanted}]
    page.get_by_role("link", name="twinlens").click()
    expect(page.get_by_role("button", name="Save …")).to_be_hidden()
    page.get_by_role("button", name="Red <b>ones</b>", exact=True).click()
    expect(page).to_have_url(page.evaluate("location.origin")
                             + "/?q=red&not=blue&mode=hybrid&where=width+%3E+3")  # fmt: skip
    page.go_back()
    page.get_by_role("button", name="Remove: Red <b>ones</b>").click()
    expect(page.get_by_text("Removed Red <b>ones</b>")).to_be_visible()
    expect(saved(page)).to_have_count(0)
    assert stored(page) == []
    page.get_by_role("button", name="Undo").click()
    expect(saved(page)).to_have_count(1)
    assert stored(page)[0]["search"] == wanted


def test_a_filter_and_pictures_like_stored_ones_are_saved(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+3")
    save(page, "wide")
    expect(page.locator("#toast")).to_have_text("Saved as wide")
    page.locator("#results .tile[data-id] a").first.press("m")
    expect(page).to_have_url(re.compile("id="))
    save(page, "alike")
    expect(page.locator("#toast")).to_have_text("Saved as alike")
    alike, wide = stored(page)
    assert wide["search"] == {"where": "width > 3"}
    assert list(alike["search"]["query"][0]) == ["id"]
    page.goto(page.evaluate("location.origin"))
    page.get_by_role("button", name="wide", exact=True).click()
    expect(page.locator("#summary")).to_have_text("8 pictures")


def test_what_the_page_cannot_show_of_a_search_is_said(
    visit: Callable[..., Page], db: Path
) -> None:
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.save_search("weighed", [Text("red", 2.0), Not("blue")], min_relevance=0.1)
        index.save_search("plain", "red", limit=3)
    page = visit()
    expect(saved(page)).to_contain_text(["plain", "weighed"])
    page.get_by_role("button", name="plain", exact=True).click()
    expect(page.locator("#results .tile[data-id]")).to_have_count(8)
    expect(page.locator("#toast")).to_have_text("")
    page.go_back()
    page.get_by_role("button", name="weighed", exact=True).click()
    expect(page.locator("#toast")).to_contain_text("leaves out")
    expect(page).to_have_url(page.evaluate("location.origin") + "/?q=red&not=blue")


def test_saving_asks_for_a_write_key(visit: Callable[..., Page], db: Path) -> None:
    with listening(db, keys=(READ, WRITE)) as locked:
        page = visit("/?q=red", at=locked)
        page.get_by_label("Key", exact=True).fill(READ.split(":")[2])
        page.keyboard.press("Enter")
        save(page, "reds")
        dialog = page.get_by_role("dialog", name="Write key required")
        dialog.get_by_label("Key").fill(WRITE.split(":")[2])
        page.keyboard.press("Enter")
        expect(page.locator("#toast")).to_have_text("Saved as reds")


def test_a_mistake_is_said_in_the_dialog(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    save(page, "   ")
    alert = page.get_by_role("dialog", name="Save this search").get_by_role("alert")
    expect(alert).to_contain_text("1 to 100 characters")


def test_a_name_that_is_taken_is_said_before_its_search_is_replaced(
    visit: Callable[..., Page], db: Path
) -> None:
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.save_search("mine", "blue")
    page = visit("/?q=red")
    with page.expect_response("**/v1/searches*"):
        page.get_by_role("button", name="Save …").click()
    dialog = page.get_by_role("dialog", name="Save this search")
    dialog.get_by_label("Name").fill(" mine")
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("There is a search called mine")
    assert stored(page)[0]["search"] == {"query": ["blue"]}
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#toast")).to_have_text("Saved as mine")
    assert stored(page) == [{"name": "mine", "search": {"query": ["red"]}}]


def test_axe_finds_nothing(visit: Callable[..., Page], db: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.save_search("reds", "red")
    for phone in (False, True):
        page = visit(phone=phone, reduced_motion="reduce")
        expect(saved(page)).to_have_count(1)
        assert [one["id"] for one in axe.run(page).response["violations"]] == []
        page.get_by_role("button", name="reds", exact=True).click()
        page.get_by_role("button", name="Save …").click()
        expect(page.get_by_role("dialog", name="Save this search")).to_be_visible()
        assert [one["id"] for one in axe.run(page).response["violations"]] == []


def test_in_german(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red", locale="de-DE")
    page.get_by_role("button", name="Speichern …").click()
    expect(page.get_by_role("dialog", name="Diese Suche speichern")).to_be_visible()

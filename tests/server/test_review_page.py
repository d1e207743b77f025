"""Test the review page in a real browser, against a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Page, expect, listening
from support.colours import COLOURS, ColourEncoder
from support.policies import RULES
from support.serving import READ, WRITE, paint

import twinlens


@pytest.fixture
def db(tmp_path: Path) -> Path:
    photos = paint(tmp_path / "photos")
    (photos / "red.txt").write_text("<img src=x onerror=alert(1)> red\n")
    (tmp_path / "rules.toml").write_text(RULES)
    with twinlens.open(tmp_path / "review.db", model=ColourEncoder()) as index:
        index.ingest(photos, policy=tmp_path / "rules.toml")
    return tmp_path / "review.db"


@pytest.fixture
def address(db: Path) -> Iterator[str]:
    with listening(db, keys=(READ, WRITE)) as found:
        yield found


def cards(page: Page) -> Any:
    return page.locator(".review-card")


def enter(page: Page, entry: str) -> None:
    page.get_by_label("Write key", exact=True).fill(entry.split(":")[2])
    page.get_by_role("button", name="Continue").click()


def test_a_reviewer_decides(visit: Callable[..., Page], db: Path) -> None:
    page = visit("/review")
    expect(page.get_by_role("dialog")).to_contain_text("Write key required")
    enter(page, READ)
    expect(page.get_by_role("alert")).to_contain_text("it needs the scope write")
    enter(page, WRITE)
    expect(cards(page)).to_have_count(2)
    red = cards(page).filter(has_text="Held back by rules@1")
    expect(red).to_contain_text("<img src=x onerror=alert(1)> red")
    expect(red.locator(".review-flags li")).to_contain_text("red ")
    assert red.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    blue = cards(page).filter(has_text="Flagged by rules@1, and shown in searches")
    blue.get_by_role("button", name="Hold back").click()
    expect(cards(page)).to_have_count(1)
    expect(page.locator("#toast")).to_have_text("blue.png: held back")
    red.get_by_role("button", name="Release").click()
    expect(page.get_by_text("Nothing to review.")).to_be_visible()
    page.get_by_label("Pictures to list").select_option("decided")
    expect(cards(page)).to_have_count(2)
    expect(cards(page).filter(has_text="Decided: held back (rules@1)")).to_contain_text("blue")
    released = cards(page).filter(has_text="Decided: released (rules@1)")
    released.get_by_role("button", name="Hold back").click()
    expect(cards(page).filter(has_text="Decided: held back")).to_have_count(2)


def test_without_keys_nothing_is_asked(visit: Callable[..., Page], db: Path) -> None:
    with listening(db) as at:
        page = visit("/?q=red", at=at)
        expect(page.locator("#results .tile-link")).to_have_count(len(COLOURS) - 1)
        page.get_by_role("link", name="Review flagged pictures").click()
        expect(cards(page)).to_have_count(2)
        page.get_by_role("button", name="Release").click()
        expect(cards(page)).to_have_count(1)
        page.get_by_role("link", name="Search page").click()
        page.get_by_role("textbox", name="Words to look for").fill("red")
        expect(page.locator("#results .tile-link")).to_have_count(len(COLOURS))


def test_a_collection_without_a_policy_has_no_link(
    visit: Callable[..., Page], tmp_path: Path
) -> None:
    with twinlens.open(tmp_path / "plain.db", model=ColourEncoder()) as index:
        index.ingest(paint(tmp_path / "others"))
    with listening(tmp_path / "plain.db") as at:
        page = visit(at=at)
        expect(page.get_by_text("8 pictures and 8 captions")).to_be_visible()
        expect(page.get_by_role("link", name="Review flagged pictures")).to_be_hidden()
        page = visit("/review", at=at)
        expect(page.get_by_text("Nothing to review.")).to_be_visible()


def test_collections_are_chosen_and_the_key_is_kept(
    visit: Callable[..., Page], db: Path, tmp_path: Path
) -> None:
    with twinlens.open(db, "other", model=ColourEncoder()) as index:
        index.ingest(tmp_path / "photos/red.png", policy=tmp_path / "rules.toml")
    page = visit("/review")
    enter(page, WRITE)
    expect(cards(page)).to_have_count(2)
    page.get_by_label("Collection").select_option("other")
    expect(cards(page)).to_have_count(1)
    expect(page).to_have_url(re.compile(r"/review\?collection=other$"))
    page.get_by_role("button", name="Release").click()
    expect(cards(page)).to_have_count(0)
    page.get_by_label("Collection").select_option("twinlens")
    expect(cards(page)).to_have_count(2)
    expect(page).to_have_url(re.compile("/review$"))
    page.reload()
    expect(page.get_by_role("link", name="Search page")).to_have_attribute("href", "/")

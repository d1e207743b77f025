"""The page's texts for pictures without captions, and its question about one picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.browser import Page, expect, listening
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.ingest.describe import write_sidecar


class SureEncoder(ColourEncoder):
    """Its true pairs are certain, even if few captions fit."""

    sigmoid = (40.0, -25.0)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with captions; others without, ``bare``; one with a proposed caption, ``told``."""
    folder = tmp_path_factory.mktemp("proposals")
    for name, size in (("photos", (40, 30)), ("bare", (44, 30)), ("told", (48, 30))):
        (folder / name).mkdir()
        for colour, pixel in COLOURS.items():
            Image.new("RGB", size, pixel).save(folder / name / f"{colour}.png")
            if name == "photos":
                (folder / name / f"{colour}.txt").write_text(f"a {colour} picture\n")
    with twinlens.open(folder / "page.db", model=SureEncoder()) as index:
        index.ingest(folder / "photos")
        for one in index.describe(folder / "told" / "purple.png"):
            write_sidecar(one)
        index.ingest(folder / "bare")
        index.ingest(folder / "told" / "purple.png")
    return folder / "page.db"


@pytest.fixture(scope="module")
def address(db: Path) -> Iterator[str]:
    with listening(db, SureEncoder()) as found:
        yield found


Visit = Callable[..., Page]
RED = "/?q=red&where=path+startswith+%22red%22+and+captions+is+unknown"


def test_a_picture_without_a_caption_is_named_by_a_proposal(visit: Visit) -> None:
    page = visit("/?q=red&where=path+startswith+%22red%22")
    links = page.locator("#results .tile-link")
    expect(links).to_have_count(2)
    proposed = page.get_by_role("link", name="Perhaps: a red picture, red.png, ")
    expect(proposed).to_have_count(1)
    expect(proposed.locator("img")).to_have_attribute("alt", "Perhaps: a red picture")
    written = page.get_by_role("link", name=re.compile("^a red picture, "))
    expect(written.locator("img")).to_have_attribute("alt", "a red picture")


def test_a_proposed_caption_is_marked_wherever_it_is_shown(visit: Visit) -> None:
    where = "caption_source+%3D%3D+%22proposed%22"
    page = visit(f"/?q=purple&where={where}")
    link = page.get_by_role("link", name=re.compile("^Perhaps: a purple picture, "))
    expect(link).to_have_count(1)
    link.click()
    expect(page.get_by_role("dialog")).to_have_accessible_name("Perhaps: a purple picture")
    expect(page.get_by_role("list", name="Captions")).to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="Captions").check(force=True)
    expect(page.locator(".card-words")).to_have_text("Perhaps: a purple picture")
    page.locator(".card-link").click()
    large = page.get_by_role("dialog").locator("img.large")
    expect(large).to_have_attribute("alt", "Perhaps: a purple picture")


def test_the_viewer_says_what_a_picture_may_show(visit: Visit) -> None:
    page = visit(RED)
    page.locator("#results .tile-link").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_have_accessible_name("red.png")
    expect(dialog.locator(".viewer-proposal")).to_have_text("Perhaps: a red picture")
    expect(dialog.locator("img.large")).to_have_attribute("alt", "Perhaps: a red picture")


def test_proposals_are_asked_once_for_what_is_in_view_and_never_hold_up_hits(
    visit: Visit,
) -> None:
    page = visit(viewport={"width": 700, "height": 400})
    asked: list[list[str]] = []
    held: list[Any] = []

    def hold_the_first(route: Any) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    page.on("request", lambda request: _note(request, asked))
    page.route("**/v1/describe", hold_the_first)
    with page.expect_request("**/v1/describe"):
        page.get_by_role("textbox", name="Words to look for").fill("red")
    links = page.locator("#results .tile-link")
    expect(links).to_have_count(17)
    expect(links.first.locator("img")).to_have_class("loaded")
    in_view = page.evaluate(
        """() => [...document.querySelectorAll(".tile-link")]
            .filter((link) => link.getBoundingClientRect().top < innerHeight)
            .filter((link) => /^\\w+[.]png, /.test(link.ariaLabel))
            .map((link) => link.dataset.id)"""
    )
    assert sorted(asked[0]) == sorted(in_view)
    assert 0 < len(in_view) < 8
    held[0].continue_()
    for top in range(0, 4_000, 300):
        page.evaluate("top => scrollTo(0, top)", top)
        page.wait_for_timeout(60)
    expect(page.locator('[aria-label^="Perhaps: "]')).to_have_count(9)
    ids = [key for some in asked for key in some]
    assert len(ids) == len(set(ids)) == 8
    page.get_by_role("textbox", name="Words to look for").fill("blue")
    expect(page).to_have_url(re.compile("blue$"))
    expect(page.locator('[aria-label^="Perhaps: a blue picture"]')).to_have_count(1)
    assert sum(map(len, asked)) == 8, "known already"


def _note(request: Any, asked: list[list[str]]) -> None:
    if request.url.endswith("/v1/describe"):
        asked.append(request.post_data_json["ids"])


def test_without_proposals_the_file_name_stays(visit: Visit) -> None:
    page = visit()
    refused = {"status": 429, "json": {"type": "/problems/busy", "title": "Busy"}}
    page.route("**/v1/describe", lambda route: route.fulfill(**refused))
    with page.expect_response("**/v1/describe"):
        page.goto(f"{page.url}?q=red")
    expect(page.get_by_role("link", name=re.compile(r"^red\.png, "))).to_have_count(1)
    assert page.get_by_role("alert").count() == 0


def test_the_map_names_pictures_by_proposals_too(visit: Visit) -> None:
    page = visit("/map")
    entries = page.locator("#list a")
    expect(entries).to_have_count(17)
    expect(entries.filter(has_text="Perhaps: a red picture (red.png)")).to_have_count(1)
    expect(entries.get_by_text("Perhaps: a purple picture", exact=True)).to_have_count(1)
    expect(entries.get_by_text("a red picture", exact=True)).to_have_count(1)
    entry = entries.filter(has_text="Perhaps: a red picture (red.png)")
    page.keyboard.press("Tab")
    entry.focus()
    expect(page.locator("#card img")).to_have_attribute("alt", "Perhaps: a red picture (red.png)")


def test_does_it_show_this(visit: Visit) -> None:
    page = visit(RED)
    page.locator("#results .tile-link").first.click()
    dialog = page.get_by_role("dialog")
    question = dialog.get_by_label("Does it show …?")
    answer = dialog.get_by_role("status")
    expect(answer).to_have_attribute("aria-live", "polite")
    question.fill("a red picture")
    with page.expect_request("**/v1/search") as sent:
        question.press("Enter")
    body = sent.value.post_data_json
    assert (body["query"], body["limit"], body["collection"]) == (["a red picture"], 1, "twinlens")
    expect(answer).to_have_text(re.compile(r"^Very probably, (over )?\d\d%: “a red picture”$"))
    question.fill("a blue picture")
    expect(answer).to_have_text("")
    dialog.get_by_role("button", name="Ask").click()
    expect(answer).to_have_text(re.compile(r"^Probably not, (under )?\d%: “a blue picture”$"))
    question.fill("  ")
    question.press("Enter")
    expect(answer).to_have_text("Write what the picture may show.")
    expect(question).to_be_focused()


def test_the_question_stays_for_the_next_picture(visit: Visit) -> None:
    page = visit("/?q=red")
    page.locator("#results .tile-link").first.click()
    dialog = page.get_by_role("dialog")
    question = dialog.get_by_label("Does it show …?")
    question.fill("red")
    name = dialog.get_attribute("aria-labelledby")
    heading = page.locator(f"#{name}")
    before = heading.inner_text()
    question.press("ArrowLeft")
    question.press("ArrowRight")
    assert heading.inner_text() == before, "arrow keys move in the text"
    question.press("Enter")
    expect(dialog.get_by_role("status")).to_contain_text("Very probably")
    page.get_by_role("button", name="Next result").click()
    page.get_by_role("button", name="Next result").click()
    expect(dialog.get_by_role("status")).to_have_text("")
    expect(question).to_have_value("red")
    question.press("Enter")
    expect(dialog.get_by_role("status")).to_contain_text("Probably not")


def test_an_error_is_said_at_the_question(visit: Visit) -> None:
    page = visit(RED)
    page.locator("#results .tile-link").first.click()
    dialog = page.get_by_role("dialog")
    page.route("**/v1/search", lambda route: route.abort())
    dialog.get_by_label("Does it show …?").fill("red")
    dialog.get_by_role("button", name="Ask").click()
    expect(dialog.get_by_role("status")).to_have_text(
        "The server does not answer. It may have stopped, or the network is down."
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(RED, color_scheme=scheme, reduced_motion="reduce")
    expect(page.get_by_role("link", name=re.compile("^Perhaps: "))).to_have_count(1)
    page.locator("#results .tile-link").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".viewer-proposal")).to_be_visible()
    dialog.get_by_label("Does it show …?").fill("red")
    dialog.get_by_role("button", name="Ask").click()
    expect(dialog.get_by_role("status")).to_contain_text("Very probably")
    found = axe.run(page, options={"resultTypes": ["violations"]}).response
    bad = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert not bad, [(one["id"], [node["html"] for node in one["nodes"]]) for one in bad]

"""Test what the pages say of albums, tags, saved searches and pictures that are gone meanwhile."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Page, expect, listening
from support.serving import painted_db

#: An id that no picture has.
GONE = "ab" * 16


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with listening(painted_db(tmp_path)) as found:
        yield found


@pytest.fixture
def ask(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Calls the API as somebody else does: ``ask("POST", "/v1/albums", {...})``."""
    context = browser.new_context()

    def asked(method: str, path: str, body: object = None) -> Any:
        options = {"data": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        answer = context.request.fetch(
            address + path, method=method, **({} if body is None else options)
        )
        assert answer.ok, answer.text()
        return answer.json() if answer.text() else None

    yield asked
    context.close()


@pytest.fixture
def ids(ask: Callable[..., Any]) -> list[str]:
    return [one["id"] for one in ask("GET", "/v1/browse")["items"]]


KINDS = {
    "album": ('Rome "04"', 'There is no album Rome "04"', 'Es gibt kein Album Rome "04"'),
    "tag": ("to print", "No picture is tagged to print", "Kein Bild hat das Schlagwort to print"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("others", [True, False], ids=["beside others", "the only one"])
def test_a_label_of_an_open_picture(
    visit: Callable[..., Page], ask: Callable[..., Any], ids: list[str], kind: str, others: bool
) -> None:
    name, said, _ = KINDS[kind]
    ask("POST", f"/v1/{kind}s", {kind: name, "add": ids[:2]})
    if others:
        ask("POST", f"/v1/{kind}s", {kind: "kept", "add": ids[:1]})
    page = visit(f"/?q=red&open={ids[0]}")
    label = page.locator(".details").get_by_role("button", name=name, exact=True)
    expect(label).to_be_visible()
    ask("POST", f"/v1/{kind}s", {kind: name, "remove": ids[:2]})
    label.click()
    expect(page.locator("#toast")).to_have_text(
        f"{said} any more: the page shows what there is now"
    )
    expect(label).to_have_count(0)
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("button", name="kept", exact=True)).to_have_count(int(others))


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_in_a_filter(
    visit: Callable[..., Page], ask: Callable[..., Any], ids: list[str], kind: str
) -> None:
    name, said, german = KINDS[kind]
    ask("POST", f"/v1/{kind}s", {kind: name, "add": ids[:2]})
    [label] = ask("GET", f"/v1/{kind}s")[f"{kind}s"]
    page = visit("/?q=red&where=width+>+3")
    page.get_by_text(re.compile(rf"^{kind.title()}s")).click()
    ask("POST", f"/v1/{kind}s", {kind: name, "remove": ids[:2]})
    page.get_by_role("button", name=re.compile(f"^{name}")).click()
    heading = page.locator("#results").get_by_role("heading")
    expect(heading).to_have_text(said)
    expect(page.locator("#status")).to_have_text(said)
    link = page.url
    page.get_by_role("button", name="Remove it from the filter").click()
    expect(page.locator("#summary")).to_contain_text("match")
    expect(page.get_by_label("Filter", exact=True)).to_have_value("width > 3")
    address, _, query = link.partition("?")
    other = visit(f"/?{query}", locale="de-DE")
    expect(other.get_by_role("heading", name=german)).to_be_visible()
    ask("PUT", "/v1/searches", {"name": "old", "search": {"where": label["where"]}})
    other.goto(address)
    other.get_by_role("button", name="old", exact=True).click()
    expect(other.get_by_role("heading", name=german)).to_be_visible()
    other.get_by_role("button", name="Aus dem Filter entfernen").click()
    expect(other.get_by_role("heading", name="Alle Bilder")).to_be_visible()


def test_a_label_that_no_collection_ever_had(visit: Callable[..., Page]) -> None:
    """The field is not known, either, so the server says that the filter is wrong."""
    page = visit("/?where=albums+has+%22Rome%22")
    expect(page.locator("#results").get_by_role("heading")).to_have_text("There is no album Rome")
    expect(page.locator("#filter-error")).to_be_hidden()


def test_a_filter_that_matches_nothing_for_another_reason(
    visit: Callable[..., Page], ask: Callable[..., Any], ids: list[str]
) -> None:
    ask("POST", "/v1/albums", {"album": "Rome", "add": ids[:2]})
    page = visit("/?where=albums+has+%22Rome%22+and+width+>+4000")
    with page.expect_response("**/v1/albums?*"):
        page.reload()
    heading = page.locator("#results").get_by_role("heading")
    expect(heading).to_have_text("No picture matches the filter.")


def test_a_saved_search_that_somebody_else_removed(
    visit: Callable[..., Page], ask: Callable[..., Any]
) -> None:
    for name in ("one", "two"):
        ask("PUT", "/v1/searches", {"name": name, "search": {"query": ["red"]}})
    page = visit()
    saved = page.get_by_role("list", name="Saved searches")
    for name in ("one", "two"):
        expect(saved).to_be_visible()
        ask("DELETE", f"/v1/searches?name={name}")
        page.get_by_role("button", name=f"Remove: {name}").click()
        expect(page.locator("#toast")).to_have_text(f"Somebody else has removed {name} already")
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(page.get_by_role("heading", name="Saved searches")).to_be_hidden()


@pytest.mark.parametrize("query", ["id={}", "q=red&unlike={}", "id={}&unlike={}&where=width+>+3"])
def test_a_picture_in_a_query(visit: Callable[..., Page], query: str) -> None:
    page = visit(f"/?{query.format(GONE, GONE)}")
    said = "The search names a picture that is not in the collection"
    expect(page.get_by_role("alert").get_by_role("heading")).to_have_text(said)
    page.get_by_role("button", name="Remove the picture").click()
    expect(page.locator("#results .tile[data-id]").first).to_be_visible()
    assert GONE not in page.url


def test_a_picture_to_open(visit: Callable[..., Page]) -> None:
    page = visit(f"/?open={GONE}")
    expect(page.locator("#toast")).to_have_text("The picture is no longer in the collection.")
    page = visit(f"/?open={GONE}", locale="de-DE")
    expect(page.locator("#toast")).to_have_text("Das Bild ist nicht mehr in der Sammlung.")


def test_an_answer_that_is_no_longer_wanted_is_no_error(visit: Callable[..., Page]) -> None:
    page = visit()
    name = page.evaluate(
        """async () => {
          const body = () => Promise.reject(new DOMException("", "AbortError"));
          const headers = new Headers();
          window.fetch = async () => ({ ok: false, status: 404, headers, json: body });
          const { item } = await import("/static/shared/api.js");
          return item("00", "").catch((error) => error.name);
        }"""
    )
    assert name == "AbortError"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("where=albums+has+%22Rome%22", "There is no album Rome. Clear the search to go on"),
        ("q=red&where=tags+has+%22x%22", "No picture is tagged x. Clear the search to go on"),
        (
            f"id={GONE}",
            "The search names a picture that is not in the collection. Clear the search to go on",
        ),
        ("where=width+>+4000", "Nothing on the map for the filter width > 4000"),
        ("q=red&where=width+>+4000", "Nothing on the map for “red” with the filter width > 4000"),
    ],
)
def test_the_map(
    visit: Callable[..., Page], ask: Callable[..., Any], ids: list[str], query: str, said: str
) -> None:
    ask("POST", "/v1/albums", {"album": "Paris", "add": ids[:1]})
    page = visit(f"/map?{query}")
    expect(page.locator("#status")).to_have_text(said)
    page.get_by_role("button", name="Show the whole map").click()
    page.wait_for_timeout(600)  # the map settles, and counts what is in view
    expect(page.locator("#status")).to_have_text(said)
    page.get_by_role("button", name="Clear the search").click()
    expect(page.locator("#status")).to_have_text("8 pictures in view")


def test_a_filter_alone_is_shown_on_the_map(
    visit: Callable[..., Page], ask: Callable[..., Any], ids: list[str]
) -> None:
    ask("POST", "/v1/albums", {"album": "Rome", "add": ids[:3]})
    page = visit("/?where=albums+has+%22Rome%22")
    expect(page.locator("#summary")).to_have_text("3 pictures")
    page.get_by_role("link", name="Map").click()
    said = '8 pictures in view · 3 highlighted for the filter albums has "Rome"'
    expect(page.locator("#status")).to_have_text(said)
    expect(page).to_have_title('albums has "Rome" · Map · twinlens')
    expect(page.locator("#list .highlighted")).to_have_count(3)


def test_the_map_of_a_collection_that_is_gone(visit: Callable[..., Page]) -> None:
    page = visit("/map?collection=nope", locale="de-DE")
    expect(page.locator("#message")).to_contain_text("Es gibt keine Sammlung nope")
    page = visit("/?collection=nope", locale="de-DE")
    expect(page.get_by_role("alert")).to_contain_text("Es gibt keine Sammlung nope")

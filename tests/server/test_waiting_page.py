"""Test what the search page does while the server is away, and when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Page, expect, listening
from support.colours import ColourEncoder
from support.serving import paint

import twinlens


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("waiting")
    with twinlens.open(folder / "x.db", model=ColourEncoder()) as index:
        index.ingest(paint(folder / "painted"))
    with listening(folder / "x.db") as found:
        yield found


def test_the_page_recovers_when_the_server_is_back(visit: Callable[..., Page]) -> None:
    page = visit()
    expect(page.locator(".timeline .tile-link").first).to_be_visible()
    for away in ("**/v1/**", "**/healthz", "**/static/**"):
        page.route(away, lambda route: route.abort())
    page.get_by_role("textbox", name="Words to look for").fill("red")
    alert = page.get_by_role("alert")
    expect(alert.get_by_text("The server does not answer")).to_be_visible()
    box = alert.locator("svg use").bounding_box()
    assert box["width"] > 10, "the icon is there without the server"
    page.unroute_all()
    expect(page.get_by_role("link", name="a red picture").first).to_be_visible()
    expect(alert).to_be_hidden()


def test_try_again_is_busy_while_it_tries(visit: Callable[..., Page]) -> None:
    page = visit()
    held: list[Any] = []
    page.route("**/healthz", lambda route: route.abort())
    page.route("**/v1/search", lambda route: route.abort(), times=1)
    page.get_by_role("textbox", name="Words to look for").fill("red")
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    page.route("**/v1/search", lambda route: held.append(route))
    again.click()
    busy = page.get_by_role("button", name="Trying …")
    expect(busy).to_be_disabled()
    held[0].continue_()
    expect(page.get_by_role("link", name="a red picture").first).to_be_visible()
    expect(busy).to_be_hidden()

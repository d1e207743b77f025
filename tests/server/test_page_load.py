"""How much a browser loads, and in which order, until the start screen shows its first example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from support.browser import Page, expect, listening
from support.colours import COLOURS, ColourEncoder
from support.serving import READ

import twinlens
from twinlens.server.routes import examples

#: Bytes until the first example, without pictures: a second and a half at 400 kbit/s.
MAX_BYTES = 70_000

#: Records what scripts fetch; a request that the browser made early is one of theirs, too, if used.
RECORD = """window.fetched = [];
const original = window.fetch;
window.fetch = (path, ...rest) => { window.fetched.push(path); return original(path, ...rest); };
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("load")
    for colour, pixel in COLOURS.items():
        Image.new("RGB", (40, 30), pixel).save(folder / f"{colour}.png")
    with twinlens.open(folder / "load.db", model=ColourEncoder()) as index:
        index.ingest(folder)
    patch = pytest.MonkeyPatch()
    patch.setattr(examples, "EXAMPLES", tuple(f"a {colour} picture" for colour in COLOURS))
    patch.setattr(examples, "MIN_RELEVANCE", 0.0)
    with listening(folder / "load.db") as found:
        yield found
    patch.undo()


class Traffic:
    """Records over DevTools what a page loads, with the bytes as they were sent."""

    def __init__(self, page: Page) -> None:
        self.paths: list[str] = []
        self.bytes = 0
        self.cached: list[str] = []
        self._of: dict[str, str] = {}
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.requestWillBeSent", self._sent)
        session.on("Network.responseReceived", self._received)
        session.on("Network.requestServedFromCache", self._reused)
        session.on("Network.loadingFinished", self._finished)

    def before(self, path: str) -> list[str]:
        """What was asked for before the first request whose path ends so."""
        ends = [one.endswith(path) for one in self.paths]
        return self.paths[: ends.index(True)]

    def _sent(self, event: dict[str, Any]) -> None:
        path = urlsplit(event["request"]["url"]).path
        if path == "/favicon.ico":  # of the page without an icon from which the browser came
            return
        self._of[event["requestId"]] = path
        self.paths.append(path)

    def _received(self, event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            self.cached.append(self._of.get(event["requestId"], ""))

    def _reused(self, event: dict[str, Any]) -> None:
        self.cached.append(self._of.get(event["requestId"], ""))

    def _finished(self, event: dict[str, Any]) -> None:
        if not self._of.get(event["requestId"], "").endswith("/thumbnail"):
            self.bytes += int(event["encodedDataLength"])


def _start_page(visit: Callable[..., Page]) -> tuple[Page, Traffic]:
    page = visit("/healthz")
    traffic = Traffic(page)
    page.goto(page.url.removesuffix("healthz"))
    expect(page.locator(".example img").first).to_be_visible()
    return page, traffic


def test_few_requests_come_before_the_first_example(visit: Callable[..., Page]) -> None:
    _, traffic = _start_page(visit)
    before = traffic.before("/thumbnail")
    names = {Path(path).name for path in before}
    assert names <= {"", "collections", "examples", "icon.svg", "icons.svg", "index.css",
                     "main.js", "theme.js"}, before  # fmt: skip
    # What the start screen shows is asked for before the script runs, and not once more.
    assert before.index("/v1/examples") < before.index("/static/" + _version(before) + "main.js")
    assert before.count("/v1/examples") == before.count("/v1/collections") == 1
    assert traffic.bytes < MAX_BYTES


def test_the_next_visit_loads_no_file_again(visit: Callable[..., Page]) -> None:
    page, first = _start_page(visit)
    again = Traffic(page)
    page.goto(page.url)
    expect(page.locator(".example img").first).to_be_visible()
    assert {"main.js", "index.css"} <= {Path(path).name for path in again.cached}
    assert again.bytes * 4 < first.bytes


def test_a_search_does_not_load_the_examples(visit: Callable[..., Page]) -> None:
    page = visit("/healthz")
    traffic = Traffic(page)
    page.goto(page.url.replace("healthz", "?q=red"))
    expect(page.locator("#results .tile-link").first).to_be_visible()
    assert "/v1/examples" not in traffic.paths
    assert "/v1/search" in traffic.paths


@pytest.mark.parametrize("settings", [{"keys": (READ,)}, {}], ids=["with keys", "empty"])
def test_what_was_asked_for_early_is_used(
    visit: Callable[..., Page], tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Otherwise the browser warns in its console, some seconds after the page was loaded."""
    with listening(tmp_path / "empty.db", **settings) as other:
        page = visit("/healthz", at=other)
        page.add_init_script(RECORD)
        traffic = Traffic(page)
        page.goto(f"{other}/")
        if settings:
            expect(page.get_by_role("dialog")).to_be_visible()
        else:
            expect(page.get_by_text("There are no pictures here yet.")).to_be_visible()
        fetched = page.evaluate("window.fetched")
    for path in ("/v1/examples", "/v1/collections"):
        assert fetched.count(path) == traffic.paths.count(path) == 1


def _version(paths: list[str]) -> str:
    """The part of the address of the page's script that changes with its contents."""
    (script,) = (path for path in paths if path.endswith("/main.js"))
    return script.removeprefix("/static/").removesuffix("main.js")

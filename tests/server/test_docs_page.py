"""``/docs``: the OpenAPI document for people, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.browser import PHONE, Page, expect, listening
from support.serving import READ, painted_db, serving

from twinlens.server import assets
from twinlens.server.routes import page as page_routes


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def address(db: Path) -> Iterator[str]:
    with listening(db, keys=(READ,)) as found:
        yield found


@pytest.fixture
def page(visit: Callable[..., Page], address: str) -> Page:
    opened = visit("/docs")
    expect(opened.locator(".opblock").first).to_be_visible()
    return opened


def test_every_operation_is_shown_and_no_other_host_is_asked(
    visit: Callable[..., Page], address: str
) -> None:
    page = visit("/healthz")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    document = json.loads(page.goto(f"{address}/openapi.json").text())
    page.goto(f"{address}/docs")
    count = sum(len(path) for path in document["paths"].values())
    expect(page.locator(".opblock")).to_have_count(count)
    # `visit` fails the test if the page's policy blocks anything.
    assert all(url.startswith((f"{address}/", "data:", "blob:")) for url in asked)
    assert any(url.endswith("/docs/swagger-ui-bundle.js") for url in asked)


def test_an_example_can_be_sent_with_a_key(page: Page) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".modal-ux")
    dialog.locator("input[type=text], input[type=password]").first.fill(READ.split(":")[2])
    dialog.locator("button.authorize").first.click()
    dialog.locator("button.btn-done").first.click()
    operation = page.locator("#operations-search-search")
    operation.locator(".opblock-summary").click()
    operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table .response").first
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text("took_ms")


def test_our_part_of_the_page_is_accessible(page: Page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here")
    # Swagger UI's own elements are not ours to change.
    found = axe.Axe().run(page, context={"exclude": [[".swagger-ui"]]}).response["violations"]
    assert [(one["id"], one["nodes"]) for one in found] == []


def test_it_fits_a_phone(visit: Callable[..., Page]) -> None:
    page = visit("/docs", phone=True)
    expect(page.locator(".opblock").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_without_swagger_ui_there_is_a_hint(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_swagger", dict)
    monkeypatch.setattr(page_routes, "page_assets", assets.Assets.read)
    with serving(db) as client:
        answer = client.get("/docs")
        assert (answer.status_code, "twinlens[serve]" in answer.text) == (404, True)
        assert client.get("/").status_code == 200
    with serving(db, page=False) as client:
        assert client.get("/docs").status_code == 404

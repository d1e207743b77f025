"""Open pages of a real server in Chromium; modules that import this need Playwright."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.colours import ColourEncoder
from support.serving import library_of

from twinlens.server.app import create_app
from twinlens.server.run import listen
from twinlens.server.settings import Settings

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = sync_api.expect
expect.set_options(timeout=20_000)
Page = Any

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]  # fmt: skip
PHONE = {"width": 390, "height": 844}
#: The browser logs this for error responses, which some tests cause on purpose.
REFUSED = "Failed to load resource"


@contextmanager
def listening(db: Path, encoder: ColourEncoder | None = None, **settings: Any) -> Iterator[str]:
    """Run a server in a thread; yield its address."""
    import uvicorn

    library = library_of(db, encoder or ColourEncoder())
    chosen = Settings(media=db.with_suffix(".media"), warm=False, **settings)
    server = uvicorn.Server(uvicorn.Config(create_app(library, chosen), log_config=None, ws="none"))
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            library.close()


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; the test is skipped where there is none."""
    known = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, known)), None)
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def visiting(browser: Any, address: str) -> Iterator[Callable[..., Page]]:
    """Open pages: ``visit("/?q=red", phone=True)``. Errors in the browser fail the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(path: str = "/", *, phone: bool = False, at: str = address, **options: Any) -> Page:
        if phone:
            options |= {"viewport": PHONE, "has_touch": True, "is_mobile": True}
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: _complain(said, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(at + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def _complain(said: Any, complaints: list[str]) -> None:
    if said.type in ("error", "warning") and not said.text.startswith(REFUSED):
        complaints.append(said.text)

"""Take the screenshots of the pages for the README and the guide.

Usage: python samples/screenshots.py DB, with the database that ``make demo`` creates. Requires
Playwright and Chromium; writes docs/page*.webp and docs/map.webp.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parents[1] / "docs"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
DESKTOP = {"viewport": {"width": 1200, "height": 760}}
PHONE = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}
#: For the map to stop moving.
SETTLE_MS = 1_000
#: Of WebP.
QUALITY = 80


@dataclass(frozen=True)
class Shot:
    """A picture of a page.

    Attributes:
        name: of the file, without its ending.
        where: the address.
        options: of the browser context.
        ready: what must be there before it is taken.
        click: what is clicked first.
    """

    name: str
    where: str
    options: dict[str, Any]
    ready: str = ".tile img.loaded"
    click: tuple[str, ...] = ()


SHOTS = (
    Shot("page", "/?q=mountains", DESKTOP),
    Shot("page-dark", "/", DESKTOP | {"color_scheme": "dark"}),
    Shot("page-phone", "/?q=mountains", PHONE),
    Shot(
        "page-picture",
        "/?q=a+castle+on+a+hill",
        DESKTOP,
        ready=".why li",
        click=(".tile-link", ".why summary"),
    ),
    Shot(
        "map", "/map?q=mountains", DESKTOP, ready='#canvas[data-pictures]:not([data-pictures="0"])'
    ),
)
#: True when no picture in the window is still being loaded.
ALL_LOADED = """() => [...document.images].every((image) => {
  const { top, bottom } = image.getBoundingClientRect();
  const seen = image.checkVisibility() && bottom > 0 && top < innerHeight;
  return !seen || (image.complete && image.naturalWidth > 0);
})"""


def main(db: str) -> None:
    """Start a server, take the screenshots, stop the server."""
    browsers = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    path = next(filter(None, browsers), None)
    if path is None:
        sys.exit("Chromium is not installed")
    with serving(db) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        # The first search is slow, because it loads the model.
        first = browser.new_page()
        first.goto(f"{address}/?q=first")
        first.wait_for_selector(".tile-link", timeout=120_000)
        for shot in SHOTS:
            page = browser.new_context(**shot.options).new_page()
            page.goto(address + shot.where)
            for target in shot.click:
                page.locator(target).first.click()
            page.locator(shot.ready).first.wait_for()
            page.wait_for_load_state("networkidle")
            page.wait_for_function(ALL_LOADED)
            page.wait_for_timeout(SETTLE_MS)
            save(page.screenshot(animations="disabled"), DOCS / f"{shot.name}.webp")
        browser.close()


@contextmanager
def serving(db: str) -> Iterator[str]:
    """Run ``twinlens serve``; yield its address."""
    with tempfile.TemporaryDirectory() as media:
        command = [
            sys.executable,
            "-m",
            "twinlens",
            "serve",
            "--db",
            db,
            "--port",
            "0",
            "--media",
            media,
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            found = re.search(r"http://\S+", said)
            if found is None:
                sys.exit("the server did not start")
            yield found[0]
        finally:
            server.terminate()
            server.wait()


def save(screenshot: bytes, path: Path) -> None:
    """Save as WebP, which takes a tenth of the bytes of a PNG."""
    with Image.open(BytesIO(screenshot)) as opened:
        opened.convert("RGB").save(path, quality=QUALITY, method=6)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

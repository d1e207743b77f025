"""Take the README's screenshots of the search page.

Usage: python samples/screenshots.py DB, with the database that ``make demo`` creates. Requires
Playwright and Chromium; writes docs/page.png and docs/page-phone.png.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parents[1] / "docs"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
#: File name, address, and options of the browser context.
SHOTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("page.png", "/?q=mountains", {"viewport": {"width": 1200, "height": 760}}),
    (
        "page-phone.png",
        "/",
        {
            "viewport": {"width": 390, "height": 780},
            "is_mobile": True,
            "has_touch": True,
            "color_scheme": "dark",
        },
    ),
)


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
        for name, where, options in SHOTS:
            page = browser.new_context(**options).new_page()
            page.goto(address + where)
            page.wait_for_selector(".tile img.loaded")
            page.wait_for_load_state("networkidle")
            save(page.screenshot(animations="disabled"), DOCS / name)
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
    """Save as PNG with 256 colours, which takes a third of the bytes."""
    with Image.open(BytesIO(screenshot)) as opened:
        image = opened.convert("RGB")
    # Reserve colours for the bar at the top: the photographs would use them all.
    top = image.crop((0, 0, image.width, 110)).quantize(24).getpalette()
    all_over = image.quantize(232, kmeans=2).getpalette()
    colours = Image.new("P", (1, 1))
    colours.putpalette([*(top or [])[:72], *(all_over or [])[: 232 * 3]])
    image.quantize(palette=colours).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

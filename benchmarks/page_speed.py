"""Time the search page in Chromium: from the last key of a query to the first picture.

Usage: python benchmarks/page_speed.py [--counts 1500,20000] [--queries 40]

Chromium and the server share the machine. The text tower is that of `starter`; rows of pictures are
random, since only their number matters. The time includes the 280 ms for which the page waits
whether another key follows. Thumbnails are new for each query, or cached, as they come.
Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from serve_load import words

import twinlens
from twinlens.search.milvus.database import Database
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.models.load import open_encoders
from twinlens.server.app import create_app
from twinlens.server.library import Library
from twinlens.server.run import listen
from twinlens.server.settings import Settings

WINDOW = {"width": 1400, "height": 900}
#: Resolves to the milliseconds from the last key to the first picture of the query.
MEASURE = """query => new Promise((resolve) => {
    const box = document.getElementById("words");
    box.value = query;
    const began = performance.now();
    box.dispatchEvent(new Event("input", { bubbles: true }));
    const look = () => {
        const asked = new URLSearchParams(location.search).get("q") === query;
        const image = document.querySelector("#results .shown:not(.waiting) .tile[data-id] img");
        if (asked && image && image.complete && image.naturalWidth) {
            resolve(performance.now() - began);
        } else requestAnimationFrame(look);
    };
    look();
})"""


class WordsOnly:
    """The text tower of `starter`, with random rows for pictures."""

    def __init__(self) -> None:
        self._starter = open_encoders("starter")
        self.fingerprint = self._starter.fingerprint
        self.image_batch = 256
        self._random = np.random.default_rng(0)

    def prepare(self, image: Image.Image) -> Pixels:
        return np.asarray(image.resize((2, 2)))

    def images(self, pixels: Pixels) -> Rows:
        shape = len(pixels), self.fingerprint.dim
        rows = self._random.normal(size=shape).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def texts(self, texts: Sequence[str]) -> Rows:
        return self._starter.texts(texts)


def make_pictures(folder: Path, count: int) -> None:
    """Make small pictures, each of other bytes."""
    folder.mkdir()
    random = np.random.default_rng(1)
    for number in range(count):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((400, 300)).save(folder / f"{number}.jpg", quality=80)


def measure(db: Path, encoder: WordsOnly, queries: int) -> list[float]:
    """Milliseconds of each query, all but the first."""
    import uvicorn
    from playwright.sync_api import sync_playwright

    library = Library(Database(str(db)), model=encoder)
    settings = Settings(media=db.with_suffix(".media"), warm=False)
    server = uvicorn.Server(uvicorn.Config(create_app(library, settings), log_config=None))
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport=WINDOW)
                page.goto(f"http://127.0.0.1:{bound.getsockname()[1]}/?q=warm")
                page.locator("#results .tile[data-id] img").first.wait_for()
                found = [page.evaluate(MEASURE, words(number)) for number in range(queries + 1)]
                browser.close()
        finally:
            server.should_exit = True
            thread.join()
            library.close()
    return [float(one) for one in found[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="1500,20000", help="numbers of pictures")
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    encoder = WordsOnly()
    for count in map(int, options.counts.split(",")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_pictures(folder / "pictures", count)
            with twinlens.open(folder / "page.db", model=encoder) as index:
                index.ingest(folder / "pictures")
            times = sorted(measure(folder / "page.db", encoder, options.queries))
        median, late = statistics.median(times), times[int(0.95 * (len(times) - 1))]
        print(f"{count:7,} pictures: from key to first picture {median:.0f} ms, p95 {late:.0f} ms")


if __name__ == "__main__":
    main()

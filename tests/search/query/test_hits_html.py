"""How a notebook shows hits."""

from __future__ import annotations

import ast
import base64
import io
import json
import pickle
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from support import ROOT
from support.colours import COLOURS, ColourEncoder
from support.serving import paint, served

import twinlens
from twinlens.search.errors import ImageError
from twinlens.search.query.hits import Hit, Hits
from twinlens.search.query.hits_html import MAX_PICTURES, MAX_SHOWN

HOSTILE = "<script>alert(1)</script>\"' onerror=x \u202e \x1b[2J"


class Elements(HTMLParser):
    """The elements of a piece of HTML, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[twinlens.Index]:
    photos = paint(tmp_path_factory.mktemp("notebook") / "photos")
    with twinlens.open(photos.parent / "notebook.db", model=ColourEncoder()) as opened:
        opened.ingest(photos)
        yield opened


def _pictures(hits: Hits) -> list[Image.Image]:
    sources = [one["src"] or "" for one in Elements(hits._repr_html_()).all("img")]
    data = [base64.b64decode(one.removeprefix("data:image/jpeg;base64,")) for one in sources]
    return [Image.open(io.BytesIO(one)) for one in data]


def test_a_search_shows_its_pictures(index: twinlens.Index) -> None:
    hits = index.search("a red picture", limit=3)
    first = _pictures(hits)[0]
    assert first.format == "JPEG"
    assert first.convert("RGB").getpixel((5, 5)) == pytest.approx(COLOURS["red"], abs=6)  # type: ignore[comparison-overlap]
    shown = Elements(hits._repr_html_())
    assert len(shown.all("figure")) == len(shown.all("img")) == 3
    assert "a red picture" in shown.words
    assert "red.png" in shown.words
    (texts,) = index.search_many(["blue"], target="texts", limit=1)
    assert len(_pictures(texts)) == 1


def test_a_search_over_http_shows_the_servers_pictures(tmp_path: Path) -> None:
    db = tmp_path / "served.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(paint(tmp_path / "photos"))
    with served(db) as address, twinlens.connect(address) as remote:
        pictures = _pictures(remote.search("blue", limit=2))
        assert len(pictures) == 2
        blue = pictures[0].convert("RGB").getpixel((5, 5))
        assert blue == pytest.approx(COLOURS["blue"], abs=6)  # type: ignore[comparison-overlap]


def test_everything_from_the_collection_is_escaped() -> None:
    hit = Hit("images", "a", 0.3, f"/{HOSTILE}.jpg", captions=(HOSTILE,), image_id="a")
    text = Hits([hit]).with_thumbnails(lambda key: b"\xff\xd8")._repr_html_()
    shown = Elements(text)
    assert {name for name, _ in shown.found} == {"div", "figure", "img", "figcaption", "b", "bdi",
                                                 "br"}  # fmt: skip
    assert not any(name.startswith("on") for _, one in shown.found for name in one)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_output_is_bounded() -> None:
    hits = Hits(
        Hit("images", f"{n}", 0.3, f"/{n}.jpg", captions=("word " * 5_000,), image_id=f"{n}")
        for n in range(1_000)
    )
    text = hits.with_thumbnails(lambda key: b"x" * 90_000)._repr_html_()
    assert len(text) < 1.5 * MAX_PICTURES
    shown = Elements(text)
    assert len(shown.all("figure")) == MAX_SHOWN
    assert len(shown.all("img")) == MAX_PICTURES // 90_000
    assert f"and {1_000 - MAX_SHOWN} more" in shown.words
    assert "<img" not in hits.with_thumbnails(lambda key: b"x" * 200_000)._repr_html_()


def test_a_picture_that_is_gone_is_no_error(index: twinlens.Index) -> None:
    def gone(key: str) -> bytes:
        raise ImageError("it is gone")

    hits = index.search("red", limit=2)
    assert "no picture" in hits.with_thumbnails(gone)._repr_html_()
    # Nothing but the hits is pickled.
    again = pickle.loads(pickle.dumps(hits))
    assert again == hits
    assert "no picture" in again._repr_html_()
    assert "nothing was found" in Hits()._repr_html_()


def test_the_notebook_of_the_samples_shows_pictures(
    index: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = json.loads((ROOT / "samples" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(one["source"]) for one in book["cells"] if one["cell_type"] == "code"]
    assert sum(len(cell.splitlines()) for cell in cells) <= 10
    assert not any(one.get("outputs") for one in book["cells"])
    opened: list[str] = []
    monkeypatch.setattr(twinlens, "open", lambda path: opened.append(path) or index)
    names: dict[str, object] = {}
    for cell in cells:
        *statements, last = ast.parse(cell).body
        assert isinstance(last, ast.Expr)
        exec(compile(ast.Module(statements, []), "cell", "exec"), names)
        hits = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        assert len(_pictures(hits)) == len(hits) >= 3
    assert opened == ["../demo/demo.db"]

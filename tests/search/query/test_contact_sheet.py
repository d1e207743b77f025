"""The contact sheet: one self-contained page with everything escaped."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from twinlens.search.errors import ImageError, TwinlensError
from twinlens.search.images.originals import thumbnail
from twinlens.search.query.contact_sheet import Section, contact_sheet, write_sheet
from twinlens.search.query.hits import Hit

HOSTILE = """<script>alert(1)</script>" onerror='alert(2)' & {{ 7 * 7 }} --><b>"""


class Elements(HTMLParser):
    """Collect the elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def hit(path: str = "", **fields: object) -> Hit:
    return Hit(target="images", id="0", score=0.25, path=path, **fields)  # type: ignore[arg-type]


def test_hits_are_shown_with_picture_score_and_caption(paint: Callable[..., Path]) -> None:
    hits = [hit(str(paint("red")), captions=("a red thing", "another"))]
    page = Elements(contact_sheet([Section("red", "images", hits)], "Results", "1 image"))
    (picture,) = page.all("img")
    assert picture["alt"] == "a red thing"
    data = base64.b64decode(str(picture["src"]).removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (40, 30)
    assert {"Results", "1 image", "a red thing"} <= set(page.said)
    assert "0.250" in " ".join(page.said)


def test_pictures_lead_to_their_files(paint: Callable[..., Path]) -> None:
    path = paint("red", "photos/a b#1.png")
    hits = [
        hit(str(path)),
        hit("https://example.org/x.jpg"),
        hit("javascript:alert(1)"),
        hit("a.zip!b"),
    ]
    links = Elements(contact_sheet([Section("red", "images", hits)], "red")).all("a")
    assert [link["href"] for link in links] == [path.as_uri(), "https://example.org/x.jpg"]
    assert path.as_uri().endswith("/photos/a%20b%231.png")


def test_the_query_is_said_once() -> None:
    sections = [Section("red", "images", [hit()]), Section("blue", "images", [hit()])]
    assert contact_sheet(sections[:1], "red").count(">red<") == 2, "the title, and the heading"
    assert Elements(contact_sheet(sections[:1], "red")).all("h2") == []
    assert len(Elements(contact_sheet(sections, "2 queries")).all("h2")) == 2


def test_hostile_captions_are_escaped(paint: Callable[..., Path]) -> None:
    path = paint("red", "photos/<img src=x onerror=alert(3)>.png")
    hits = [hit(str(path), captions=(HOSTILE,)), hit(text=HOSTILE)]
    page = contact_sheet([Section(HOSTILE, "images", hits)], f"{HOSTILE}.", HOSTILE)
    elements = Elements(page)
    assert elements.all("script") == []
    assert elements.all("b") == []
    assert [image["alt"] for image in elements.all("img")] == [HOSTILE]
    assert not any("onerror" in attributes for _, attributes in elements.elements)
    assert "".join(elements.said).count(HOSTILE) == 6
    assert "49 --" not in page


def test_a_name_changes_the_direction_of_nothing_else() -> None:
    hebrew = "\u05e9\u05dc\u05d5\u05dd"
    hits = [hit(path=f"photo\u202egnp.exe{hebrew}.png", captions=(f"{hebrew} a caption",))]
    page = contact_sheet([Section(f"\u202e{hebrew}", "images", hits, notes=[hebrew])], "\u202eall")
    assert "\u202e" not in page
    assert rf"photo\u202egnp.exe{hebrew}.png" in Elements(page).said
    outside = re.sub(r"<bdi>[^<]*</bdi>", "", page)
    assert hebrew not in outside


def test_a_missing_picture_leaves_a_placeholder(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    hits = [hit(str(tmp_path / "gone.jpg")), hit(str(broken)), hit(text="a text alone")]
    page = Elements(contact_sheet([Section("red", "images", hits)], "Results"))
    assert page.all("img") == []
    assert page.said.count("no picture") == 3


def test_the_query_picture_is_shown(paint: Callable[..., Path]) -> None:
    section = Section("like this", "images", [], picture=paint("blue"))
    page = Elements(contact_sheet([section], "Results"))
    (picture,) = page.all("img")
    assert picture["alt"] == "the query"
    assert "nothing was found" in page.said


def test_a_page_loads_nothing_else(paint: Callable[..., Path]) -> None:
    page = contact_sheet([Section("red", "images", [hit(str(paint("red")))])], "Results")
    sources = [attributes.get("src") for _, attributes in Elements(page).elements]
    assert all(source.startswith("data:") for source in sources if source)
    assert not re.search(r"https?://|<link|@import|url\(", page)


def test_a_thumbnail_keeps_its_shape(paint: Callable[..., Path]) -> None:
    small = Image.open(io.BytesIO(thumbnail(paint("red", size=(900, 300)).read_bytes(), side=90)))
    assert small.size == (90, 30)
    assert small.format == "JPEG"


def test_a_thumbnail_of_an_invalid_image_is_rejected() -> None:
    with pytest.raises(ImageError):
        thumbnail(b"nothing")


def test_the_page_is_written_to_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.html"
    write_sheet(path, [Section("größe \udcff", "images", [])], "Größe")
    assert "<title>Größe</title>" in path.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TwinlensError, match=r"results\.html cannot be written"):
        write_sheet(tmp_path / "file" / "results.html", [], "Results")

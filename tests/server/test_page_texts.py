"""The texts that people see on the pages are in ``page/texts``, and nowhere else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.javascript import Literal, literals

from twinlens.server.assets import FOLDER, PAGE_TEXTS, Assets
from twinlens.server.languages import preferred_language

MODULES = [
    path for path in sorted(FOLDER.rglob("*.js")) if path.relative_to(FOLDER).parts[0] != "texts"
]
PAGES = [FOLDER / name / "index.html" for name in ("search", "map", "review")]
#: Names that need no translation.
NAMES = {"twinlens", "PCA", "UMAP"}
#: Code after which a literal is a text for people, whatever it says.
SHOWN = re.compile(
    r"(?:\.textContent = |\.title = |\btitle: |\"aria-label\": |\bplaceholder: |\balt: "
    r"|\bhidden\(|\btoast\(|\bcreateDialog\(|\{\}, |\" \}, |\}\}, )(?:[^\n;,(]*\? [^\n;]*)?$"
)
#: Code after which it is none, although it may have several words.
NOT_SHOWN = re.compile(
    r"(?:\bclass: |\bclassName = |querySelector(?:All)?\(|closest\(|matches\(|matchMedia\("
    r"|\.font = |\.style\.\w+ = |\brootMargin: |get\(|\baccept: |\bfrom |\"aria-describedby\": )"
    r"(?:[^\n;,()]*\? [^\n;,]*)?$"
    r"|const PLAIN = \[[^\]]*$"  # searches in English, which every model understands
)
#: A language that is named where numbers and dates are written.
LANGUAGE = re.compile(r"(?:Intl\.\w+|toLocale\w+)\($")
#: Two words, or a word and a value; a word between values; a word that begins a sentence.
SENTENCE = re.compile(
    r"(?:[a-z]|\{\})[,.:;…]? (?:[a-z]|\d|\{\}).*(?<=[a-z])|[a-z]{2}.* \d|^ [a-z]+ $", re.IGNORECASE
)
CAPITAL = re.compile(r"[A-Z][a-z]+(?:[ ,.:;…]|$)")
#: Keys, headers, words of the filter language and so on, which look like texts.
CODES = {
    "Accept", "Backspace", "Bearer {}", "End", "Enter", "Esc", "Escape", "Files", "Home", "Tab",
    " and ", " or ", "{} in ({})", "-people", "action first", "is known", "is unknown",
    "use strict", "twinlens ingest ~/Pictures --db {}",
    'width >= 1200 and path startswith "trips/"',
}  # fmt: skip


def is_for_people(literal: Literal) -> bool:
    if LANGUAGE.search(literal.before):
        return True
    text = literal.text.removesuffix("twinlens").strip()
    if literal.text in CODES or not re.search("[A-Za-z]{2}", text):
        return False
    if SHOWN.search(literal.before):
        return True
    if NOT_SHOWN.search(literal.before):
        return False
    return bool(SENTENCE.search(literal.text) or CAPITAL.match(literal.text))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_modules_have_no_text_for_people(path: Path) -> None:
    found = [one.text for one in literals(path.read_text(encoding="utf-8")) if is_for_people(one)]
    assert not found, "put these texts into page/texts/en"


@pytest.mark.parametrize(
    "source",
    [
        'h("p", {}, "more")',
        'h("p", { class: "end" }, `${n} more`)',
        'fold.textContent = folded ? "more" : "less";',
        "toast(done ? `${name} copied` : address);",
        'h("button", { title: "close" })',
        'h("ul", { "aria-label": "captions" })',
        'Number(n).toLocaleString("en")',
        'const words = "No results";',
        'const rows = ["Size", size];',
        "return `${count} put into ${name}`;",
        'const title = `${of ? `in ${n} of them` : ""}`;',
    ],
)
def test_a_text_for_people_is_noticed(source: str) -> None:
    assert any(map(is_for_people, literals(source)))


@pytest.mark.parametrize(
    "source",
    [
        'h("p", { class: "action first" }, texts.more)',
        '// Say "No results".\nconst how = "hybrid"; /* "No results" */',
        "const quotes = /[\"'`]/; image.src = `/v1/items/${id}?size=${size}`;",
        'const half = a / 2; element.querySelector("button a") / 2;',
    ],
)
def test_code_is_no_text_for_people(source: str) -> None:
    assert not any(map(is_for_people, literals(source)))


class Shown(HTMLParser):
    """Collects the texts of a page and of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.found.add(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shown = {"title", "aria-label", "placeholder", "alt", "data-drop"}
        self.found |= {value or "" for name, value in attrs if name in shown}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_pages_have_marks_in_place_of_texts(path: Path) -> None:
    found = Shown(path.read_text(encoding="utf-8")).found - {""} - NAMES
    assert not {text for text in found if not re.fullmatch(r"\{\{\w+\}\}", text)}
    known = json.loads((FOLDER / "texts/en" / PAGE_TEXTS).read_text(encoding="utf-8"))
    marks = set(re.findall(r"\{\{(\w+)\}\}", path.read_text(encoding="utf-8"))) - {"language"}
    assert marks == set(known[path.parent.name]) | marks & set(known["shared"])
    assert marks & set(known["shared"])


def test_every_language_has_the_texts_of_all_pages() -> None:
    assets = Assets.read()
    assert assets.languages[0] == "en"
    assert "de" in assets.languages
    tables = {
        language: json.loads((FOLDER / "texts" / language / PAGE_TEXTS).read_text(encoding="utf-8"))
        for language in assets.languages
    }
    for table in tables.values():
        assert {page: set(texts) for page, texts in table.items()} == {
            page: set(texts) for page, texts in tables["en"].items()
        }
    assert not any(name.endswith(PAGE_TEXTS) for name in assets.files)


def test_a_page_in_another_language_runs_a_script_in_it() -> None:
    assets = Assets.read()
    page = assets.page("search/index.html", "de").data.decode()
    assert '<html lang="de">' in page
    script = f"/static/{assets.version}/de/search/main.js"
    assert f'<script type="module" src="{script}">' in page
    assert "Bild beschreiben" in assets.files["de/search/main.js"].data.decode()
    assert "Describe a picture" not in assets.files["de/search/main.js"].data.decode()
    assert assets.page("docs/index.html", "de") is assets.files["docs/index.html"]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("fr,de;q=0.5,en;q=0.3", "de"),
        ("en;q=0.3, DE;q=0.7", "de"),
        ("fr", "en"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("de;q=2,;;,=", "en"),
        ("../../de", "en"),
        ("fr," * 10_000 + "de", "en"),
    ],
)
def test_the_language_is_that_which_the_browser_prefers(header: str, language: str) -> None:
    assert preferred_language(header, ["en", "de"]) == language

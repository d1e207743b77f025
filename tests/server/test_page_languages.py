"""Test the pages in another language than English, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from support.browser import PHONE, Page, expect, listening
from support.colours import COLOURS, ColourEncoder
from support.javascript import literals
from support.policies import RULES

import twinlens
from twinlens.search.analysis.everyday import WORDS
from twinlens.server.assets import FOLDER, PAGE_TEXTS, Assets

LANGUAGES = Assets.read().languages
MODULES = sorted(path.name for path in (FOLDER / "texts/en").glob("*.js"))

#: Reads a table: for each place in it, that it is a text, or the parameters of its function.
FORMS = """async (address) => {
  const found = {};
  const walk = (place, one) => {
    if (typeof one === "function") found[place] = String(one).split("=>")[0].trim();
    else if (typeof one === "string") found[place] = "text";
    else for (const [name, inner] of Object.entries(one)) walk(`${place}.${name}`, inner);
  };
  for (const [name, one] of Object.entries(await import(address))) walk(name, one);
  return found;
}"""

#: All texts of a document and of attributes that people see or hear, but those marked as English.
SHOWN = """() => {
  const found = [document.title, document.body.dataset.drop ?? ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement: parent, data } = walker.currentNode;
    if (!parent.closest("[lang=en], noscript, script")) found.push(data);
  }
  for (const one of document.querySelectorAll("[title], [aria-label], [placeholder], [alt]")) {
    for (const name of ["title", "aria-label", "placeholder", "alt"]) {
      if (one.hasAttribute(name)) found.push(one.getAttribute(name));
    }
  }
  return found.map((text) => text.trim()).filter(Boolean);
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("languages")
    photos = folder / "fotos"
    photos.mkdir()
    for number, (colour, pixel) in enumerate(COLOURS.items()):
        image = Image.new("RGB", (600, 400), pixel)
        exif = image.getexif()
        taken = f"20{10 + number}:03:05 10:00:00"
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
        image.save(photos / f"{colour}.jpg", exif=exif)
        (photos / f"{colour}.txt").write_text(f"Farbe: {colour}\n")
    (folder / "rules.toml").write_text(RULES.replace('action = "hold"', ""))
    with twinlens.open(folder / "sprachen.db", model=ColourEncoder()) as index:
        index.ingest(photos, policy=folder / "rules.toml")
    with listening(folder / "sprachen.db") as found:
        yield found


def english() -> list[re.Pattern[str]]:
    """What every text of the English tables looks like, without those that German shares."""
    texts = {
        language: {
            one.text
            for path in (FOLDER / "texts" / language).iterdir()
            for one in literals(path.read_text(encoding="utf-8"))
        }
        for language in ("en", "de")
    }
    found = []
    for text in texts["en"] - texts["de"]:
        parts = [re.escape(part) for part in text.strip().split("{}")]
        if not any(re.search("[A-Za-z]{3}", part) for part in parts):
            continue
        # A text with values can be a part of another.
        pattern = ".+".join(parts) if len(parts) > 1 else rf"(?:[\d.,]+ )?{parts[0]}$"
        found.append(re.compile(rf"^{pattern}" if parts[0] else rf".{pattern}\b"))
    return found


ENGLISH = english()


def check(page: Page) -> None:
    """Find no English text in a page, and nothing that axe finds."""
    shown = page.evaluate(SHOWN)
    wrong = {text for text in shown for pattern in ENGLISH if pattern.search(text)}
    assert len(shown) > 20
    assert not wrong
    assert page.evaluate("document.documentElement.lang") == "de"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    violations = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == []


@pytest.fixture
def german(visit: Callable[..., Page]) -> Callable[..., Page]:
    """Opens pages in a browser that prefers German."""
    return lambda path, **options: visit(path, locale="de-DE", reduced_motion="reduce", **options)


@pytest.mark.parametrize("name", MODULES)
def test_every_language_has_the_same_texts_with_the_same_values(
    visit: Callable[..., Page], name: str
) -> None:
    page = visit("/")
    tables = [page.evaluate(FORMS, f"/static/texts/{one}/{name}") for one in LANGUAGES]
    assert len(tables[0]) > 10
    for table in tables[1:]:
        assert table == tables[0]


def test_the_search_page_in_german(german: Callable[..., Page]) -> None:
    page = german("/")
    expect(page.locator(".tile-link img").first).to_be_visible()
    expect(page.get_by_placeholder("Bild beschreiben oder hierher ziehen")).to_be_visible()
    expect(page.locator(".counts")).to_have_text("8 Bilder und 8 Bildtexte")
    expect(page.locator(".month").first).to_contain_text("März 2017")
    check(page)
    page.goto(page.url + "?where=year+%3E%3D+2010")
    expect(page.locator("#summary")).to_have_text("8 Bilder")
    expect(page.locator(".facet").first).to_be_visible()
    page.get_by_role("combobox", name="Filtern").fill("wid")
    expect(page.locator(".hint")).to_have_text("Zahl")
    page.get_by_role("button", name="Bilder hinzufügen").click()
    expect(page.get_by_role("dialog", name="Bilder hinzufügen")).to_be_visible()
    check(page)


def test_results_and_the_selection_in_german(german: Callable[..., Page]) -> None:
    page = german("/?q=red")
    expect(page.locator("#summary")).to_contain_text("1 sicherer Treffer")
    tile = page.locator("#results .tile-link").first
    expect(tile).to_have_attribute("aria-label", "Farbe: red, sicherer Treffer, über 99\u00a0%")
    tile.focus()
    page.keyboard.press("x")
    expect(page.locator(".selected-count")).to_have_text("1 Bild ausgewählt")
    page.get_by_role("button", name="Löschen …").click()
    check(page)
    page.goto(page.url.replace("?q=red", "?q=red&where=year+%3E%3D+2100"))
    expect(page.get_by_text("Kein Bild entspricht dem Filter.")).to_be_visible()
    check(page)
    page.goto(page.url.split("?")[0] + "?q=red&where=yera")
    expect(page.locator("#filter-error")).to_contain_text("the filter")
    check(page)
    page.goto(page.url.split("?")[0] + "?q=red&collection=keine")
    expect(page.get_by_role("alert")).to_be_visible()
    check(page)


def test_an_open_result_in_german(german: Callable[..., Page]) -> None:
    page = german("/?q=red")
    page.locator("#results .tile-link").first.click()
    expect(page.locator(".counter")).to_have_text("1 von 8")
    expect(page.locator(".details")).to_contain_text("5. März 2010, 10:00")
    page.get_by_text("Warum dieses?").click()
    expect(page.locator(".why-parts")).to_be_visible()
    page.get_by_label("Zeigt es …?").fill("red")
    page.get_by_role("button", name="Fragen").click()
    expect(page.locator("#answer")).to_have_text(
        re.compile(r"^Sehr wahrscheinlich, .*99\s%: „red“$")
    )
    check(page)


def test_the_map_in_german(german: Callable[..., Page]) -> None:
    page = german("/map?q=red")
    expect(page.locator("#status")).to_contain_text("hervorgehoben für „red“")
    expect(page).to_have_title("„red“ · Karte · twinlens")
    expect(page.locator("#list a").first).to_contain_text("Farbe: ")
    check(page)


def test_everyday_words_are_translated(german: Callable[..., Page]) -> None:
    """Names of regions and proposals, which the server has in English."""
    page = german("/")
    table: dict[str, str] = page.evaluate(
        "import('/static/texts/de/everyday.js').then((found) => found.EVERYDAY)"
    )
    assert tuple(table) == WORDS
    assert len(set(table.values())) == len(WORDS)
    assert all(re.fullmatch("[A-ZÄÖÜ][a-zäöüßé]+", word) for word in table.values())


def test_regions_have_german_names(german: Callable[..., Page]) -> None:
    page = german("/")
    [first, second, *_] = page.request.get(page.url + "v1/browse").json()["items"]
    names = {first["id"]: "sailing boat", second["id"]: "constructor"}  # this is no everyday word
    found = [{"id": one, "name": name, "x": 0, "y": 0, "count": 4} for one, name in names.items()]
    page.route("**/v1/map/regions*", lambda route: route.fulfill(json={"regions": found}))
    page.goto(page.url + "map")
    expect(page.locator("#regions")).to_have_text("Segelboot: 4 Bilder, constructor: 4 Bilder")
    expect(page.locator("#canvas")).to_have_attribute("data-regions", "Segelboot, constructor")


def test_proposals_are_german_words(german: Callable[..., Page], tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    Image.new("RGB", (60, 40), COLOURS["red"]).save(tmp_path / "bare/a.png")
    with twinlens.open(tmp_path / "bare.db", model=ColourEncoder()) as index:
        index.ingest(tmp_path / "bare")
    with listening(tmp_path / "bare.db") as bare:
        page = german("/map", at=bare)

        def propose(route: Any) -> None:
            proposals = [{"text": "night sky", "probability": 0.8}]
            results = [
                {"id": one, "proposals": proposals} for one in route.request.post_data_json["ids"]
            ]
            route.fulfill(json={"model": "m", "results": results})

        page.route("**/v1/describe", propose)
        page.goto(f"{bare}/?where=width+>+3")
        image = page.locator("#results .tile img")
        expect(image).to_have_attribute("alt", "Vielleicht: Nachthimmel")
        page.locator("#results .tile-link").click()
        expect(page.locator(".viewer-proposal")).to_have_text("Vielleicht: Nachthimmel")


def test_names_of_fields_are_german(german: Callable[..., Page]) -> None:
    page = german("/")
    [first, *_] = page.request.get(f"{page.url}v1/browse").json()["items"]
    page.request.post(f"{page.url}v1/tags", data={"tag": "eins", "add": [first["id"]]})
    page.goto(f"{page.url}?where=width+%3E+3&open={first['id']}")
    expect(page.locator(".details dt", has_text="Schlagwörter")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".facet > summary", has_text="Schlagwörter")).to_be_visible()
    page.request.post(
        f"{page.url.partition('?')[0]}v1/tags", data={"tag": "eins", "remove": [first["id"]]}
    )


def test_the_review_in_german(german: Callable[..., Page]) -> None:
    page = german("/review")
    expect(page.locator(".review-card img")).to_have_count(2)
    expect(page.locator("#status")).to_have_text("2 Bilder")
    expect(page).to_have_title("Prüfung · twinlens")
    check(page)


@pytest.mark.parametrize("path", ["/", "/?q=red&mode=hybrid", "/map", "/review"])
def test_german_texts_fit_a_phone(german: Callable[..., Page], path: str) -> None:
    page = german(path, phone=True)
    expect(page.locator("main img, canvas.map-mini").first).to_be_attached()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_page_is_cached_for_each_language(address: str, browser: Any) -> None:
    context = browser.new_context()
    for accepted, language in (("de-AT, en;q=0.5", "de"), ("fr, en-GB", "en")):
        answer = context.request.get(f"{address}/", headers={"Accept-Language": accepted})
        assert f'<html lang="{language}">' in answer.text()
        assert answer.headers["vary"] == "Accept-Encoding, Accept-Language"
    tags = {
        context.request.get(f"{address}/", headers={"Accept-Language": one}).headers["etag"]
        for one in ("de", "en", "fr")
    }
    assert len(tags) == 2
    context.close()


def test_texts_of_pages_are_read_as_literals() -> None:
    """What finds English texts reads JSON, too."""
    path: Path = FOLDER / "texts/en" / PAGE_TEXTS
    assert "Skip to the results" in {one.text for one in literals(path.read_text(encoding="utf-8"))}
    assert any(pattern.search("3 pictures") for pattern in ENGLISH)
    assert any(pattern.search("Nothing here comes close to red.") for pattern in ENGLISH)
    assert not any(pattern.search("3 Bilder ausgewählt") for pattern in ENGLISH)

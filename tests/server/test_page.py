"""Test the search page in a real browser, against a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from support import ROOT
from support.browser import PHONE, Page, expect, listening
from support.colours import COLOURS, ColourEncoder
from support.serving import READ, serving

import twinlens
from twinlens.server.assets import TYPES, Assets

SAMPLES = ROOT / "samples"
NASTY = "<script>document.title = 'run'</script><img src=x onerror=alert(1)> red"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs, and a picture of each colour."""
    folder = tmp_path_factory.mktemp("page")
    painted = folder / "painted"
    painted.mkdir()
    for number, (colour, pixel) in enumerate(COLOURS.items()):
        Image.new("RGB", (400 + 20 * number, 300), pixel).save(painted / f"{colour}.png")
        (painted / f"{colour}.txt").write_text(f"a {colour} picture\n")
    (painted / "red.txt").write_text(f"{NASTY}\na second caption\n")
    with twinlens.open(folder / "page.db", model=ColourEncoder()) as index:
        index.ingest(painted)
        index.ingest(SAMPLES / "photos", captions=SAMPLES / "captions.jsonl")
    return folder / "page.db"


@pytest.fixture(scope="module")
def address(db: Path) -> Iterator[str]:
    with listening(db) as found:
        yield found


def asked(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def tiles(page: Page) -> Any:
    return page.locator("#results .tile-link")


def names(page: Page) -> list[str]:
    return [link.get_attribute("aria-label") for link in tiles(page).all()]


def drop(page: Page, path: Path, kind: str = "image/png") -> None:
    """Drop a file on the page, as from a file manager."""
    files = page.evaluate_handle(
        """([bytes, name, type]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return data;
        }""",
        [list(path.read_bytes()), path.name, kind],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": files})


def box(page: Page) -> Any:
    return page.get_by_role("textbox", name="Words to look for")


def chips(page: Page) -> list[str]:
    return [one.strip() for one in page.locator(".chip-text").all_text_contents()]


def test_words_find_pictures(visit: Callable[..., Page]) -> None:
    page = visit()
    expect(page.get_by_text("72 pictures and 147 captions")).to_be_visible()
    box(page).fill("yellow")
    expect(tiles(page).first).to_have_accessible_name(
        re.compile(r"a yellow picture, (strong|likely) match, \d+%")
    )
    assert asked(page) == {"q": ["yellow"]}
    expect(page).to_have_title("“yellow” · twinlens")
    expect(page.get_by_role("status").first).to_contain_text("for “yellow”")
    image = tiles(page).first.locator("img")
    expect(image).to_have_class("loaded")
    assert image.evaluate("image => image.naturalWidth") >= 320
    assert not re.search(r"0\.\d\d", page.locator("main").inner_text()), "a raw cosine is shown"


def test_typing_is_one_step_back(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))
    box(page).press("End")
    box(page).press_sequentially(" and blu", delay=10)
    expect(page).to_have_url(re.compile("blu$"))
    box(page).press_sequentially("e")
    expect(page).to_have_url(re.compile("blue$"))
    box(page).press("Enter")
    page.go_back()
    expect(page).to_have_url(re.compile(r"q=red$"))
    expect(box(page)).to_have_value("red")
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))
    page.go_forward()
    expect(box(page)).to_have_value("red and blue")


def test_minus_terms_become_parts(visit: Callable[..., Page]) -> None:
    page = visit()
    box(page).fill('red -"dark green" -pur')
    expect(page.locator(".chip.not")).to_have_text(["dark green"])
    assert asked(page) == {"q": ["red"], "not": ["dark green"]}, "a word may still go on"
    with page.expect_request("**/v1/search") as sent:
        box(page).press("Enter")
    assert sent.value.post_data_json["query"] == ["red", {"not": "dark green"}, {"not": "pur"}]
    assert chips(page) == ["dark green", "pur"]
    expect(box(page)).to_have_value("red ")
    page.get_by_role("button", name="Remove: without pur").click()
    assert asked(page) == {"q": ["red"], "not": ["dark green"]}
    box(page).fill("")
    expect(page.get_by_text("What should be in the picture?")).to_be_visible()
    box(page).press("Backspace")
    expect(page).to_have_url(re.compile("/$"))


def test_the_address_is_the_query(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red&not=blue&in=texts&where=path+endswith+%22.png%22")
    expect(page.locator(".card")).to_have_count(9)
    expect(box(page)).to_have_value("red")
    expect(page.get_by_role("radio", name="Captions")).to_be_checked()
    expect(page.get_by_role("combobox", name="Filter")).to_have_value('path endswith ".png"')
    assert chips(page) == ["blue"]
    page.reload()
    expect(page.locator(".card")).to_have_count(9)


def test_a_stored_picture_that_is_dropped_goes_by_its_id(
    visit: Callable[..., Page], db: Path
) -> None:
    red = db.parent / "painted/red.png"
    page = visit()
    drop(page, red)
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))
    of = blake2b(red.read_bytes(), digest_size=16).hexdigest()
    expect(page).to_have_url(re.compile(f"id={of}$"))
    expect(page.locator(".note")).to_be_hidden()
    expect(page.locator(".chip img")).to_have_js_property("complete", True)


def test_a_strange_picture_stays_in_the_tab(visit: Callable[..., Page], tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (225, 35, 35)).save(tmp_path / "mine.png")
    page = visit()
    box(page).fill("blue")
    expect(tiles(page).first).to_have_accessible_name(re.compile("a blue picture"))
    page.evaluate(
        """() => {
            const real = window.fetch;
            window.fetch = (path, options) => {
                if (options.body instanceof FormData) window.sent = options.body.get("request");
                return real(path, options);
            };
        }"""
    )
    page.get_by_label("Pictures to search with").set_input_files(tmp_path / "mine.png")
    expect(page.get_by_text("it stays in this tab")).to_be_visible()
    expect(page).to_have_url(re.compile("q=blue"))
    assert json.loads(page.evaluate("window.sent"))["query"] == ["blue", {"image": {"file": 0}}]
    assert chips(page) == ["mine.png"]
    page.get_by_role("button", name="Remove: mine.png").click()
    expect(page.locator(".note")).to_be_hidden()
    page.go_back()
    expect(page.get_by_text("it stays in this tab")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Drop it again")).to_be_visible()


def test_words_typed_just_before_something_else_are_kept(
    visit: Callable[..., Page], tmp_path: Path
) -> None:
    Image.new("RGB", (50, 40), (225, 35, 35)).save(tmp_path / "mine.png")
    page = visit()
    box(page).fill("blue")
    drop(page, tmp_path / "mine.png")
    expect(page.locator(".chip-text")).to_have_text(["mine.png"])
    expect(box(page)).to_have_value("blue")
    assert asked(page)["q"] == ["blue"]
    box(page).fill("red")
    page.get_by_role("button", name="Remove: mine.png").click()
    expect(page.locator(".chip-text")).to_have_count(0)
    expect(box(page)).to_have_value("red")
    assert asked(page) == {"q": ["red"]}


def test_a_pasted_picture_and_what_is_none(visit: Callable[..., Page], tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (30, 60, 220)).save(tmp_path / "pasted.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page = visit()
    page.evaluate(
        """bytes => {
            const clipboardData = new DataTransfer();
            const file = new File([new Uint8Array(bytes)], "p.png", { type: "image/png" });
            clipboardData.items.add(file);
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }""",
        list((tmp_path / "pasted.png").read_bytes()),
    )
    expect(tiles(page).first).to_have_accessible_name(re.compile("blue"))
    drop(page, tmp_path / "notes.txt", "text/plain")
    expect(page.get_by_text("notes.txt is not a picture")).to_be_visible()
    assert chips(page) == ["p.png"]
    page.get_by_role("button", name="Clear the search").click()
    drop(page, tmp_path / "broken.png")
    expect(page.get_by_role("alert").get_by_text("broken.png cannot be read")).to_be_visible()


def test_a_picture_opens_large(visit: Callable[..., Page]) -> None:
    page = visit("/?q=green")
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_have_accessible_name("a green picture")
    expect(dialog.get_by_text("420 × 300 pixels")).to_be_visible()
    expect(dialog.get_by_text(re.compile(r"painted/.*green\.png"))).to_be_visible()
    expect(dialog.get_by_role("link", name="Open original")).to_have_attribute(
        "href", re.compile(r"^/v1/items/[0-9a-f]{32}/image")
    )
    expect(dialog.locator("img.large")).to_have_attribute("src", re.compile("/image"))
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('dialog') !== null"), "focus got out"
    page.keyboard.press("ArrowRight")
    expect(dialog).not_to_have_accessible_name("a green picture")
    page.keyboard.press("ArrowLeft")
    expect(dialog).to_have_accessible_name("a green picture")
    link = page.url
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page).to_have_url(re.compile("q=green$"))
    expect(tiles(page).first).to_be_focused()
    page.go_forward()
    expect(dialog).to_have_accessible_name("a green picture")
    page.go_back()
    expect(dialog).to_be_hidden()

    shared = visit(link.removeprefix(link[: link.index("/?")]))
    expect(shared.get_by_role("dialog")).to_have_accessible_name("a green picture")
    shared.get_by_role("button", name="Close", exact=True).click()
    expect(shared).to_have_url(re.compile("q=green$"))


def test_more_and_not_like_this(visit: Callable[..., Page]) -> None:
    page = visit("/?q=orange&not=blue")
    tiles(page).first.click()
    page.get_by_role("button", name="More like this").last.click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    (of,) = asked(page)["id"]
    assert set(asked(page)) == {"id"}
    assert chips(page) == ["like this"]
    asked_for = page.get_by_role("link", name=re.compile("^a orange picture"))
    expect(asked_for).to_have_count(0)
    expect(tiles(page).nth(2)).to_be_visible()

    worst = tiles(page).first.get_attribute("data-id")
    tiles(page).first.click()
    with page.expect_request("**/v1/search") as sent:
        page.get_by_role("button", name="Not like this").click()
    assert sent.value.post_data_json["query"] == [{"id": of}]
    assert sent.value.post_data_json["unlike"] == [worst]
    assert asked(page) == {"id": [of], "unlike": [worst]}
    expect(page.locator(f'[data-id="{worst}"]')).to_have_count(0)
    assert chips(page) == ["like this", "not like this"]


def test_filters_are_offered_and_applied(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.get_by_role("button", name="Filter").click()
    field = page.get_by_role("combobox", name="Filter")
    expect(field).to_be_focused()
    offers = page.get_by_role("listbox", name="Suggestions").get_by_role("option")
    expect(offers.filter(has_text="height")).to_be_visible()
    field.press_sequentially("wi")
    expect(offers).to_have_count(1)
    for key in ("ArrowDown", "Enter"):
        field.press(key)
    expect(field).to_have_value("width ")
    field.press_sequentially(">= 400 ")
    expect(offers).to_have_text(["and", "or"])
    field.press_sequentially('and path endswith "png"')
    field.press("Enter")
    expect(tiles(page)).to_have_count(8)
    assert asked(page)["where"] == ['width >= 400 and path endswith "png"']
    tiles(page).first.click()
    page.get_by_role("button", name="PNG", exact=True).click()
    assert asked(page)["where"] == ['width >= 400 and path endswith "png" and format == "PNG"']
    field.fill("width < 0")
    field.press("Enter")
    expect(page.get_by_text("No picture matches the filter.")).to_be_visible()
    page.get_by_role("button", name="Remove the filter").click()
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))


def test_a_wrong_filter_is_told_at_its_field(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.get_by_role("button", name="Filter").click()
    field = page.get_by_role("combobox", name="Filter")
    field.fill("heigth > 3")
    field.press("Enter")
    wrong = page.get_by_role("alert").get_by_text("did you mean height?")
    expect(wrong).to_be_visible()
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("height > 3")
    page.get_by_role("button", name="Apply").click()
    expect(wrong).to_be_hidden()
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))


def test_captions_are_found_and_stay_text(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    expect(tiles(page).first).to_have_accessible_name(re.compile(re.escape(NASTY)))
    tiles(page).first.click()
    expect(page.get_by_role("heading", name=NASTY)).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="Captions").check(force=True)
    expect(page.locator(".card-words", has_text=NASTY)).to_be_visible()
    assert asked(page) == {"q": ["red"], "in": ["texts"]}
    expect(page).to_have_title("“red” · twinlens")
    assert page.locator("#results script, .viewer script, img[onerror]").count() == 0
    page.locator(".card-link", has_text=NASTY).click()
    expect(page.get_by_role("dialog").locator("img.large")).to_be_visible()


def test_by_keyboard_alone(visit: Callable[..., Page]) -> None:
    page = visit()
    expect(page.locator(".hero")).to_be_visible()
    press = page.keyboard.press
    press("/")
    page.keyboard.type("purple")
    press("Enter")
    expect(tiles(page).first).to_have_accessible_name(re.compile("purple"))
    press("ArrowDown")
    expect(tiles(page).first).to_be_focused()
    press("ArrowRight")
    expect(tiles(page).nth(1)).to_be_focused()
    press("ArrowDown")
    below, above = (
        page.evaluate("document.activeElement.getBoundingClientRect().top"),
        tiles(page).nth(1).bounding_box()["y"],
    )
    assert below > above
    press("Home")
    press("Enter")
    expect(page.get_by_role("dialog")).to_have_accessible_name("a purple picture")
    press("Escape")
    expect(tiles(page).first).to_be_focused()
    expect(page).to_have_url(re.compile(r"/\?q=purple$"))
    press("m")
    expect(page).to_have_url(re.compile(r"/\?id="))
    press("?")
    keys = page.get_by_role("dialog", name="Keyboard")
    expect(keys).to_be_visible()
    # Those of an open picture are tested with it, x with the selection.
    expect(keys.locator("dt")).to_have_text(
        ["/", "↓", "←→↑↓", "Enter", "m", "n", "x", "←→", "+−0", "Esc", "?"]
    )
    press("Escape")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()


@pytest.mark.parametrize("path", ["/", "/?q=red&not=a+rather+long+term+in+it", "/?q=red&in=texts"])
def test_a_phone_shows_everything_without_sideways_scroll(
    visit: Callable[..., Page], path: str
) -> None:
    page = visit(path, phone=True)
    expect(page.locator(".tile, .card, .plain-examples").first).to_be_visible()
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= PHONE["width"]
    if "q=" in path:
        page.locator(".tile-link, .card-link").first.tap()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        assert page.evaluate(wide) <= PHONE["width"]
        assert dialog.evaluate("dialog => dialog.scrollWidth") <= PHONE["width"]
        expect(dialog.get_by_role("button", name="Close", exact=True)).to_be_in_viewport()


def test_results_load_on_and_nothing_moves(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red", viewport={"width": 1000, "height": 500})
    expect(tiles(page).nth(30)).to_be_attached()
    boxes = "[...document.querySelectorAll('.tile')].slice(0, 40).map(tile => tile.style.cssText)"
    before = page.evaluate(boxes)
    assert tiles(page).count() == 60
    page.mouse.wheel(0, 30_000)
    expect(page.get_by_text("End of results: 72 pictures.")).to_be_attached()
    assert tiles(page).count() == 72
    assert len(set(names(page))) > 60
    assert page.evaluate(boxes) == before
    page.evaluate("scrollTo(0, 3000)")
    box(page).fill("blue")
    box(page).press("Enter")
    expect(tiles(page).first).to_have_accessible_name(re.compile("blue"))
    page.go_back()
    expect(tiles(page)).to_have_count(72)
    assert page.evaluate("scrollY") == 3000, "going back leads to where one was"


def test_ranking_by_words_loads_on_too(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    page.get_by_label("Rank").select_option("By both")
    expect(page).to_have_url(re.compile("mode=hybrid"))
    expect(tiles(page).first).to_have_attribute("href", re.compile("mode=hybrid"))
    page.mouse.wheel(0, 30_000)
    expect(page.get_by_text("End of results:")).to_be_attached()


def test_hits_by_words_are_not_called_weak(visit: Callable[..., Page]) -> None:
    page = visit("/?q=green.png&mode=hybrid")
    expect(tiles(page).first).to_have_accessible_name("a green picture, found by words")
    expect(page.locator("#summary")).to_have_text(re.compile("^1 found by words"))
    expect(page.locator("main").get_by_text(re.compile("further away"))).to_have_count(0)
    page = visit("/?q=green.png&mode=text")
    expect(page.locator("#summary")).to_have_text(re.compile("^17 found by words"))


def test_what_was_asked_before_does_not_come_after(visit: Callable[..., Page]) -> None:
    page = visit()
    held: list[Any] = []

    def hold(route: Any) -> None:
        if '"red"' in route.request.post_data:
            held.append(route)
        else:
            route.continue_()

    page.route("**/v1/search", hold)
    searching = re.compile("/v1/search$")
    with page.expect_event("requestfailed", lambda one: searching.search(one.url)) as failed:
        box(page).fill("red")
        box(page).press("Enter")
        page.wait_for_function("document.title.includes('red')")
        page.wait_for_timeout(100)
        box(page).fill("blue")
        box(page).press("Enter")
    assert '"red"' in failed.value.post_data
    assert len(held) == 1
    expect(tiles(page).first).to_have_accessible_name(re.compile("blue"))


def test_nothing_close_is_said_kindly(visit: Callable[..., Page]) -> None:
    page = visit()

    def far(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"nothing_close": True})

    page.route("**/v1/search", far)
    box(page).fill("quarterly earnings")
    expect(page.get_by_text("Nothing here comes close to “quarterly earnings”.")).to_be_visible()
    expect(tiles(page).first).to_be_visible()
    page.get_by_role("button", name="Search file names and captions").click()
    expect(page).to_have_url(re.compile("mode=hybrid"))
    expect(page.get_by_label("Rank")).to_have_value("hybrid")
    expect(page.get_by_role("button", name="Search file names")).to_have_count(0)


def weaken(page: Page, relevance: float) -> None:
    """Limit the relevance of all further hits."""

    def weak(route: Any) -> None:
        answer = route.fetch()
        said = answer.json()
        for hit in said["hits"]:
            hit["relevance"] = min(hit["relevance"], relevance)
        route.fulfill(response=answer, json=said | {"nothing_close": False})

    page.route("**/v1/search", weak)


def test_what_is_not_close_stands_below_the_line_even_where_nothing_is_above(
    visit: Callable[..., Page],
) -> None:
    page = visit()
    weaken(page, 0.2)
    box(page).fill("red")
    line = page.get_by_text("No close matches: these are further away")
    expect(line).to_be_visible()
    expect(page.locator("#summary")).to_have_text(re.compile("^Only results further away"))
    assert line.bounding_box()["y"] < tiles(page).first.bounding_box()["y"]
    expect(page.locator(".tile.far")).to_have_count(60)
    page.get_by_role("radio", name="Captions").check(force=True)
    expect(line).to_be_visible()
    expect(page.locator(".card").first).to_be_visible()
    assert line.bounding_box()["y"] < page.locator(".card").first.bounding_box()["y"]


def test_a_large_picture_is_not_cut_off(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    tiles(page).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    inner = page.evaluate("document.documentElement.getBoundingClientRect().width")
    edges = dialog.evaluate("dialog => [dialog, dialog.querySelector('.panel')]"
                            ".map(one => one.getBoundingClientRect().right)")  # fmt: skip
    assert max(edges) <= inner
    counter = dialog.locator(".counter").bounding_box()
    assert counter["y"] + counter["height"] <= 800 - 8
    large = dialog.locator("img.large").bounding_box()
    assert large["y"] + large["height"] <= counter["y"]


def test_a_long_caption_is_folded(visit: Callable[..., Page], tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    Image.new("RGB", (40, 30), COLOURS["red"]).save(tmp_path / "long/red.png")
    words = "a red picture of very many things that somebody has listed one by one " * 30
    (tmp_path / "long/red.txt").write_text(f"{words}\nshort\n")
    with twinlens.open(tmp_path / "long.db", model=ColourEncoder()) as index:
        index.ingest(tmp_path / "long")
    with listening(tmp_path / "long.db") as found:
        page = visit("/?q=red", at=found)
        tiles(page).first.click()
        more = page.get_by_role("button", name="More like this", exact=True).last
        expect(more).to_be_in_viewport()
        heading = page.get_by_role("heading", name="a red picture of very many")
        folded = heading.bounding_box()["height"]
        unfold = page.get_by_role("button", name="more", exact=True)
        expect(unfold).to_have_count(1)
        expect(unfold).to_have_attribute("aria-expanded", "false")
        for _ in range(2):  # behind the button that closes
            page.keyboard.press("Tab")
            if unfold.evaluate("one => one === document.activeElement"):
                break
        expect(unfold).to_be_focused()
        page.keyboard.press("Enter")
        assert heading.bounding_box()["height"] > 3 * folded
        page.get_by_role("button", name="less", exact=True).press("Enter")
        assert heading.bounding_box()["height"] == folded


def test_an_unknown_collection_offers_those_there_are(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red&collection=gone")
    alert = page.get_by_role("alert")
    expect(alert.get_by_text("There is no such collection")).to_be_visible()
    expect(alert.get_by_role("button")).to_have_text(["Search in twinlens"])
    page.goto(page.url.replace("q=red&", ""))
    expect(alert.get_by_text("There is no collection gone")).to_be_visible()
    box(page).fill("red")
    box(page).press("Enter")
    alert.get_by_role("button", name="Search in twinlens").click()
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))
    assert asked(page) == {"q": ["red"]}


def test_a_broken_picture_is_named_and_can_be_removed(
    visit: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing of the kind")
    page = visit("/?q=red")
    page.get_by_label("Pictures to search with").set_input_files(tmp_path / "broken.png")
    alert = page.get_by_role("alert")
    expect(alert.get_by_text("broken.png cannot be read")).to_be_visible()
    alert.get_by_role("button", name="Remove broken.png").click()
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))
    assert chips(page) == []


def test_a_wrong_filter_leaves_what_was_found(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red")
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))
    page.get_by_role("button", name="Filter").click()
    field = page.get_by_role("combobox", name="Filter")
    field.fill("heigth > 3")
    field.press("Enter")
    expect(page.get_by_role("alert").get_by_text("did you mean height?")).to_be_visible()
    expect(page.locator(".shown.stale")).to_have_js_property("inert", True)
    assert tiles(page).count() == 60
    field.fill("height > 3")
    field.press("Enter")
    expect(page.locator(".shown.stale")).to_have_count(0)
    tiles(page).first.click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_words_have_a_row_of_their_own_beside_chips_on_a_phone(visit: Callable[..., Page]) -> None:
    page = visit("/?q=red+things+in+the+evening&not=blue", phone=True)
    expect(page.locator(".chip")).to_be_visible()
    words = box(page).bounding_box()
    assert words["width"] > 200
    assert page.locator(".chip").bounding_box()["y"] >= words["y"] + words["height"]
    magnifier = page.locator(".box > .icon").bounding_box()
    assert abs(magnifier["y"] - words["y"]) < 12, "it stands beside the words, not in the middle"


def test_a_few_close_ones_are_as_large_as_the_rest(visit: Callable[..., Page]) -> None:
    page = visit()
    script = "async ([r, o]) => (await import('/static/search/justified-layout.js')).justify(r, o)"
    options = {"width": 1200, "target": 200, "gap": 6, "complete": True, "balance": True}
    (alone,) = page.evaluate(script, [[1.5], options])["boxes"]
    (beside,) = page.evaluate(script, [[1.5], options | {"alone": False}])["boxes"]
    assert (alone["height"], beside["height"]) == (pytest.approx(340), 200)
    assert page.evaluate(script, [[], options]) == {"boxes": [], "height": 0}


def test_errors_are_shown_and_tried_again(visit: Callable[..., Page]) -> None:
    page = visit()
    problem = {"type": "/problems/busy", "title": "The server is busy", "status": 429,
               "detail": "256 requests are waiting already"}  # fmt: skip
    answers = [{"status": 429, "json": problem, "headers": {"Retry-After": "1"}}]
    page.route("**/v1/search", lambda route: route.fulfill(**answers[0]), times=1)
    box(page).fill("red")
    alert = page.get_by_role("alert")
    expect(alert.get_by_text("The server is busy")).to_be_visible()
    expect(alert.get_by_text("256 requests are waiting already")).to_be_visible()
    expect(tiles(page).first).to_have_accessible_name(re.compile("red"))  # by itself
    page.route("**/v1/search", lambda route: route.abort(), times=1)
    box(page).fill("blue")
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(tiles(page).first).to_have_accessible_name(re.compile("blue"))


def test_a_server_with_keys_asks_for_one(visit: Callable[..., Page], db: Path) -> None:
    with listening(db, keys=(READ,)) as locked:
        page = visit("/?q=green", at=locked)
        dialog = page.get_by_role("dialog", name="API key required")
        key = dialog.get_by_label("Key", exact=True)
        expect(key).to_be_focused()
        key.fill("a key that is wrong")
        key.press("Enter")
        expect(dialog.get_by_text("The server does not know this key.")).to_be_visible()
        key.fill(READ.split(":")[2])
        key.press("Enter")
        expect(tiles(page).first).to_have_accessible_name(re.compile("green"))
        expect(tiles(page).first.locator("img")).to_have_class("loaded")


def test_the_map_asks_for_a_key_too(visit: Callable[..., Page], db: Path) -> None:
    with listening(db, keys=(READ,)) as locked:
        page = visit("/map?q=green", at=locked)
        dialog = page.get_by_role("dialog", name="API key required")
        key = dialog.get_by_label("Key", exact=True)
        expect(key).to_be_focused()
        style = dialog.evaluate(
            "one => [one, one.querySelector('.key')].map(e => getComputedStyle(e).borderRadius)"
        )
        assert style == ["16px", "10px"], "the dialog has no style"
        box_, close = key.bounding_box(), dialog.get_by_role("button", name="Close").bounding_box()
        whole = dialog.bounding_box()
        assert box_["width"] > whole["width"] / 2
        assert close["x"] > whole["x"] + whole["width"] / 2
        key.fill(READ.split(":")[2])
        key.press("Enter")
        expect(dialog).to_be_hidden()
        expect(page.locator("#status")).to_contain_text("highlighted for “green”")
        words = page.get_by_role("searchbox", name="Highlight pictures on the map")
        page.get_by_role("button", name="Clear the search").click()
        expect(words).to_have_value("")
        expect(words).to_be_focused()
        expect(page.get_by_role("button", name="Clear the search")).to_be_hidden()
        expect(page.locator("#status")).not_to_contain_text("highlighted")
        assert asked(page) == {}


def test_collections_are_chosen(visit: Callable[..., Page], tmp_path: Path) -> None:
    for name, colour in (("twinlens", "red"), ("other", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30), COLOURS[colour]).save(tmp_path / name / f"{colour}.png")
        with twinlens.open(tmp_path / "two.db", name, model=ColourEncoder()) as index:
            index.ingest(tmp_path / name)
    with listening(tmp_path / "two.db") as found:
        page = visit("/?q=red", at=found)
        expect(tiles(page)).to_have_accessible_name(re.compile("red.png"))
        page.get_by_label("Collection").select_option("other")
        expect(tiles(page)).to_have_accessible_name(re.compile("blue.png"))
        assert asked(page) == {"q": ["red"], "collection": ["other"]}
        page.get_by_role("button", name="Clear the search").click()
        expect(page.get_by_text("1 picture in other")).to_be_visible()
        page.get_by_label("Collection").select_option("twinlens")
        expect(page.get_by_text("1 picture in twinlens")).to_be_visible()


def test_an_empty_database_says_how_to_fill_it(visit: Callable[..., Page], tmp_path: Path) -> None:
    with listening(tmp_path / "empty.db") as found:
        page = visit(at=found)
        expect(page.get_by_text("There are no pictures here yet.")).to_be_visible()
        expect(page.get_by_text(f"twinlens ingest ~/Pictures --db {found}")).to_be_visible()
        expect(page.get_by_role("button", name="Filter")).to_be_hidden()
        page.goto(f"{found}/?q=red")
        expect(page.get_by_text("There are no pictures here yet.")).to_be_visible()
        page.goto(f"{found}/map")
        expect(page.get_by_text("There is nothing to show yet.")).to_be_visible()


def test_light_and_dark(visit: Callable[..., Page]) -> None:
    page = visit(color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.get_by_role("button", name="Switch between light and dark").click()
    light = page.evaluate(colour)
    assert light != dark
    page.reload()
    assert page.evaluate(colour) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Callable[..., Page], scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    # Both schemes have the same elements: check only the contrast of the second.
    only = {} if scheme == "light" else {"runOnly": {"type": "rule", "values": ["color-contrast"]}}

    def check(page: Page) -> None:
        found = axe.run(page, options={"resultTypes": ["violations"], **only}).response
        bad = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
        assert not bad, [(one["id"], [node["html"] for node in one["nodes"]]) for one in bad]

    # Axe would measure elements that are still fading in.
    page = visit("/", color_scheme=scheme, reduced_motion="reduce")
    expect(page.locator(".hero")).to_be_visible()
    check(page)
    page.goto(page.url + "?q=red&not=blue&where=yera")
    expect(page.get_by_role("alert")).to_be_visible()
    check(page)
    page.goto(page.url.replace("&where=yera", ""))
    expect(tiles(page).first.locator("img")).to_have_class("loaded")
    check(page)
    tiles(page).first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page)
    page.goto(page.url[: page.url.index("?")] + "?q=red&in=texts")
    expect(page.locator(".card").first).to_be_visible()
    check(page)


def test_pictures_are_called_as_the_collection_calls_them(visit: Callable[..., Page]) -> None:
    page = visit()
    for size in (0, 1, 127, 128, 129, 1000):
        data = bytes(number * 7 % 256 for number in range(size))
        said = page.evaluate(
            "async bytes => (await import('/static/search/blake2b.js'))"
            ".blake2b(new Uint8Array(bytes))",
            list(data),
        )
        assert said == blake2b(data, digest_size=16).hexdigest()


def test_rows_are_full_and_of_like_height(visit: Callable[..., Page]) -> None:
    page = visit()
    script = "async ([r, o]) => (await import('/static/search/justified-layout.js')).justify(r, o)"
    ratios = [1.5, 0.7, 1.33, 3.2, 0.5, 1.0, 1.78] * 9
    for width, whole in ((340, False), (900, False), (1700, False), (900, True), (1700, True)):
        options = {"width": width, "target": 200, "gap": 6, "complete": whole, "balance": whole}
        placed = page.evaluate(script, [ratios, options])
        rows: dict[int, list[dict[str, float]]] = {}
        for one in placed["boxes"]:
            rows.setdefault(one["row"], []).append(one)
        assert len(placed["boxes"]) > len(ratios) - (1 if whole else 12)
        for row in rows.values():
            assert row[-1]["x"] + row[-1]["width"] == pytest.approx(width)
            assert 100 < row[0]["height"] < 320


def test_files_of_the_page_and_nothing_else(db: Path) -> None:
    with serving(db) as client:
        page = client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "unsafe" not in page.headers["content-security-policy"]
        assert not re.search(r"<style|style=|<script>|\son\w+=|https?://", page.text)
        for name, asset in Assets.read().files.items():
            found = client.get(f"/static/{name}")
            assert found.headers["content-type"] == TYPES[Path(name).suffix]
            assert found.content == asset.data
            known = {"If-None-Match": found.headers["etag"]}
            assert client.get(f"/static/{name}", headers=known).status_code == 304
            assert client.get(f"/static/{name}", headers={"If-None-Match": '"x"'}).is_success
        icon = client.get("/favicon.ico")
        assert icon.content == client.get("/static/shared/icon.svg").content
        assert icon.headers["content-type"] == TYPES[".svg"]
        head = client.head("/static/search/main.js")
        assert head.is_success
        assert not head.content
        for path in ("..%2fpage_routes.py", "%2e%2e/auth.py", "../auth.py", "", "x", "/etc/passwd",
                     "..%5cauth.py", "search/main.js%00", ".", "page", "search", "search/",
                     "search/..%2fshared/api.js", "search%2f..%2f..%2fapp.py"):  # fmt: skip
            assert client.get(f"/static/{path}").status_code == 404, path


def test_no_page_where_it_is_turned_off(db: Path) -> None:
    with serving(db, page=False) as client:
        assert client.get("/").status_code == 404
        assert client.get("/favicon.ico").status_code == 404
        assert client.get("/static/search/main.js").status_code == 404

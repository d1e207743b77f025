"""Test selecting pictures on the search page, and what is done with them; adding pictures."""

from __future__ import annotations

import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from support.browser import Page, expect, listening
from support.colours import COLOURS, ColourEncoder
from support.serving import READ, WRITE

import twinlens


@pytest.fixture
def db(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, (colour, pixel) in enumerate(COLOURS.items()):
        Image.new("RGB", (60 + number, 40), pixel).save(photos / f"{colour}.png")
        (photos / f"{colour}.txt").write_text(f"a {colour} picture\n")
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    return tmp_path / "x.db"


@pytest.fixture
def address(db: Path) -> Iterator[str]:
    with listening(db) as found:
        yield found


def tiles(page: Page) -> Any:
    return page.locator("#results .tile[data-id]:not(.removed)")


def tick(page: Page, number: int, **options: Any) -> None:
    tile = tiles(page).nth(number)
    tile.hover()
    tile.get_by_role("checkbox").click(**options)


def count(page: Page) -> Any:
    return page.locator(".selected-count")


def test_clicks_shift_and_keys_select(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+0")
    expect(tiles(page)).to_have_count(8)
    tick(page, 1)
    expect(count(page)).to_have_text("1 picture selected")
    tick(page, 4, modifiers=["Shift"])
    expect(count(page)).to_have_text("4 pictures selected")
    tiles(page).nth(6).locator("a").click()  # while pictures are selected, a click selects
    expect(count(page)).to_have_text("5 pictures selected")
    expect(page.get_by_role("dialog")).to_have_count(0)
    tick(page, 1)
    expect(count(page)).to_have_text("4 pictures selected")
    tiles(page).nth(7).locator("a").focus()
    page.keyboard.press("x")
    expect(count(page)).to_have_text("5 pictures selected")
    expect(tiles(page).nth(7).get_by_role("checkbox")).to_be_checked()
    page.keyboard.press("Enter")  # keys can open a picture, too
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(count(page)).to_have_text("5 pictures selected")
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Selected pictures")).to_be_hidden()
    expect(page.locator(".tile.selected")).to_have_count(0)
    tiles(page).nth(0).locator("a").click()
    expect(page.get_by_role("dialog")).to_be_visible()


@pytest.mark.parametrize("phone", [False, True])
def test_a_server_that_is_away_is_said_beside_the_buttons(
    visit: Callable[..., Page], phone: bool, tmp_path: Path
) -> None:
    page = visit("/?where=width+>+0", phone=phone)
    expect(tiles(page)).to_have_count(8)
    tick(page, 0)
    bar = page.locator(".selection-bar").bounding_box()
    assert bar["height"] < 130, "it leaves room for pictures"
    page.context.set_offline(True)
    said = "The server does not answer. It may have stopped, or the network is down."
    page.get_by_role("button", name="Download").click()
    expect(page.locator("#toast")).to_have_text(said)
    page.wait_for_timeout(400)  # it moves in
    toast = page.locator("#toast").bounding_box()
    assert toast["y"] + toast["height"] < bar["y"]
    assert toast["width"] > 300, "it uses the width there is"
    page.get_by_role("button", name="Add pictures").click()
    dialog = page.get_by_role("dialog", name="Add pictures")
    dialog.get_by_label("Pictures to add").set_input_files(tmp_path / "photos/red.png")
    expect(dialog.get_by_role("status")).to_have_text(f"Stopped: 0 pictures stored. {said}")


def test_a_selection_is_downloaded(visit: Callable[..., Page], tmp_path: Path) -> None:
    page = visit("/?q=red")
    tick(page, 0)
    tick(page, 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "got.zip")
    with zipfile.ZipFile(tmp_path / "got.zip") as archive:
        names = archive.namelist()
        assert len(names) == 2
        assert "red.png" in names
        assert archive.read("red.png") == (tmp_path / "photos/red.png").read_bytes()


def test_paths_are_copied(visit: Callable[..., Page], tmp_path: Path) -> None:
    page = visit("/?q=red", permissions=["clipboard-read", "clipboard-write"])
    tick(page, 0)
    page.get_by_role("button", name="Copy paths").click()
    expect(page.locator("#toast")).to_have_text("1 path copied")
    assert page.evaluate("navigator.clipboard.readText()") == str(tmp_path / "photos/red.png")


def test_a_deletion_is_asked_and_can_be_undone(visit: Callable[..., Page], db: Path) -> None:
    page = visit("/?where=width+>+0")
    expect(tiles(page)).to_have_count(8)
    tick(page, 0)
    tick(page, 1)
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Keep").click()
    expect(count(page)).to_have_text("2 pictures selected")
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(tiles(page)).to_have_count(6)
    expect(page.get_by_text("Deleted 2 pictures")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(tiles(page)).to_have_count(8)
    page.reload()
    expect(tiles(page)).to_have_count(8)


def test_a_deletion_that_is_not_undone_happens(visit: Callable[..., Page], tmp_path: Path) -> None:
    page = visit("/?where=width+>+0")
    tick(page, 0)
    page.get_by_role("button", name="Delete …").click()
    with page.expect_response("**/v1/items/delete") as answer:
        page.get_by_role("button", name="Delete", exact=True).click()
    assert answer.value.status == 200
    expect(tiles(page)).to_have_count(7)
    expect(page.locator("#summary")).to_have_text("7 pictures")
    assert len(list((tmp_path / "photos").glob("*.png"))) == 8, "the files stay"


def test_leaving_the_page_ends_the_time_to_undo(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+0")
    tick(page, 0)
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    server = page.url.split("?")[0]
    page.goto(server + "map")
    ends = time.monotonic() + 20
    while page.request.get(server + "v1/browse?limit=0").json()["total"] != 7:
        assert time.monotonic() < ends, "it was not deleted"
        page.wait_for_timeout(100)


def test_pictures_are_put_into_an_album(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+0")
    tick(page, 0)
    tick(page, 3)
    page.get_by_role("button", name="Album …").click()
    dialog = page.get_by_role("dialog", name="Album")
    dialog.get_by_label("Album").fill("a, b")
    dialog.get_by_role("button", name="Put in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("no comma")
    dialog.get_by_label("Album").fill("Best of")
    dialog.get_by_role("button", name="Put in").click()
    expect(page.get_by_text("2 pictures put into Best of")).to_be_visible()
    page.get_by_text("Albums (1 value)").click()
    page.get_by_role("button", name=re.compile("^Best of")).click()
    expect(page.locator("#summary")).to_have_text("2 pictures")
    tick(page, 0)
    page.get_by_role("button", name="Album …").click()
    expect(dialog.locator("datalist option")).to_have_attribute("value", "Best of")
    dialog.get_by_label("Album").fill("Best of")
    dialog.get_by_role("button", name="Take out").click()
    expect(page.locator("#summary")).to_have_text("1 picture")


def test_a_slow_server_gets_a_label_once(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+0")
    held: list[Any] = []
    page.route(re.compile("/v1/tags$"), lambda route: held.append(route))
    tick(page, 0)
    page.get_by_role("button", name="Tag …").click()
    dialog = page.get_by_role("dialog", name="Tag")
    dialog.get_by_label("Tag").fill("red")
    for _ in range(2):
        dialog.get_by_label("Tag").press("Enter")
        expect(dialog.locator("form")).to_have_attribute("aria-busy", "true")
    assert len(held) == 1
    with page.expect_response("**/v1/browse*"):
        held[0].continue_()
    expect(page.get_by_text("1 picture tagged red")).to_be_visible()
    page.unroute(re.compile("/v1/tags$"))
    tick(page, 0)
    for button, said in (("Add tag", "Already tagged red"), ("Remove tag", "Not tagged blue")):
        page.get_by_role("button", name="Tag …").click()
        dialog.get_by_label("Tag").fill(said.split()[-1])
        dialog.get_by_role("button", name=button).click()
        expect(page.locator("#toast")).to_have_text(said)
        expect(count(page)).to_have_text("1 picture selected")  # nothing has changed


def test_an_album_of_an_open_picture_is_the_filter_that_the_server_writes(
    visit: Callable[..., Page],
) -> None:
    page = visit("/?where=width+>+0")
    name = 'Tom "the cat" & co'
    for album in ("Another", name):
        tick(page, 1)
        page.get_by_role("button", name="Album …").click()
        dialog = page.get_by_role("dialog", name="Album")
        dialog.get_by_label("Album").fill(album)
        with page.expect_response("**/v1/browse*"):
            dialog.get_by_role("button", name="Put in").click()
    page.locator("#results .tile-link").nth(1).click()
    album = page.get_by_role("button", name=name, exact=True)
    expect(album).to_have_attribute("title", f"Filter by Albums {name}")
    with page.expect_response("**/v1/albums*") as answered:
        album.click()
    wheres = {one["name"]: one["where"] for one in answered.value.json()["albums"]}
    expect(page).to_have_url(re.compile(r"where="))
    expect(page.locator("#summary")).to_have_text("1 picture")
    assert parse_qs(urlsplit(page.url).query)["where"] == [f"width > 0 and {wheres[name]}"]


def test_pictures_are_tagged_and_that_can_be_undone(visit: Callable[..., Page]) -> None:
    page = visit("/?where=width+>+0")
    dialog = page.get_by_role("dialog", name="Tag")

    def tag(how: str, name: str, *numbers: int) -> None:
        for number in numbers:
            tick(page, number)
        page.get_by_role("button", name="Tag …").click()
        dialog.get_by_label("Tag").fill(name)
        with page.expect_response("**/v1/browse*"):  # what is shown is fetched again
            dialog.get_by_role("button", name=how).click()

    tag("Add tag", "to  print", 0)
    expect(page.get_by_text("1 picture tagged to print")).to_be_visible()
    tag("Add tag", "to print", 0, 1, 2)
    expect(page.get_by_text("2 pictures tagged to print")).to_be_visible()
    page.get_by_text("Tags (1 value)").click()
    chip = page.get_by_role("button", name=re.compile("^to print"))
    expect(chip).to_have_text("to print3")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("Tags (1 value)").click()
    expect(chip).to_have_text("to print1")
    tag("Remove tag", "to print", 0, 1)
    expect(page.get_by_text("1 picture no longer tagged to print")).to_be_visible()
    expect(page.get_by_text("Tags (1 value)")).to_have_count(0)


def test_each_tag_of_an_open_picture_is_a_filter(visit: Callable[..., Page], db: Path) -> None:
    with twinlens.open(db, model=ColourEncoder()) as index:
        red, blue = (str(db.parent / f"photos/{one}.png") for one in ("red", "blue"))
        index.add_tag("warm", red)
        index.add_tag("to print", red, blue)
    page = visit("/?q=red")
    tiles(page).nth(0).locator("a").click()
    tags = page.locator("dt", has_text="Tags").locator("+ dd")
    expect(tags).to_have_text("warm, to print")
    tags.get_by_role("button", name="to print").click()
    expect(tiles(page)).to_have_count(2)
    page.get_by_text(re.compile(r"^Tags \(")).click()
    expect(page.get_by_role("button", name=re.compile(r"^to print"))).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_write_key_is_asked_for(visit: Callable[..., Page], db: Path) -> None:
    with listening(db, keys=(READ, WRITE)) as locked:
        page = visit("/?where=width+>+0", at=locked)
        page.get_by_label("Key", exact=True).fill(READ.split(":")[2])
        page.keyboard.press("Enter")
        tick(page, 0)
        page.get_by_role("button", name="Delete …").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        dialog = page.get_by_role("dialog", name="Write key required")
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_text("Nothing was deleted")).to_be_visible()
        expect(tiles(page)).to_have_count(8)
        tick(page, 0)
        page.get_by_role("button", name="Delete …").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        dialog.get_by_label("Key").fill(WRITE.split(":")[2])
        page.keyboard.press("Enter")
        expect(page.locator("#summary")).to_have_text("7 pictures")


def test_pictures_are_added(visit: Callable[..., Page], tmp_path: Path) -> None:
    new = tmp_path / "new"
    (new / "deep").mkdir(parents=True)
    Image.new("RGB", (90, 50), (200, 30, 30)).save(new / "ruby.png")
    Image.new("RGB", (91, 50), (30, 30, 200)).save(new / "deep/sky.png")
    (new / "broken.png").write_bytes(b"no picture at all")
    (new / "notes.txt").write_text("words")
    page = visit("/?where=width+>+0")
    expect(tiles(page)).to_have_count(8)
    page.get_by_role("button", name="Add pictures").click()
    dialog = page.get_by_role("dialog", name="Add pictures")
    dialog.get_by_label("Folder to add").set_input_files(new)
    expect(dialog.get_by_role("status")).to_have_text("Done: 2 pictures stored")
    failures = dialog.get_by_role("list", name="Not stored").get_by_role("listitem")
    expect(failures).to_have_count(2)
    said = sorted(failures.all_text_contents())
    assert re.match(r"new/broken.png: .+", said[0])
    assert said[1] == "new/notes.txt: is not a picture"
    dialog.get_by_role("button", name="Close").click()
    expect(tiles(page)).to_have_count(10)
    page.locator('[data-id] a[aria-label*="ruby"]').click()
    expect(page.locator("dd.path")).to_have_text("uploads/new/ruby.png")
    expect(page.locator(".large")).to_have_js_property("naturalWidth", 90)


def test_files_and_folders_are_dropped(visit: Callable[..., Page], tmp_path: Path) -> None:
    new = tmp_path / "new"
    (new / "deep").mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (90 + number, 50), (200, 30, 30)).save(new / f"deep/{number}.png")
    Image.new("RGB", (80, 50), (30, 30, 200)).save(tmp_path / "alone.png")
    (new / "broken.png").write_bytes(b"no picture at all")
    page = visit("/?where=width+>+0")
    page.get_by_role("button", name="Add pictures").click()
    dialog = page.get_by_role("dialog", name="Add pictures")
    held: list[Any] = []
    page.route("**/v1/items", lambda route: held.append(route), times=2)
    drop(page, dialog.locator(".drop-zone"), [new, tmp_path / "alone.png"])
    expect(dialog.get_by_role("status")).to_contain_text("1 of 22")
    expect(dialog.get_by_role("progressbar")).to_have_js_property("value", 0)
    held[0].continue_()
    expect(dialog.get_by_role("status")).to_contain_text("17 of 22")
    expect(dialog.get_by_role("progressbar")).to_have_js_property("value", 16)
    held[1].continue_()
    expect(dialog.get_by_role("status")).to_have_text("Done: 21 pictures stored")
    failures = dialog.get_by_role("list", name="Not stored").get_by_role("listitem")
    expect(failures).to_have_text(re.compile("^new/broken.png: .+"))
    dialog.get_by_role("button", name="Close").click()
    expect(tiles(page)).to_have_count(29)


def drop(page: Page, target: Any, paths: list[Path]) -> None:
    """Drop files and folders of this machine, as from a file manager."""
    box = target.bounding_box()
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 12, "data": data}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place})


def test_adding_again_changes_nothing(visit: Callable[..., Page], tmp_path: Path) -> None:
    page = visit()
    page.get_by_role("button", name="Add pictures").click()
    dialog = page.get_by_role("dialog", name="Add pictures")
    for known in ("1 picture known already", "1 picture known already"):
        dialog.get_by_label("Pictures to add").set_input_files(tmp_path / "photos/red.png")
        expect(dialog.get_by_role("status")).to_have_text(f"Done: 0 pictures stored, {known}")


def test_axe_finds_nothing(visit: Callable[..., Page]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit("/?where=width+>+0", reduced_motion="reduce")
    tick(page, 0)
    page.get_by_role("button", name="Delete …").click()
    assert [one["id"] for one in axe.run(page).response["violations"]] == []
    page.keyboard.press("Escape")
    tick(page, 0)
    page.get_by_role("button", name="Tag …").click()
    assert [one["id"] for one in axe.run(page).response["violations"]] == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Add pictures").click()
    assert [one["id"] for one in axe.run(page).response["violations"]] == []

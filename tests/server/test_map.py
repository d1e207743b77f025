"""Test the map: the projection, the routes, and the page in a real browser."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.analysis import projection
from twinlens.search.analysis.projection import HashSample, MapScale, RunningCovariance, project
from twinlens.search.analysis.regions import name_regions
from twinlens.search.errors import UsageError
from twinlens.search.models.base import Rows
from twinlens.search.records import image_id
from twinlens.server import maps
from twinlens.server.app import create_app
from twinlens.server.library import Library
from twinlens.server.routes import map as map_routes
from twinlens.server.settings import Settings


@pytest.fixture
def index(
    tmp_path: Path, encoder: ColourEncoder, paint: Callable[..., Path]
) -> Iterator[twinlens.Index]:
    """Thirty-two pictures: each colour in four shapes, with captions."""
    for colour in COLOURS:
        for number in range(4):
            name = f"photos/{colour}-{number}.png"
            path = paint(colour, name, size=(40 + 7 * number, 30 + 5 * number))
            path.with_suffix(".txt").write_text(f"a {colour} picture, number {number}\n")
    with twinlens.open(tmp_path / "test.db", model=encoder) as opened:
        opened.ingest(tmp_path / "photos")
        yield opened


@pytest.fixture
def app(index: twinlens.Index, encoder: ColourEncoder, tmp_path: Path) -> Iterator[FastAPI]:
    settings = Settings(media=tmp_path / "media", warm=False)
    made = create_app(Library(index._database, model=encoder), settings)
    yield made
    made.state.context.media.close()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1:8640") as opened:
        yield opened


def unit(rows: np.ndarray) -> Rows:
    found: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def unpack(body: bytes) -> tuple[dict[str, Any], np.ndarray, list[str]]:
    (length,) = struct.unpack_from("<I", body)
    said = json.loads(body[4 : 4 + length])
    count = said["points"]
    points = np.frombuffer(body, "<f4", 2 * count, 4 + length).reshape(count, 2)
    ids = body[4 + length + 8 * count :]
    return said, points, [ids[at : at + 16].hex() for at in range(0, len(ids), 16)]


# The projection


def test_the_axes_are_those_of_the_svd() -> None:
    dice = np.random.default_rng(3)
    rows = unit(dice.normal(size=(500, 12)) * np.linspace(3, 0.2, 12) + 1)
    moments = RunningCovariance(12)
    for start in range(0, 500, 77):
        moments.add(rows[start : start + 77])
    mean, axes = moments.axes()
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-6)
    _, _, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(axes.T * right[:2], axis=1)), 1, atol=1e-5)
    assert (axes.max(axis=0) == np.abs(axes).max(axis=0)).all()


def test_fewer_dimensions_than_axes() -> None:
    moments = RunningCovariance(1)
    moments.add(np.ones((3, 1), dtype=np.float32))
    assert moments.axes()[1].shape == (1, 2)


def test_a_sample_is_even_and_the_same_whatever_the_order() -> None:
    dice = np.random.default_rng(1)
    ids = [f"{number:032x}" for number in range(5_000)]
    rows = unit(dice.normal(size=(5_000, 4)))
    chosen = []
    for order in (np.arange(5_000), dice.permutation(5_000)):
        sample = HashSample(4, 300)
        for start in range(0, 5_000, 64):
            part = order[start : start + 64]
            sample.add([ids[n] for n in part], rows[part])
        names, vectors = sample.chosen()
        assert sample.seen == 5_000
        np.testing.assert_array_equal(vectors, rows[[int(name, 16) for name in names]])
        chosen.append(names)
    assert chosen[0] == chosen[1]
    numbers = np.array([int(name, 16) for name in chosen[0]])
    assert len(numbers) == 300
    assert np.histogram(numbers, 4, (0, 5_000))[0].min() > 50


def test_points_far_out_do_not_squeeze_the_others() -> None:
    points = np.random.default_rng(2).normal(size=(1_000, 2))
    points[0] = [1e6, -1e6]
    fitted = MapScale(points).apply(points)
    assert np.abs(fitted).max() <= 1
    assert np.quantile(np.abs(fitted), 0.5, axis=0).min() > 0.2
    order = np.argsort(points[:, 0])
    assert (np.diff(fitted[order, 0]) >= 0).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_hardly_any_points_or_all_the_same(rows: int) -> None:
    fitted = MapScale(np.ones((rows, 2))).apply(np.ones((rows, 2)))
    assert fitted.shape == (rows, 2)
    assert (fitted == 0).all()


def test_alike_pictures_are_near_each_other(index: twinlens.Index) -> None:
    made = project(index.engine.collection)
    assert (made.method, made.total, len(made.ids)) == ("pca", 32, 32)
    assert made.points.dtype == np.float32
    colours = {hit.id: Path(hit.path).stem.split("-")[0] for hit in index.search("red", limit=32)}
    names = np.array([colours[key] for key in made.ids])
    for colour in ("red", "green", "blue"):
        own = made.points[names == colour]
        others = made.points[names != colour]
        spread = np.linalg.norm(own - own.mean(axis=0), axis=1).max()
        assert spread < np.linalg.norm(others - own.mean(axis=0), axis=1).max() / 2


def test_a_sample_of_the_map_and_the_places_of_the_rest(index: twinlens.Index) -> None:
    collection = index.engine.collection
    whole, part = project(collection), project(collection, limit=10)
    assert (len(part.ids), part.total) == (10, 32)
    assert set(part.ids) < set(whole.ids)
    rows = {
        row["id"]: row["vector"]
        for rows in collection.scan("images", ["id", "vector"])
        for row in rows
    }
    vectors = np.array([rows[key] for key in part.ids], dtype=np.float32)
    np.testing.assert_allclose(part.place(vectors), part.points, atol=1e-5)
    assert part.place(vectors[:0]).shape == (0, 2)


def test_without_umap_it_says_what_to_install(
    index: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "has_umap", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'twinlens\[map\]'"):
        project(index.engine.collection, "umap")


def test_umap(index: twinlens.Index) -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed")
    made = project(index.engine.collection, "umap", limit=20)
    assert (made.method, made.points.shape, made.total) == ("umap", (20, 2), 32)
    assert np.abs(made.points).max() <= 1
    rows = {
        row["id"]: row["vector"]
        for rows in index.engine.collection.scan("images", ["id", "vector"])
        for row in rows
    }
    vectors = np.array([rows[key] for key in made.ids], dtype=np.float32)
    assert np.abs(made.place(vectors) - made.points).mean() < 0.5


# Over HTTP


def test_the_map_over_http(client: TestClient, index: twinlens.Index) -> None:
    answer = client.get("/v1/map")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-map-methods"].startswith("pca")
    said, points, ids = unpack(answer.content)
    assert said == {"collection": "twinlens", "method": "pca", "points": 32, "total": 32}
    assert np.abs(points).max() <= 1
    assert set(ids) == {hit.id for hit in index.search("red", limit=32)}
    tag = answer.headers["etag"]
    assert client.get("/v1/map", headers={"If-None-Match": tag}).status_code == 304


def test_a_map_follows_its_collection(
    client: TestClient, index: twinlens.Index, tmp_path: Path
) -> None:
    before = client.get("/v1/map").headers["etag"]
    index.delete(tmp_path / "photos" / "red-0.png")
    after = client.get("/v1/map")
    assert unpack(after.content)[0]["points"] == 31
    assert after.headers["etag"] != before


def test_a_map_is_drawn_once_and_answered_202_meanwhile(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go, drawn = threading.Event(), threading.Event()
    drawing: list[int] = []

    def slow(*arguments: Any, **options: Any) -> Any:
        drawing.append(1)
        may_go.wait(30)
        try:
            return project(*arguments, **options)
        finally:
            drawn.set()

    monkeypatch.setattr(maps, "project", slow)
    monkeypatch.setattr(map_routes, "TIMEOUT", 0.0)
    for _ in range(3):
        answer = client.get("/v1/map")
        assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
        assert client.post("/v1/map/pictures", json={"ids": []}).status_code == 202
    may_go.set()
    assert drawn.wait(30)
    monkeypatch.setattr(map_routes, "TIMEOUT", 30.0)
    assert client.get("/v1/map").status_code == 200
    assert len(drawing) == 1


def test_a_failed_map_is_drawn_again(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise UsageError("not today")

    monkeypatch.setattr(maps, "project", broken)
    assert client.get("/v1/map").json()["detail"] == "not today"
    monkeypatch.setattr(maps, "project", project)
    assert client.get("/v1/map").status_code == 200


def test_points_and_titles_of_pictures(client: TestClient, paint: Callable[..., Path]) -> None:
    _, points, ids = unpack(client.get("/v1/map").content)
    red = image_id(paint("red", "photos/red-0.png").read_bytes())
    asked = client.post("/v1/map/pictures", json={"ids": [red, "0" * 32, red]}).json()
    assert list(asked["pictures"]) == [red]
    told = asked["pictures"][red]
    assert told["title"] == "a red picture, number 0"
    np.testing.assert_allclose([told["x"], told["y"]], points[ids.index(red)], atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": "all"},
        {"ids": ["no id"]},
        {"ids": ["0" * 32] * 1_001},
        {"ids": [], "method": "t-sne"},
        {"ids": [], "further": 1},
    ],
)
def test_bodies_that_are_refused(client: TestClient, body: Any) -> None:
    assert client.post("/v1/map/pictures", json=body).status_code == 422


def test_missing_maps(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/v1/map?collection=nowhere").status_code == 404
    assert client.get("/v1/map?method=t-sne").status_code == 422
    monkeypatch.setattr(projection, "has_umap", lambda: False)
    answer = client.get("/v1/map?method=umap")
    assert answer.status_code == 400
    assert "twinlens[map]" in answer.json()["detail"]


def test_an_empty_collection_has_an_empty_map(
    client: TestClient, index: twinlens.Index, tmp_path: Path
) -> None:
    index.delete(tmp_path / "photos")
    said, points, ids = unpack(client.get("/v1/map").content)
    assert (said["points"], said["total"], len(points), ids) == (0, 0, 0, [])


def test_one_picture(
    client: TestClient, index: twinlens.Index, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    index.delete(tmp_path / "photos")
    path = tmp_path / "one" / "one.png"
    path.parent.mkdir()
    Image.new("RGB", (20, 20), COLOURS["red"]).save(path)
    index.ingest(path)
    _, points, ids = unpack(client.get("/v1/map").content)
    assert ids == [image_id(path.read_bytes())]
    assert points.tolist() == [[0, 0]]


# The page


ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    """Run a server with the app; yield its address."""
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def open_page() -> Iterator[Callable[..., Any]]:
    """Open an address in Chromium. Browser errors and warnings fail the test."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    complaints: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)

        def opened(address: str, **options: Any) -> Any:
            context = browser.new_context(
                **({"viewport": {"width": 1200, "height": 800}} | options)
            )
            page = context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda said: said.type in ("error", "warning") and complaints.append(said.text),
            )
            page.goto(f"{address}/map")
            page.locator("#status", has_text="32 pictures in view").wait_for()
            return page

        yield opened
        browser.close()
    assert complaints == []


#: The canvas once it shows pictures, not only dots.
DRAWN = '#canvas[data-pictures]:not([data-pictures="0"])'


def seen(page: Any, colour: str) -> list[tuple[float, float]]:
    """The places in the window where the map has a colour."""
    shot = Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")
    near = np.abs(np.asarray(shot, dtype=np.int16) - COLOURS[colour]).max(axis=2) < 24
    box = page.locator("#canvas").bounding_box()
    scale = shot.width / box["width"]
    rows, columns = np.nonzero(near)
    return [
        (box["x"] + x / scale, box["y"] + y / scale) for y, x in zip(rows, columns, strict=True)
    ]


def find(page: Any, colour: str) -> tuple[float, float]:
    """Highlight a colour's pictures, and return the place of one of them."""
    page.locator("#words").fill(colour)
    page.keyboard.press("Enter")
    page.locator("#status", has_text=f"highlighted for “{colour}”").wait_for()
    before: list[tuple[float, float]] = []
    for _ in range(100):
        places = seen(page, colour)
        if len(places) > 500 and places == before:  # the map has stopped moving
            return places[len(places) // 2]
        before = places
        page.wait_for_timeout(100)
    raise AssertionError(f"nothing {colour} is on the map")


def test_the_page_draws_its_pictures_and_zooms(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address)
    page.locator(DRAWN).wait_for()
    page.locator("#in").click()
    page.locator("#in").click()
    page.locator("#status").filter(has_not_text="32 pictures").wait_for()
    page.locator("#canvas").focus()
    page.keyboard.press("0")
    page.locator("#status", has_text="32 pictures in view").wait_for()
    for key in ["+"] * 6 + ["ArrowRight"]:
        page.keyboard.press(key)
    page.locator("#status").filter(has_not_text="32 pictures").wait_for()
    page.locator("#all").click()
    page.locator("#status", has_text="32 pictures in view").wait_for()
    page.mouse.move(500, 400)
    page.mouse.wheel(0, -900)
    page.locator("#status").filter(has_not_text="32 pictures").wait_for()


def test_it_says_that_it_is_drawn(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address)
    held: list[Any] = []
    page.route("**/v1/map?*", lambda route: held.append(route), times=1)
    page.reload(wait_until="domcontentloaded")
    status = page.locator("#status", has_text="Drawing the map…")
    status.wait_for()
    while not held:
        page.wait_for_timeout(20)
    page.wait_for_timeout(400)  # the empty map has settled
    assert status.is_visible()
    held[0].fulfill(status=202, headers={"Retry-After": "1"}, json={})
    status.wait_for()
    page.locator("#status", has_text="32 pictures in view").wait_for()


def test_a_query_lights_its_neighbours_up(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address)
    page.keyboard.press("/")
    page.keyboard.type("a red picture")
    page.keyboard.press("Enter")
    page.locator("#status", has_text="highlighted for").wait_for()
    assert page.url.endswith("/map?q=a+red+picture")
    lit = page.locator("#list li.highlighted")
    lit.first.wait_for()
    page.locator("#list li.highlighted", has_text="a red picture, number").first.wait_for()
    page.locator(DRAWN).wait_for()
    page.locator("#words").fill("")
    page.keyboard.press("Enter")
    page.locator("#status").filter(has_not_text="highlighted").wait_for()
    assert lit.count() == 0
    page.goto(f"{address}/map?q=blue")
    page.locator("#status", has_text="highlighted for “blue”").wait_for()


def test_pointing_shows_a_picture_and_clicking_opens_it(
    address: str, open_page: Callable[..., Any]
) -> None:
    page = open_page(address)
    place = find(page, "red")
    page.mouse.move(*place)
    card = page.locator("#card", has_text="a red picture, number")
    card.wait_for()
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    page.mouse.click(*place)
    page.wait_for_url("**/?id=*&open=*")


def test_the_list_is_for_the_keyboard(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address)
    page.locator("#list a").first.focus()
    page.keyboard.press("Tab")
    second = page.locator("#list a").nth(1)
    assert second.evaluate("link => link === document.activeElement")
    page.locator("#card").wait_for()
    key = second.get_attribute("data-id")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/?id={key}&open={key}")


def test_on_a_phone(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(
        address, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.touchscreen.tap(*find(page, "green"))
    page.locator("#card.pinned", has_text="a green picture").wait_for()
    assert "open=" in page.locator("#card a", has_text="Open").get_attribute("href")
    page.locator("#card button").click()
    page.locator("#card").wait_for(state="hidden")
    page.locator("#fold").click()
    page.locator("#list a").first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_stands_in_anybodys_way(
    address: str, open_page: Callable[..., Any], theme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here")
    page = open_page(address, color_scheme=theme, bypass_csp=True)
    page.locator("#list img.loaded").first.wait_for()
    found = axe.Axe().run(page).response["violations"]
    serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []


@pytest.fixture
def colour_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name regions by colours, which the encoder sees; it knows no everyday words."""
    monkeypatch.setattr(map_routes, "name_regions", partial(name_regions, labels=list(COLOURS)))


@pytest.mark.usefixtures("colour_names")
def test_names_are_at_pictures_that_show_them(client: TestClient) -> None:
    regions = client.get("/v1/map/regions").json()["regions"]
    assert len(regions) == 2
    _, points, ids = unpack(client.get("/v1/map").content)
    asked = client.post("/v1/map/pictures", json={"ids": [one["id"] for one in regions]}).json()
    for one in regions:
        assert one["name"] in asked["pictures"][one["id"]]["title"]
        np.testing.assert_allclose([one["x"], one["y"]], points[ids.index(one["id"])], atol=1e-4)


@pytest.mark.usefixtures("colour_names")
def test_regions_have_names(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address)
    page.locator("#regions", has_text="pictures").wait_for(state="attached")
    told = re.findall(r"(\w+): \d+", page.locator("#regions").text_content())
    assert len(told) == 2
    page.locator(f"#canvas[data-regions='{', '.join(told)}']").wait_for()
    page.locator("#words").fill("red")
    page.locator("#list li.highlighted").first.wait_for()
    assert page.locator("#canvas").get_attribute("data-regions") == "", "what is found is in view"


def test_named_pictures_come_before_all_others(address: str, open_page: Callable[..., Any]) -> None:
    """Only another named picture can hide one; and pictures never overlap, as without names."""
    page = open_page(address)
    script = """async ([seed, count, preferred]) => {
      const { Levels, sizeAt, enlargementOf, GAP } = await import('/static/map/points.js');
      let state = seed;
      const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
      const xy = Float32Array.from({ length: 2 * count }, () => 2 * random() - 1);
      const first = new Levels(xy, 1, preferred).upTo(26);
      const faults = [];
      for (let level = 0; level < 8; level += 1) {
        const scale = 100 * Math.SQRT2 ** level;
        const apart = (sizeAt(scale, enlargementOf(count)) + GAP) / scale - 1e-6;
        const near = (a, b) => Math.abs(xy[2 * a] - xy[2 * b]) < apart
          && Math.abs(xy[2 * a + 1] - xy[2 * b + 1]) < apart;
        const shown = [...first.keys()].filter((point) => first[point] <= level);
        for (const a of shown) {
          for (const b of shown) if (a < b && near(a, b)) faults.push(['overlap', level, a, b]);
        }
        for (const a of preferred) {
          const hidden = preferred.some((b) => first[b] <= level && near(a, b));
          if (first[a] > level && !hidden) faults.push(['hidden', level, a]);
        }
      }
      return [faults, preferred.filter((point) => first[point] === 0).length];
    }"""
    for seed in (1, 7):
        faults, at_once = page.evaluate(script, [seed, 1_500, [3, 700, 1_499, 42, 43, 44, 45, 46]])
        assert faults == []
        assert at_once >= 1


def test_the_query_goes_from_page_to_page(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address)
    page.goto(f"{address}/?q=red&not=blue")
    page.locator("#results .tile-link").first.wait_for()
    page.locator("#map").click()
    page.wait_for_url("**/map?q=red&not=blue")
    page.locator("#list li.highlighted").first.wait_for()
    page.locator("#results").click()
    page.wait_for_url("**/?q=red&not=blue")


def test_a_picture_that_is_opened_closes_back_to_the_map(
    address: str, open_page: Callable[..., Any]
) -> None:
    page = open_page(address)
    page.locator("#list a").first.click()
    page.wait_for_url("**/?id=*&open=*")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_url("**/map")
    page.locator("#list a").first.wait_for()


def test_the_overview_covers_no_picture(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address)
    stage, mini = (page.locator(name).bounding_box() for name in ("#canvas", "#mini"))
    assert mini["x"] >= stage["x"] + stage["width"]


def test_the_map_switches_collections(
    address: str,
    open_page: Callable[..., Any],
    index: twinlens.Index,
    encoder: ColourEncoder,
    paint: Callable[..., Path],
    tmp_path: Path,
) -> None:
    for number in range(3):
        paint("red", f"second/{number}.png", size=(20 + number, 20))
    twinlens.Index(index._database, "second", model=encoder).ingest(tmp_path / "second")
    page = open_page(address)
    page.get_by_label("Collection").select_option("second")
    page.locator("#status", has_text="3 pictures in view").wait_for()
    assert page.url.endswith("/map?collection=second")


def test_an_empty_map_says_so(
    address: str, open_page: Callable[..., Any], index: twinlens.Index, tmp_path: Path
) -> None:
    page = open_page(address)
    page.wait_for_load_state("networkidle")  # thumbnails of deleted pictures are a 404
    index.delete(tmp_path / "photos")
    page.reload()
    page.locator("#message", has_text="There is nothing to show yet").wait_for()


def test_a_caption_is_no_markup(
    address: str,
    open_page: Callable[..., Any],
    index: twinlens.Index,
    paint: Callable[..., Path],
    tmp_path: Path,
) -> None:
    page = open_page(address)
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    path = paint("red", "more/hostile.png", size=(99, 99))
    path.with_suffix(".txt").write_text(hostile)
    index.ingest(path.parent)
    page.goto(f"{address}/map?q=red")
    page.locator("#list li.highlighted", has_text=hostile).wait_for()
    assert page.locator("#list script, #list img[onerror]").count() == 0

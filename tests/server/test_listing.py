"""``GET /v1/items`` and ``/v1/files``, page by page, with the fields that a client wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder
from support.serving import paint, serving

import twinlens


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = paint(tmp_path_factory.mktemp("listing") / "photos")
    (folder / "red.json").write_text('{"caption": "a red picture", "year": 2021, "tags": ["a"]}')
    return folder


@pytest.fixture(scope="module")
def client(photos: Path) -> Iterator[TestClient]:
    db = photos.parent / "listing.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with serving(db) as opened:
        yield opened


def _pages(client: TestClient, path: str, field: str, **parameters: Any) -> list[list[Any]]:
    pages: list[list[Any]] = []
    after = ""
    while not pages or after:
        said = client.get(path, params={**parameters, "after": after})
        assert said.status_code == 200, said.text
        pages.append(said.json()[field])
        after = said.json()["next"]
    return pages


@pytest.mark.parametrize("limit", [1, 3, 4, len(COLOURS), 1_000])
def test_no_page_follows_the_last(client: TestClient, photos: Path, limit: int) -> None:
    pages = _pages(client, "/v1/items", "items", limit=limit)
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert len(pages) == -(-len(COLOURS) // limit)
    ids = [one["id"] for page in pages for one in page]
    assert ids == sorted(set(ids))
    assert len(ids) == len(COLOURS)
    paths = _pages(client, "/v1/files", "paths", limit=limit, root=str(photos))
    assert len(paths) == -(-len(COLOURS) // limit)
    assert [one for page in paths for one in page] == sorted(
        str(photos / f"{colour}.png") for colour in COLOURS
    )


def test_an_empty_listing_has_no_next_page(client: TestClient) -> None:
    said = client.get("/v1/items", params={"where": 'path == "nowhere.png"'}).json()
    assert said == {"items": [], "next": ""}


def test_fields_are_chosen(client: TestClient, photos: Path) -> None:
    def ask(fields: str | None) -> dict[str, Any]:
        parameters = {"where": "year == 2021", **({"fields": fields} if fields is not None else {})}
        (one,) = client.get("/v1/items", params=parameters).json()["items"]
        return dict(one)

    key = ask("")["id"]
    assert ask("") == ask("id") == {"id": key}
    assert ask(None) == {"id": key, "path": str(photos / "red.png")}
    assert ask("captions, year,width,paths") == {
        "id": key,
        "captions": ["a red picture"],
        "year": 2021,
        "width": 40,
        "paths": [str(photos / "red.png")],
    }
    found = ask("thumbnail,image,tags")
    assert client.get(found["thumbnail"]).headers["content-type"] == "image/jpeg"
    assert found["image"] == f"/v1/items/{key}/image?collection=twinlens"
    assert "a" in found["tags"]
    # What a picture does not have is null.
    (blue,) = client.get("/v1/items?where=path=='blue.png'&fields=year").json()["items"]
    assert blue["year"] is None


@pytest.mark.parametrize(
    ("parameters", "status", "says"),
    [
        ({"fields": "colour"}, 400, "there is no field 'colour': use "),
        ({"fields": "vector"}, 400, "there is no field 'vector'"),
        ({"limit": 0}, 422, "limit"),
        ({"limit": 1_001}, 422, "limit"),
        ({"limit": "x"}, 422, "limit"),
        ({"fields": "a" * 3_000}, 422, "fields"),
    ],
)
def test_mistakes(client: TestClient, parameters: dict[str, Any], status: int, says: str) -> None:
    refused = client.get("/v1/items", params=parameters)
    assert refused.status_code == status
    assert says in refused.json()["detail"]

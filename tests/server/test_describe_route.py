"""``/v1/describe``: proposals for stored pictures and for images that are sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder
from support.serving import paint, serving

import twinlens
from twinlens.search.milvus.reader import CollectionReader
from twinlens.search.records import image_id


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captions, ``photos``, and one without, ``bare``."""
    folder = tmp_path_factory.mktemp("describe")
    for colour, pixel in COLOURS.items():
        (folder / "bare").mkdir(exist_ok=True)
        Image.new("RGB", (44, 30), pixel).save(folder / "bare" / f"{colour}.png")
    return paint(folder / "photos")


@pytest.fixture(scope="module")
def client(photos: Path) -> Iterator[TestClient]:
    db = photos.parent / "describe.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
        index.ingest(photos.parent / "bare")
    with serving(db) as opened:
        yield opened


def id_of(photos: Path, name: str) -> str:
    return image_id((photos.parent / name).read_bytes())


def texts(result: dict[str, Any]) -> list[str]:
    return [one["text"] for one in result["proposals"]]


def test_stored_and_sent_pictures_are_described(client: TestClient, photos: Path) -> None:
    red, black = id_of(photos, "bare/red.png"), id_of(photos, "photos/black.png")
    sent = [
        base64.b64encode(data).decode()
        for data in ((photos.parent / "photos/blue.png").read_bytes(), b"nothing")
    ]
    asked = {"ids": [red, black, red], "images": [{"base64": one} for one in sent]}
    answer = client.post("/v1/describe", json=asked | {"min_probability": 0.02})
    first, second, third, fourth, fifth = answer.json()["results"]
    assert first["id"] == red
    assert texts(first) == ["a red picture"]
    assert 0.02 <= first["proposals"][0]["probability"] <= 1
    assert third == first
    assert second == {"id": black, "captions": ["a black picture"]}
    assert (fourth["index"], fourth["captions"]) == (0, ["a blue picture"])
    assert "not an image" in fifth["error"]
    assert "path" not in str(answer.json())


def test_labels_count_and_files(client: TestClient, photos: Path) -> None:
    files = {"image": (photos.parent / "bare/green.png").read_bytes() + b"."}
    request = {"request": '{"labels": ["red", "green", "blue"], "count": 2, "min_probability": 0}'}
    (one,) = client.post("/v1/describe", data=request, files=files).json()["results"]
    assert texts(one)[0] == "green"
    assert len(texts(one)) == 2


def test_proposals_are_cached_but_not_what_is_stored(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    searches: list[str] = []
    search = CollectionReader.search

    def counted(self: CollectionReader, kind: Any, *rest: Any, **options: Any) -> Any:
        searches.append(kind)
        return search(self, kind, *rest, **options)

    monkeypatch.setattr(CollectionReader, "search", counted)
    with twinlens.open(tmp_path / "own.db", model=ColourEncoder()) as index:
        index.ingest(photos)
        index.ingest(photos.parent / "bare")
    ids = [id_of(photos, f"bare/{colour}.png") for colour in COLOURS]
    asked: dict[str, Any] = {"ids": ids, "min_probability": 0.02}
    with serving(tmp_path / "own.db") as client:
        first = client.post("/v1/describe", json=asked).json()
        assert searches == ["texts"], "one search for all"
        assert client.post("/v1/describe", json=asked).json() == first
        assert searches == ["texts"]
        assert client.post("/v1/describe", json=asked | {"count": 2}).status_code == 200
        assert len(searches) == 2, "another choice"
        item = {"uri": str(photos.parent / "bare/red.png"), "captions": ["its own"], "size": 1}
        form = {"items": json.dumps({"items": [item | {"file": 0}]})}
        data = (photos.parent / "bare/red.png").read_bytes()
        assert client.post("/v1/items", data=form, files={"file": data}).is_success
        after = client.post("/v1/describe", json=asked).json()["results"]
        assert after[0] == {"id": ids[0], "captions": ["its own"]}
        assert client.delete(f"/v1/items/{ids[1]}").is_success
        assert client.post("/v1/describe", json=asked).status_code == 400


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 400),
        ({"ids": ["0" * 32]}, 400),
        ({"ids": ["../x"]}, 400),
        ({"ids": ["0" * 32] * 65}, 422),
        ({"ids": ["0" * 32], "count": 0}, 422),
        ({"ids": ["0" * 32], "min_probability": 2}, 422),
        ({"ids": ["0" * 32], "labels": ["red"]}, 400),
        ({"ids": ["0" * 32], "labels": ["a"] * 10_001}, 422),
        ({"ids": ["0" * 32], "top": 1}, 422),
        ({"ids": ["0" * 32], "collection": "nobody"}, 404),
    ],
)
def test_what_cannot_be_described(client: TestClient, asked: dict[str, Any], status: int) -> None:
    answer = client.post("/v1/describe", json=asked)
    assert (answer.status_code, answer.json()["status"]) == (status, status)

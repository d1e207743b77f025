"""Test downloading several pictures as a zip."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder
from support.serving import READ, bearer, serving

import twinlens
from twinlens.search.records import image_id
from twinlens.server.archive import MAX_PICTURES, unique_name


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, (colour, pixel) in enumerate(COLOURS.items()):
        path = tmp_path / "photos" / str(number % 2) / f"a{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), pixel).save(path)
        assert colour
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder()) as index:
        index.ingest(tmp_path / "photos")
    return tmp_path / "photos"


def download(client: Any, ids: list[str], **options: Any) -> Any:
    """The answer with the archive."""
    asked = client.post("/v1/zip", json={"ids": ids}, **options)
    assert asked.status_code == 201, asked.text
    return client.get(asked.json()["address"], **options)


def ids_of(*paths: Path) -> list[str]:
    return [image_id(path.read_bytes()) for path in paths]


def test_the_originals_as_they_are(photos: Path) -> None:
    some = [photos / "0/a0.png", photos / "1/a0.png", photos / "1/a2.png"]
    with serving(photos.parent / "x.db") as client:
        answer = download(client, ids_of(*some))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="twinlens.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a0.png", "a0 (2).png", "a2.png"]
        assert [archive.read(name) for name in archive.namelist()] == [
            path.read_bytes() for path in some
        ]


def test_what_is_gone_is_named(photos: Path) -> None:
    kept, gone = photos / "0/a0.png", photos / "0/a1.png"
    ids = ids_of(kept, gone)
    gone.unlink()
    with serving(photos.parent / "x.db") as client:
        answer = download(client, ids)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["a0.png", "not-included.txt"]
        said = archive.read("not-included.txt").decode()
    assert said.startswith(str(gone))
    assert "no longer there" in said


def test_unknown_ids_and_too_many(photos: Path) -> None:
    def status(client: Any, ids: list[str]) -> int:
        return int(client.post("/v1/zip", json={"ids": ids}).status_code)

    with serving(photos.parent / "x.db") as client:
        assert status(client, ["0" * 32, "../../etc"]) == 404
        assert status(client, []) == 422
        assert status(client, [f"{number:032x}" for number in range(MAX_PICTURES + 1)]) == 422
        assert client.get("/v1/zip/" + "0" * 32).status_code == 404


def test_keys(photos: Path) -> None:
    ids = ids_of(photos / "0/a0.png")
    with serving(photos.parent / "x.db", keys=(READ,)) as client:
        assert client.post("/v1/zip", json={"ids": ids}).status_code == 401
        asked = client.post("/v1/zip", json={"ids": ids}, headers=bearer(READ))
        assert client.get(asked.json()["address"]).status_code == 401
        assert download(client, ids, headers=bearer(READ)).status_code == 200


def test_an_archive_belongs_to_its_tenant(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), COLOURS["red"]).save(tmp_path / "red.png")
    with twinlens.open(tmp_path / "x.db", model=ColourEncoder(), tenant="ann") as index:
        index.ingest(tmp_path / "red.png")
    ann, bob = (bearer(f"{one}:read:{one}-key-0123456789:{one}") for one in ("ann", "bob"))
    keys = ("ann:read:ann-key-0123456789:ann", "bob:read:bob-key-0123456789:bob")
    with serving(tmp_path / "x.db", keys=keys) as client:
        ids = ids_of(tmp_path / "red.png")
        assert client.post("/v1/zip", json={"ids": ids}, headers=bob).status_code == 404
        address = client.post("/v1/zip", json={"ids": ids}, headers=ann).json()["address"]
        assert client.get(address, headers=bob).status_code == 404
        assert client.get(address, headers=ann).status_code == 200


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.jpg", "b.jpg"),
        ("C:\\photos\\b.jpg", "b.jpg"),
        ("s3://bucket/..", "picture"),
        ("/a/..hidden.", "hidden"),
        ('/a/x<>:"|?*.png', "x_______.png"),
        ("/a/" + "ü" * 300 + ".jpeg", "ü" * 100 + ".jpeg"),
        ("/a/not-included.txt", "not-included (2).txt"),
    ],
)
def test_names_are_safe_everywhere(path: str, name: str) -> None:
    assert unique_name(path, {"not-included.txt"}) == name


def test_names_that_differ_only_in_case_are_told_apart() -> None:
    used: set[str] = set()
    assert [unique_name(path, used) for path in ("A.jpg", "a.JPG", "x/a.jpg")] == [
        "A.jpg",
        "a (2).JPG",
        "a (3).jpg",
    ]

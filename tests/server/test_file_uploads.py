"""Storing pictures with one line of curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.colours import ColourEncoder
from support.serving import READ, WRITE, bearer, paint, served, serving

import twinlens
from twinlens.search.records import image_id
from twinlens.server.file_uploads import MAX_NAME, uploads_of


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("curl") / "photos")


@pytest.fixture(scope="module")
def address(photos: Path) -> Iterator[str]:
    db = photos.parent / "curl.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos / "white.png")
    with served(db, keys=(READ, WRITE)) as found:
        yield found


def _curl(*arguments: str) -> tuple[int, dict[str, Any]]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--write-out", "\n%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def _key(entry: str) -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {entry.split(':')[2]}"


def test_one_line_stores_a_picture(address: str, photos: Path) -> None:
    red = photos / "red.png"
    key = image_id(red.read_bytes())
    line = ("-F", f"file=@{red}", f"{address}/v1/items")
    status, said = _curl(*_key(WRITE), *line)
    assert status == 200, said
    (item,) = said["items"]
    path = f"uploads/{key[:16]}/red.png"
    assert (item["uri"], item["status"], item["id"], said["wanted"]) == (path, "stored", key, [])
    status, found = _curl(
        *_key(READ), "-H", "Content-Type: application/json", "-d", '{"query": "red", "limit": 1}',
        f"{address}/v1/search",
    )  # fmt: skip
    assert [hit["path"] for hit in found["hits"]] == [path]
    # The same again changes nothing.
    status, again = _curl(*_key(WRITE), *line)
    assert again["items"][0]["status"] == "unchanged"
    status, refused = _curl(*_key(READ), *line)
    assert (status, refused["type"]) == (403, "/problems/scope")


def test_several_files_and_what_goes_wrong(address: str, photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    files = [photos / "blue.png", photos / "blue.png", broken]
    parts = [part for path in files for part in ("-F", f"file=@{path}")]
    status, said = _curl(*_key(WRITE), *parts, f"{address}/v1/items")
    assert status == 200
    assert [item["status"] for item in said["items"]] == ["stored", "failed"]
    assert "not an image" in said["items"][1]["reason"]


def test_files_with_the_same_name_replace_nothing(tmp_path: Path, photos: Path) -> None:
    with serving(tmp_path / "names.db", keys=(WRITE,)) as client:
        for colour in ("red", "green"):
            sent = {"file": ("IMG_0001.JPG", (photos / f"{colour}.png").read_bytes())}
            data = {"items": json.dumps({"collection": "camera"})}
            answer = client.post("/v1/items", files=sent, data=data, headers=bearer(WRITE))
            assert answer.status_code == 200, answer.text
        listed = client.get("/v1/items?collection=camera", headers=bearer(WRITE)).json()["items"]
        assert len(listed) == 2
        picture = f"/v1/items/{listed[0]['id']}/image?collection=camera"
        assert client.get(picture, headers=bearer(WRITE)).content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "a.jpg"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("../../etc/passwd", "passwd"),
        ("..", "picture"),
        ("", "picture"),
        ("a\nb\x1b[2J\u202e.jpg", "ab[2J.jpg"),
        ("é" * 400 + ".jpg", "é" * (MAX_NAME // 2 - 2) + ".jpg"),
    ],
)
def test_names_are_made_safe(name: str, expected: str) -> None:
    (upload,) = uploads_of([b"data"], [name])
    assert upload.uri == f"uploads/{image_id(b'data')[:16]}/{expected}"
    assert (upload.root, f"uploads/{upload.relative}") == ("uploads", upload.uri)


def test_captions_come_with_a_description(address: str, photos: Path) -> None:
    described = {"items": [{"uri": "trips/a.png", "captions": ["a beach"], "file": 0}]}
    form = ("-F", f"items={json.dumps(described)}", "-F", f"file=@{photos / 'orange.png'}")
    status, said = _curl(*_key(WRITE), *form, f"{address}/v1/items")
    assert (status, said["items"][0]["uri"], said["texts"]) == (200, "trips/a.png", 1)

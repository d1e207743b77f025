"""HEAD and parts of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.serving import paint, serving

import twinlens
from twinlens.search.records import image_id


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("ranges") / "photos")


@pytest.fixture(scope="module")
def client(photos: Path) -> Iterator[TestClient]:
    db = photos.parent / "ranges.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with serving(db) as opened:
        yield opened


@pytest.fixture(scope="module")
def data(photos: Path) -> bytes:
    """The bytes of a stored picture."""
    return (photos / "red.png").read_bytes()


@pytest.fixture(scope="module")
def path(data: bytes) -> str:
    return f"/v1/items/{image_id(data)}/image"


def test_head_says_what_get_would_send(client: TestClient, path: str) -> None:
    for address in (path, path.replace("image", "thumbnail?size=160")):
        head, whole = client.head(address), client.get(address)
        assert (head.status_code, head.content) == (200, b"")
        names = ("content-length", "content-type", "etag", "cache-control", "accept-ranges")
        assert [head.headers[name] for name in names] == [whole.headers[name] for name in names]
        assert int(head.headers["content-length"]) == len(whole.content)
    assert client.head("/v1/items/0/image").status_code == 404


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 6),
        ("BYTES = 4 - 7 ", 4, 8),
        ("bytes=10-", 10, None),
        ("bytes=-6", -6, None),
        ("bytes=-999999", 0, None),
        ("bytes=5-999999999", 5, None),
    ],
)
def test_a_part_of_a_picture(
    client: TestClient, path: str, data: bytes, header: str, start: int, stop: int | None
) -> None:
    part = client.get(path, headers={"Range": header})
    assert part.status_code == 206
    assert part.content == data[start:stop]
    first = start % len(data)
    last = first + len(part.content) - 1
    assert part.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"
    assert part.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "header", ["bytes=a-b", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "items=0-1", "bytes=٣-٤", "x"]
)
def test_what_cannot_be_understood_gets_all_bytes(
    client: TestClient, path: str, data: bytes, header: str
) -> None:
    whole = client.get(path, headers=[(b"Range", header.encode())])
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["accept-ranges"] == "bytes"


def test_bytes_that_do_not_exist_are_a_416(client: TestClient, path: str, data: bytes) -> None:
    for header in (f"bytes={len(data)}-", "bytes=99999-100000", "bytes=-0"):
        refused = client.get(path, headers={"Range": header})
        assert (refused.status_code, refused.json()["type"]) == (416, "/problems/range")
        assert refused.headers["content-range"] == f"bytes */{len(data)}"


def test_a_part_only_of_what_the_client_has(client: TestClient, path: str, data: bytes) -> None:
    def ask(**headers: str) -> tuple[int, Any]:
        answer = client.get(path, headers={"Range": "bytes=0-1"} | headers)
        return answer.status_code, answer.content

    tag = client.head(path).headers["etag"]
    assert ask(**{"If-Range": tag}) == (206, data[:2])
    assert ask(**{"If-Range": '"other"'}) == (200, data)
    assert ask(**{"If-Range": f"W/{tag}"}) == (200, data)  # only a strong tag will do
    assert ask(**{"If-Range": "Wed, 21 Oct 2026 07:28:00 GMT"}) == (200, data)
    assert ask(**{"If-None-Match": tag}) == (304, b"")


def test_a_part_of_a_thumbnail(client: TestClient, path: str) -> None:
    address = path.replace("image", "thumbnail")
    whole = client.get(address).content
    part = client.get(address, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, whole[1:4])

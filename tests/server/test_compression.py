"""Compressed answers, and files of the pages that browsers keep."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.serving import paint, serving

import twinlens
from twinlens.server.assets import Assets
from twinlens.server.encodings import accepted_encoding
from twinlens.server.middleware.compression import LARGE, SMALL

BROTLI = importlib.util.find_spec("brotli") is not None
BEST = "br" if BROTLI else "gzip"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    photos = paint(tmp_path_factory.mktemp("compression") / "photos")
    db = photos.parent / "compression.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with serving(db) as opened:
        yield opened


def _encoding(client: TestClient, path: str, **headers: str) -> tuple[str, int]:
    """The content coding of an answer, and its bytes as they were sent."""
    answer = client.get(path, headers=headers)
    assert answer.status_code in (200, 400), answer.text
    return answer.headers.get("content-encoding", ""), int(answer.headers["content-length"])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate, GZIP;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.0", None),
        ("gzip, deflate, br, zstd", BEST),
        ("br;q=0, gzip;q=1", "gzip"),
    ],
)
def test_what_the_client_accepts(header: str, expected: str | None) -> None:
    assert accepted_encoding(header) == expected


def test_json_is_compressed_if_it_is_long(client: TestClient) -> None:
    plain = client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    assert len(plain.content) > LARGE
    assert "content-encoding" not in plain.headers
    assert "Accept-Encoding" in plain.headers["vary"]
    packed = client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) * 5 < len(plain.content)
    body = {"query": "red"}
    found = client.post("/v1/search", json=body, headers={"Accept-Encoding": BEST})
    assert found.headers["content-encoding"] == BEST
    assert len(found.json()["hits"]) == 8
    assert len(client.get("/healthz").content) < SMALL
    assert _encoding(client, "/healthz")[0] == ""


def test_pages_of_other_sites_get_nothing_compressed(client: TestClient) -> None:
    for site, expected in (("cross-site", ""), ("same-site", ""), ("same-origin", "gzip")):
        headers = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": site}
        assert _encoding(client, "/openapi.json", **headers)[0] == expected


def test_errors_and_pictures_are_not_compressed(client: TestClient) -> None:
    where = "nothing == " + "1" * 2 * SMALL
    assert _encoding(client, f"/v1/items?where={where}", **{"Accept-Encoding": "gzip"})[0] == ""
    hit = client.post("/v1/search", json={"query": "red"}).json()["hits"][0]
    for path in (hit["image"], hit["thumbnail"]):
        assert _encoding(client, path, **{"Accept-Encoding": "gzip"})[0] == ""


def test_files_with_a_version_are_kept_for_a_year(client: TestClient) -> None:
    assets = Assets.read()
    for version, caching in ((assets.version, "immutable"), ("0" * 16, "no-cache")):
        path = f"/static/{version}/search/main.js"
        sizes = {}
        for encoding in ("identity", "gzip", BEST):
            found = client.get(path, headers={"Accept-Encoding": encoding})
            assert found.content == assets.files["search/main.js"].data
            assert caching in found.headers["cache-control"]
            assert found.headers["vary"] == "Accept-Encoding"
            known = {"If-None-Match": found.headers["etag"], "Accept-Encoding": encoding}
            assert client.get(path, headers=known).status_code == 304
            sizes[found.headers["etag"]] = int(found.headers["content-length"])
        assert len(sizes) == (3 if BROTLI else 2)
        assert min(sizes.values()) * 3 < max(sizes.values())
    page = client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert f"/static/{assets.version}/search/main.js" in page.text


def test_without_brotli_it_is_gzip(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinlens.server.encodings._KNOWN", ("gzip",))
    found = client.get("/openapi.json", headers={"Accept-Encoding": "br, gzip"})
    assert found.headers["content-encoding"] == "gzip"
    assert "paths" in found.json()

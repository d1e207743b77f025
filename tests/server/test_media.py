"""Thumbnails and originals by id, and everything that must not be sent."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.errors import ImageError
from twinlens.search.images import originals
from twinlens.search.images.originals import GoneError, read_file, read_original
from twinlens.search.records import Row, image_id
from twinlens.server import media as media_module
from twinlens.server.app import create_app
from twinlens.server.batching import QueueFullError
from twinlens.server.disk_cache import DiskCache
from twinlens.server.library import Library
from twinlens.server.media import Media, PictureLookup
from twinlens.server.settings import Settings

WEBP = {"Accept": "image/avif,image/webp,image/*,*/*;q=0.8"}


@pytest.fixture
def index(tmp_path: Path, encoder: ColourEncoder, photos: Path) -> Iterator[twinlens.Index]:
    with twinlens.open(tmp_path / "test.db", model=encoder) as opened:
        opened.ingest(photos)
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


@pytest.fixture
def media(tmp_path: Path) -> Iterator[Media]:
    made = Media(tmp_path / "media")
    yield made
    made.close()


def row_of(path: Path, **fields: Any) -> Row:
    return {"id": image_id(path.read_bytes()), "path": str(path), "paths": [str(path)], **fields}


def key_of(path: Path) -> str:
    return image_id(path.read_bytes())


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


# Thumbnails


def test_a_thumbnail_over_http(client: TestClient, paint: Callable[..., Path]) -> None:
    key = key_of(paint("red"))
    answer = client.get(f"/v1/items/{key}/thumbnail?size=160", headers=WEBP)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["vary"] == "Accept"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert opened(answer.content).size == (40, 30)
    again = client.get(f"/v1/items/{key}/thumbnail?size=160", headers=WEBP)
    assert again.content == answer.content


@pytest.mark.parametrize("accept", ["*/*", "image/png", "image/webp;q=0", ""])
def test_clients_that_do_not_accept_webp_get_jpeg(
    client: TestClient, photos: Path, accept: str
) -> None:
    key = key_of(photos / "red.png")
    answer = client.get(f"/v1/items/{key}/thumbnail", headers={"Accept": accept})
    assert answer.headers["content-type"] == "image/jpeg"
    assert opened(answer.content).format == "JPEG"


def test_a_cached_thumbnail_is_not_sent_again(client: TestClient, photos: Path) -> None:
    key = key_of(photos / "red.png")
    for place in ("thumbnail", "thumbnail?size=640", "image"):
        tag = client.get(f"/v1/items/{key}/{place}").headers["etag"]
        same = client.get(f"/v1/items/{key}/{place}", headers={"If-None-Match": f'"x", W/{tag}'})
        assert (same.status_code, same.content) == (304, b"")
        assert same.headers["etag"] == tag
        other = client.get(f"/v1/items/{key}/{place}", headers={"If-None-Match": '"other"'})
        assert other.status_code == 200


def test_a_text_shows_its_picture(client: TestClient, index: twinlens.Index, photos: Path) -> None:
    (text,) = index.search("a red picture", target="texts", limit=1)
    answer = client.get(f"/v1/items/{text.id}/image")
    assert answer.content == (photos / "red.png").read_bytes()


@pytest.mark.parametrize("size", ["0", "159", "100000", "-1", "x"])
def test_only_three_sizes(client: TestClient, photos: Path, size: str) -> None:
    key = key_of(photos / "red.png")
    assert client.get(f"/v1/items/{key}/thumbnail?size={size}").status_code == 422


def test_a_thumbnail_is_upright_srgb_without_metadata(tmp_path: Path) -> None:
    from PIL import ImageCms

    picture = Image.new("RGB", (300, 200), COLOURS["green"])
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif, icc_profile=profile, comment=b"private")
    for encoding in ("JPEG", "WEBP"):
        small = opened(originals.thumbnail(buffer.getvalue(), 150, encoding))  # type: ignore[arg-type]
        assert small.size == (100, 150)
        assert not set(small.info) & {"exif", "icc_profile", "comment"}


# What must not be sent


@pytest.mark.parametrize(
    "key",
    [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..",
        "%00",
        "0" * 32,
        "A" * 32,
        "0" * 31,
        "0" * 127,
        "red.png",
        "%2fetc%2fpasswd",
        "ffffffffffffffffffffffffffffffff%0a",
        '" or id != "',
    ],
)
@pytest.mark.parametrize("place", ["thumbnail", "image"])
def test_unknown_ids_are_not_found(client: TestClient, key: str, place: str) -> None:
    answer = client.get(f"/v1/items/{key}/{place}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_path_is_not_an_id(client: TestClient, photos: Path) -> None:
    answer = client.get(f"/v1/items/{photos / 'red.png'}/image")
    assert answer.status_code == 404


def test_a_file_that_has_changed_is_not_sent(
    client: TestClient, paint: Callable[..., Path]
) -> None:
    path = paint("red")
    key = key_of(path)
    Image.new("RGB", (40, 30), COLOURS["blue"]).save(path)
    for place in ("thumbnail", "image"):
        answer = client.get(f"/v1/items/{key}/{place}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/changed"
        assert "changed" in answer.json()["detail"]


def test_a_missing_file(client: TestClient, photos: Path) -> None:
    key = key_of(photos / "red.png")
    (photos / "red.png").unlink()
    problem = client.get(f"/v1/items/{key}/image").json()
    assert (problem["status"], problem["type"]) == (404, "/problems/changed")
    assert "no longer there" in problem["detail"]
    assert str(photos) not in problem["detail"]


def test_a_thumbnail_outlives_its_file_but_not_its_row(
    client: TestClient, index: twinlens.Index, photos: Path
) -> None:
    key = key_of(photos / "red.png")
    assert client.get(f"/v1/items/{key}/thumbnail").status_code == 200
    (photos / "red.png").unlink()
    assert client.get(f"/v1/items/{key}/thumbnail").status_code == 200
    index.delete(photos / "red.png")
    assert client.get(f"/v1/items/{key}/thumbnail").status_code == 404


def test_a_link_to_another_file(client: TestClient, photos: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    red = photos / "red.png"
    key = key_of(red)
    kept = red.rename(tmp_path / "kept.png")
    red.symlink_to(secret)
    answer = client.get(f"/v1/items/{key}/image")
    assert (answer.status_code, b"a secret" in answer.content) == (404, False)
    red.unlink()
    red.symlink_to(kept)  # the same bytes may lie elsewhere
    assert client.get(f"/v1/items/{key}/image").content == kept.read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_not_waited_for(client: TestClient, photos: Path) -> None:
    red = photos / "red.png"
    key = key_of(red)
    red.unlink()
    os.mkfifo(red)
    assert client.get(f"/v1/items/{key}/image").status_code == 404


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "relative.png", "a\0b", ""])
def test_devices_folders_and_invalid_paths(path: str) -> None:
    with pytest.raises((ImageError, OSError)):
        read_file(path)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "MAX_BYTES", 1_000)
    path = tmp_path / "large"
    path.write_bytes(b"x" * 1_000)
    assert len(read_file(str(path))) == 1_000
    with path.open("ab") as file:
        file.truncate(1 << 40)  # sparse: reading it whole would end in tears
    with pytest.raises(ImageError, match="larger"):
        read_file(str(path))


def test_the_number_of_paths_tried_is_bounded(paint: Callable[..., Path]) -> None:
    row = row_of(paint("red"), paths=[f"/nowhere/{number}" for number in range(64)])
    row["path"] = "/nowhere/at all"
    tried: list[str] = []

    def read(path: str) -> bytes:
        tried.append(path)
        raise OSError("gone")

    with pytest.raises(GoneError):
        read_original(row, read)
    assert len(tried) == originals.MAX_TRIES


def test_a_second_path_is_tried(media: Media, paint: Callable[..., Path]) -> None:
    row = row_of(paint("red"))
    row["path"] = str(paint("blue"))
    assert media.original(row).result().data == paint("red").read_bytes()


def test_an_injected_reader_is_checked_like_a_file(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    data = paint("red").read_bytes()
    row = {"id": image_id(data), "path": "shard.tar!a.png", "paths": []}
    for read, right in ((lambda path: data, True), (lambda path: data + b"x", False)):
        made = Media(tmp_path / "media", read=read)
        if right:
            assert made.original(row).result().data == data
        else:
            with pytest.raises(GoneError, match="changed"):
                made.original(row).result()
        made.close()


# Originals


def test_formats_that_browsers_show_are_sent_as_they_are(client: TestClient, photos: Path) -> None:
    answer = client.get(f"/v1/items/{key_of(photos / 'red.png')}/image")
    assert answer.content == (photos / "red.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_other_formats_become_an_upright_jpeg(media: Media, tmp_path: Path) -> None:
    path = tmp_path / "turned.tif"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 40), COLOURS["red"]).save(path, exif=exif)
    made = media.original(row_of(path)).result()
    assert (made.type, opened(made.data).size) == ("image/jpeg", (40, 90))
    path.unlink()
    with pytest.raises(GoneError):  # an original is served while it is there, no longer
        media.original({"id": "0" * 32, "path": str(path), "paths": []}).result()


def test_a_large_original_is_replaced_by_a_jpeg(tmp_path: Path) -> None:
    media = Media(tmp_path / "media", max_original=1_000, replacement_side=100)
    path = tmp_path / "noise.png"
    Image.effect_noise((400, 200), 100).save(path)
    made = media.original(row_of(path, width=400, height=200)).result()
    assert (made.type, opened(made.data).size) == ("image/jpeg", (100, 50))
    media.close()


def test_a_broken_picture_is_a_problem(media: Media, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    with pytest.raises(ImageError):
        media.thumbnail(row_of(path), 160, "WEBP").result()
    assert media.cached(key_of(path), 160, "WEBP") is None


def test_a_picture_of_too_many_pixels(tmp_path: Path, paint: Callable[..., Path]) -> None:
    made = Media(tmp_path / "media", max_pixels=100)
    with pytest.raises(ImageError, match="over the limit"):
        made.thumbnail(row_of(paint("red")), 160, "WEBP").result()
    made.close()


# Uploads


def test_an_upload_is_stored_and_deleted(
    media: Media, paint: Callable[..., Path], tmp_path: Path
) -> None:
    data = paint("red").read_bytes()
    key = media.store(data)
    assert key == media.store(data) == image_id(data)
    row = {"id": key, "path": "/elsewhere/red.png", "paths": ["/elsewhere/red.png"]}
    assert media.original(row).result().data == data
    stored = [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in stored] == [0o600]
    stored[0].write_bytes(b"somebody else's")
    with pytest.raises(GoneError):
        media.original(row).result()
    media.delete(key)
    media.delete(key)
    media.delete("../../etc/passwd")
    assert not stored[0].exists()


@pytest.mark.parametrize("home", ["here", "~/here"])
def test_a_relative_media_folder_survives_a_change_of_directory(
    tmp_path: Path, paint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Media(Path(home))
    data = paint("red").read_bytes()
    row = {"id": made.store(data), "path": "upload:red.png", "paths": [], "width": 40, "height": 30}
    monkeypatch.chdir("/")  # a server may be told to go elsewhere meanwhile
    assert made.original(row).result().data == data
    assert opened(made.thumbnail(row, 160, "JPEG").result().data).size == (40, 30)
    made.close()
    assert (tmp_path / "here" / "originals").is_dir()


# The cache


def test_the_least_recently_used_files_are_deleted(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1_000)
    for number in range(10):
        cache.put(f"{number:02}-a", bytes([65 + number]) * 100)
        os.utime(tmp_path / f"{number:02}" / f"{number:02}-a", (number, number))
    assert cache.get("00-a") == b"A" * 100  # used just now
    cache.put("10-a", b"Z" * 100)
    left = {path.name for path in tmp_path.rglob("*-a")}
    assert left == {"00-a", *(f"{number:02}-a" for number in range(3, 11))}


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    mine, theirs = DiskCache(tmp_path, 1_000), DiskCache(tmp_path, 1_000)
    for number in range(100):
        (mine, theirs)[number % 2].put(f"{number:02}-a", b"x" * 100)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 1_200
    assert theirs.get("99-a") == mine.get("99-a") == b"x" * 100


def test_remains_of_a_crash_are_deleted(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1_000)
    cache.put("aa-1", b"data")
    (tmp_path / "aa" / "aa-1").write_bytes(b"")
    half = tmp_path / "aa" / ".half"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    assert cache.get("aa-1") is None
    cache.sweep()
    assert not half.exists()


def test_a_cache_that_cannot_be_written_is_skipped(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    (tmp_path / "media").write_text("a file, not a folder")
    made = Media(tmp_path / "media")
    assert made.thumbnail(row_of(paint("red")), 160, "WEBP").result().data
    assert made.thumbnail(row_of(paint("red")), 160, "WEBP").result().data
    made.close()


# Many at once


def test_fifty_requests_for_one_thumbnail_decode_it_once(
    client: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    may_go, asked = threading.Event(), threading.Barrier(51)
    made = media_module.thumbnail

    def slow(data: bytes, *rest: Any, **options: Any) -> bytes:
        decoded.append(len(data))
        may_go.wait(30)
        return made(data, *rest, **options)

    monkeypatch.setattr(media_module, "thumbnail", slow)
    key = key_of(photos / "red.png")

    def ask(_: int) -> bytes:
        asked.wait(30)
        answer = client.get(f"/v1/items/{key}/thumbnail")
        assert answer.status_code == 200
        return answer.content

    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(ask, number) for number in range(50)]
        asked.wait(30)
        may_go.set()
        assert len({answer.result() for answer in answers}) == 1
    assert len(decoded) == 1


def test_many_thumbnails_are_looked_up_together(
    client: TestClient, app: FastAPI, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = app.state.context.library.index().engine.collection
    reads: list[int] = []
    reading, may_go, get = threading.Event(), threading.Event(), type(collection).get

    def counted(self: Any, kind: str, ids: list[str], *rest: Any) -> Any:
        reads.append(len(ids))
        reading.set()
        may_go.wait(30)
        return get(self, kind, ids, *rest)

    monkeypatch.setattr(type(collection), "get", counted)
    keys = [key_of(path) for path in photos.glob("*.png")]
    lookup = PictureLookup()
    futures = [lookup.find(collection, keys[0])]
    assert reading.wait(30)
    futures += [lookup.find(collection, key) for key in keys[1:] for _ in range(3)]
    may_go.set()
    assert {future.result()["id"] for future in futures} == set(keys)  # type: ignore[index]
    assert reads == [1, len(keys) - 1]


def test_the_number_of_pending_pictures_is_bounded(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    may_go = threading.Event()
    data = paint("red").read_bytes()

    def read(path: str) -> bytes:
        may_go.wait(30)
        return data

    made = Media(tmp_path / "media", read=read, max_pending=2)
    row = {"id": image_id(data), "path": "a", "paths": []}
    waiting = [made.thumbnail(row, side, "WEBP") for side in (160, 320, 160)]
    with pytest.raises(QueueFullError):
        made.thumbnail(row, 640, "WEBP")
    may_go.set()
    assert all(one.result().data for one in waiting)
    assert made.thumbnail(row, 640, "WEBP").result().data
    made.close()


def test_a_failed_thumbnail_is_retried(media: Media, paint: Callable[..., Path]) -> None:
    path = paint("red")
    row, data = row_of(path), path.read_bytes()
    path.unlink()
    with pytest.raises(GoneError):
        media.thumbnail(row, 160, "WEBP").result()
    path.write_bytes(data)
    assert media.thumbnail(row, 160, "WEBP").result().data

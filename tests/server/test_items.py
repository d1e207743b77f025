"""Writing over HTTP: storing, showing and deleting items, and what is refused."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.colours import COLOURS, ColourEncoder
from support.serving import paint, serving

import twinlens
from twinlens.ingest.receiver import Receiver
from twinlens.search.records import image_id
from twinlens.server.batching import QueueFullError
from twinlens.server.writes import MAX_WAITING, WriteQueue


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("items") / "photos")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A server over an empty database."""
    with serving(tmp_path / "items.db", media=tmp_path / "media") as opened:
        yield opened


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server over a database that stays empty."""
    with serving(tmp_path_factory.mktemp("empty") / "empty.db") as opened:
        yield opened


def item(colour: str = "red", **fields: Any) -> dict[str, Any]:
    """A picture as a client on another machine describes it."""
    said = {"uri": f"/elsewhere/{colour}.png", "root": "/elsewhere", "relative": f"{colour}.png"}
    return {**said, "size": 10, "mtime_ns": 5, "captions": [f"a {colour} picture"], **fields}


def tell(client: TestClient, *items: dict[str, Any], **options: Any) -> dict[str, Any]:
    answer = client.post("/v1/items", json={"items": items, **options})
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def send(client: TestClient, photos: Path, *colours: str, **options: Any) -> dict[str, Any]:
    """Send pictures with their bytes."""
    items = [item(colour, file=number) for number, colour in enumerate(colours)]
    files = [("file", ("a.png", (photos / f"{c}.png").read_bytes())) for c in colours]
    said = {"items": json.dumps({"items": items, **options})}
    answer = client.post("/v1/items", data=said, files=files)
    assert answer.status_code == 200, answer.text
    done: dict[str, Any] = answer.json()
    return done


def kept(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "media" / "originals").rglob("*") if path.is_file()}


def id_of(photos: Path, colour: str) -> str:
    return image_id((photos / f"{colour}.png").read_bytes())


def test_the_server_asks_for_bytes_only_until_they_are_stored(
    client: TestClient, photos: Path
) -> None:
    first = tell(client, item("red"), item("blue"), model="")
    assert (first["wanted"], first["items"]) == ([0, 1], [])
    assert client.get("/v1/collections").json()["collections"] == []
    done = send(client, photos, "red", "blue")
    assert [row["status"] for row in done["items"]] == ["stored", "stored"]
    assert (done["texts"], done["wanted"], done["removed"]) == (2, [], [])
    again = tell(client, item("red"), item("blue"))
    assert [row["status"] for row in again["items"]] == ["unchanged", "unchanged"]
    (hit,) = client.post("/v1/search", json={"query": "red", "limit": 1}).json()["hits"]
    assert hit["path"] == "/elsewhere/red.png"
    assert hit["captions"] == ["a red picture"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"uri": "../../x.jpg", "root": "/"}, "with .. in it"),
        ({"uri": "/photos/../etc/x.jpg", "root": "/photos"}, "with .. in it"),
        ({"uri": "C:\\photos\\..\\x.jpg", "root": "C:\\photos"}, "with .. in it"),
        ({"uri": "/photos/a.zip!../x.jpg", "root": "/photos"}, "with .. in it"),
        ({"uri": "/photos/x.jpg", "root": "/photos", "relative": "../x.jpg"}, "with .. in it"),
        ({"uri": "x.jpg", "root": "/"}, "not below its root"),
        ({"uri": "/photos2/x.jpg", "root": "/photos"}, "not below its root"),
    ],
)
def test_a_path_that_leads_out_of_its_root_is_refused(
    empty: TestClient, fields: dict[str, str], wrong: str
) -> None:
    answer = empty.post("/v1/items", json={"items": [fields]})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/usage")
    assert wrong in answer.json()["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"uri": "/photos/..jpg", "root": "/photos/"},
        {"uri": "/photos/a.zip!b/x.jpg", "root": "/photos/a.zip"},
        {"uri": "/x.jpg", "root": "/"},
        {"uri": "x.jpg"},
        {"uri": "C:\\photos\\x.jpg", "root": "C:\\photos"},
        {"uri": "https://example.org/a/../x.jpg", "root": "/lists/addresses.txt"},
        {"uri": "/photos/a.zip!../x.jpg", "root": "/photos", "failed": "leads out of its archive"},
    ],
)
def test_a_path_below_its_root_is_accepted(empty: TestClient, fields: dict[str, str]) -> None:
    said = tell(empty, fields, dry_run=True)
    assert len(said["items"]) == 1


def test_a_picture_that_two_collections_share_is_not_lost_between_them(
    client: TestClient, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, photos, "red", collection="other")
    red = id_of(photos, "red")
    put = Receiver.put

    def slowly(self: Receiver, *items: Any, **options: Any) -> Any:
        # Its bytes are kept, its row is not there yet: and the other collection lets go of it.
        assert client.delete(f"/v1/items/{red}?collection=other").json()["deleted"] == 1
        return put(self, *items, **options)

    monkeypatch.setattr(Receiver, "put", slowly)
    send(client, photos, "red")
    assert kept(tmp_path) == {red}
    assert client.get(f"/v1/items/{red}/image").content == (photos / "red.png").read_bytes()
    monkeypatch.undo()
    assert client.delete(f"/v1/items/{red}").json()["deleted"] == 1
    assert kept(tmp_path) == set()


def test_a_write_during_a_deletion_keeps_its_picture(
    client: TestClient, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, photos, "red", collection="other")
    red = id_of(photos, "red")
    uploads = client.app.state.context.uploads  # type: ignore[attr-defined]
    in_use = uploads._in_use

    def slowly(ids: set[str]) -> set[str]:
        found: set[str] = in_use(ids)
        if not found:
            send(client, photos, "red")  # from its beginning to its end, after the look
        return found

    monkeypatch.setattr(uploads, "_in_use", slowly)
    assert client.delete(f"/v1/items/{red}?collection=other").json()["deleted"] == 1
    assert kept(tmp_path) == {red}
    assert not uploads._protected
    assert not uploads._writing


def test_dropping_a_collection_deletes_its_unused_uploads(
    client: TestClient, photos: Path, tmp_path: Path
) -> None:
    client.app.state.context.uploads.batch = 2  # type: ignore[attr-defined]
    send(client, photos, *COLOURS)
    send(client, photos, "red", "blue", collection="other")
    assert client.delete("/v1/collections/twinlens").status_code == 204
    assert kept(tmp_path) == {id_of(photos, "red"), id_of(photos, "blue")}
    assert client.delete("/v1/collections/other").status_code == 204
    assert kept(tmp_path) == set()


def test_captions_change_without_bytes(client: TestClient, photos: Path) -> None:
    send(client, photos, "red")
    done = tell(client, item("red", captions=["crimson"], metadata={"year": 2020}))
    assert ([row["status"] for row in done["items"]], done["wanted"]) == (["updated"], [])
    said = client.get(f"/v1/items/{id_of(photos, 'red')}").json()
    assert (said["captions"], said["metadata"]["year"]) == (["crimson"], 2020)


def test_texts_alone_need_no_bytes(client: TestClient) -> None:
    done = tell(client, {"uri": "notes#1", "kind": "text", "captions": ["a red thing"]})
    assert [row["status"] for row in done["items"]] == ["text stored"]
    found = client.post("/v1/search", json={"query": "red", "target": "texts"}).json()
    assert [hit["text"] for hit in found["hits"]] == ["a red thing"]


def test_failures_are_recorded_and_not_requested_again(client: TestClient, photos: Path) -> None:
    send(client, photos, "red")
    failed = item("blue", failed="the card is broken")
    (row,) = tell(client, failed)["items"]
    assert (row["status"], row["reason"]) == ("failed", "the card is broken")
    assert [one["status"] for one in tell(client, item("blue"))["items"]] == ["failed before"]
    assert tell(client, item("blue"), retry_failed=True)["wanted"] == [0]
    missing = {"uri": "/elsewhere/x.png", "kind": "missing", "failed": "line 3: no such picture"}
    assert [one["status"] for one in tell(client, missing)["items"]] == ["failed"]
    assert client.get("/v1/collections/twinlens").json()["failed"] == 2


def test_a_dry_run_changes_nothing(client: TestClient, photos: Path) -> None:
    missing = {"uri": "/x.png", "kind": "missing"}
    said = tell(client, item("red"), missing, dry_run=True)
    assert [row["status"] for row in said["items"]] == ["new", "failed"]
    assert client.get("/v1/collections").json()["collections"] == []
    send(client, photos, "red")
    said = tell(client, item("red", mtime_ns=6), item("blue"), dry_run=True)
    assert [row["status"] for row in said["items"]] == ["changed", "new"]
    assert client.get("/v1/collections/twinlens").json()["files"] == 1


def test_an_uploaded_picture_is_shown_until_it_is_deleted(
    client: TestClient, photos: Path, tmp_path: Path
) -> None:
    send(client, photos, "red", "blue")
    red, blue = id_of(photos, "red"), id_of(photos, "blue")
    assert kept(tmp_path) == {red, blue}
    shown = client.get(f"/v1/items/{red}/image")
    assert shown.content == (photos / "red.png").read_bytes()
    assert client.get(f"/v1/items/{red}/thumbnail").status_code == 200
    assert client.post("/v1/items/delete", json={"ids": [red]}).json()["deleted"] == 1
    assert kept(tmp_path) == {blue}
    assert client.get(f"/v1/items/{red}/image").status_code == 404
    gone = client.post("/v1/items/delete", json={"paths": ["/elsewhere"]}).json()
    assert gone == {"deleted": 1, "paths": 1}
    assert kept(tmp_path) == set()


def test_a_picture_in_another_collection_is_kept(
    client: TestClient, photos: Path, tmp_path: Path
) -> None:
    send(client, photos, "red")
    send(client, photos, "red", collection="other")
    red = id_of(photos, "red")
    client.post("/v1/items/delete", json={"ids": [red]})
    assert kept(tmp_path) == {red}
    client.post("/v1/items/delete", json={"ids": [red], "collection": "other"})
    assert kept(tmp_path) == set()


def test_bytes_that_are_no_image_are_not_kept(client: TestClient, tmp_path: Path) -> None:
    said = {"items": json.dumps({"items": [item("red", file=0)]})}
    answer = client.post("/v1/items", data=said, files=[("file", ("a.png", b"no picture"))]).json()
    (row,) = answer["items"]
    assert row["status"] == "failed"
    assert row["reason"]
    assert kept(tmp_path) == set()


def test_a_file_on_this_machine_is_not_copied(
    client: TestClient, photos: Path, tmp_path: Path
) -> None:
    path = photos / "red.png"
    said = {"items": [item("red", uri=str(path), root=str(photos), file=0)]}
    form = {"items": json.dumps(said)}
    client.post("/v1/items", data=form, files=[("file", ("a.png", path.read_bytes()))])
    assert kept(tmp_path) == set()
    assert client.get(f"/v1/items/{id_of(photos, 'red')}/image").status_code == 200


def test_a_replaced_picture_is_deleted(client: TestClient, photos: Path, tmp_path: Path) -> None:
    send(client, photos, "red")
    form = {"items": json.dumps({"items": [item("red", mtime_ns=6, file=0)]})}
    blue = (photos / "blue.png").read_bytes()
    done = client.post("/v1/items", data=form, files=[("file", ("a.png", blue))]).json()
    assert done["removed"] == [id_of(photos, "red")]
    assert kept(tmp_path) == {image_id(blue)}


def test_an_impossible_time_refuses_nothing(client: TestClient, photos: Path) -> None:
    odd = [item("red", mtime_ns=9_300_000_000 * 10**9, file=0), item("blue", mtime_ns=-5, file=1)]
    files = [("file", ("a", (photos / f"{name}.png").read_bytes())) for name in ("red", "blue")]
    form = {"items": json.dumps({"items": odd})}
    done = client.post("/v1/items", data=form, files=files).json()
    assert [row["status"] for row in done["items"]] == ["stored", "stored"]
    again = client.post("/v1/items", data=form, files=files).json()
    assert [row["status"] for row in again["items"]] == ["unchanged", "unchanged"]


def test_a_request_without_items_ends_a_series(client: TestClient, photos: Path) -> None:
    send(client, photos, "red", "green")
    form = {"items": json.dumps({"items": [item("red", mtime_ns=6, file=0)], "more": True})}
    blue = (photos / "blue.png").read_bytes()
    assert (
        client.post("/v1/items", data=form, files=[("file", ("a", blue))]).json()["removed"] == []
    )
    assert client.get("/v1/collections/twinlens").json()["images"] == 3
    assert tell(client)["removed"] == [id_of(photos, "red")]
    assert client.get("/v1/collections/twinlens").json()["images"] == 2


def test_paths_that_are_gone_are_kept_unless_moved_or_pruned(
    client: TestClient, photos: Path
) -> None:
    send(client, photos, "red", "blue")
    form = {"items": json.dumps({"items": [item("crimson", file=0)]})}
    client.post("/v1/items", data=form, files=[("file", ("a", (photos / "red.png").read_bytes()))])
    paths = ["/elsewhere/red.png", "/elsewhere/blue.png", "/elsewhere/never.png"]
    said = client.post("/v1/items/gone", json={"paths": paths}).json()
    assert said == {"removed": [], "missing": 1}
    listed = client.get("/v1/files", params={"root": "/elsewhere"}).json()
    assert listed["paths"] == ["/elsewhere/blue.png", "/elsewhere/crimson.png"]
    said = client.post("/v1/items/gone", json={"paths": paths, "prune": True}).json()
    assert said == {"removed": [id_of(photos, "blue")], "missing": 0}


def test_listings_are_paged(
    client: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.search.query.stored.PAGE", 3)
    send(client, photos, *COLOURS)
    paths: list[str] = []
    after = ""
    while True:
        page = client.get("/v1/files", params={"root": "/elsewhere", "after": after}).json()
        paths += page["paths"]
        after = page["next"]
        if not after:
            break
    assert paths == sorted(f"/elsewhere/{colour}.png" for colour in COLOURS)
    where = {"where": 'path contains "bl"'}
    found = client.get("/v1/items", params=where).json()["items"]
    assert {one["path"] for one in found} == {"/elsewhere/blue.png", "/elsewhere/black.png"}
    assert [one["id"] for one in found] == sorted(one["id"] for one in found)
    bad = client.get("/v1/items", params={"where": "nonsense ==="})
    assert bad.status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"items": [{"uri": ""}]}, 422),
        ({"items": [{"uri": "x" * 5_000}]}, 422),
        ({"items": [{"uri": "é" * 3_000, "kind": "text", "captions": ["a"]}]}, 400),
        ({"items": [{"uri": "\x01was 0 /a", "kind": "text", "captions": ["a"]}]}, 400),
        ({"items": [{"uri": "a\0b", "kind": "text", "captions": ["a"]}]}, 400),
        ({"items": [{"uri": "a", "file": 0}]}, 400),
        ({"items": [{"uri": "a", "kind": "video"}]}, 422),
        ({"items": [{"uri": "a", "size": 2**63}]}, 422),
        ({"items": [{"uri": "a", "unknown": 1}]}, 422),
        ({"items": [{"uri": "a"}] * 257}, 422),
        ({"items": "a"}, 422),
        ({"items": [], "model": "local-dir:/etc"}, 400),
        ({"items": [], "model": "ViT-B-32:/etc/passwd"}, 400),
        ({"items": [], "collection": "../x"}, 400),
        ({"items": [{"uri": "a", "captions": ["x" * 200_000]}]}, 422),
    ],
)
def test_invalid_bodies_are_refused(empty: TestClient, body: dict[str, Any], status: int) -> None:
    answer = empty.post("/v1/items", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert empty.get("/v1/collections").json()["collections"] == []


def test_odd_values_in_metadata_are_harmless(client: TestClient) -> None:
    deep: Any = 1
    for _ in range(50):
        deep = [deep]
    said = {"year": 2020, "big": 10**300, "deep": deep, "none": None, "a b": "x", "": "y"}
    text = {"uri": "n#1", "kind": "text", "captions": ["red"], "metadata": said}
    tell(client, text)
    (hit,) = client.post("/v1/search", json={"query": "red", "target": "texts"}).json()["hits"]
    assert (hit["metadata"]["year"], hit["metadata"]["a_b"]) == (2020, "x")
    huge = '{"items": [{"uri": "n#2", "kind": "text", "metadata": {"n": ' + "9" * 10_000 + "}}]}"
    headers = {"content-type": "application/json"}
    assert client.post("/v1/items", content=huge, headers=headers).status_code < 500
    surrogate = r'{"items": [{"uri": "\ud800", "kind": "text", "captions": ["a"]}]}'
    assert client.post("/v1/items", content=surrogate, headers=headers).status_code == 400


@pytest.mark.parametrize(
    "files", [[("file", ("a", b"1"))], [("file", ("a", b"1")), ("file", ("b", b"2"))]]
)
def test_files_must_match_items(empty: TestClient, files: list[Any]) -> None:
    both = [item("red", file=0), item("blue", file=0)]
    answer = empty.post("/v1/items", data={"items": json.dumps({"items": both})}, files=files)
    assert answer.status_code == 400
    none = empty.post("/v1/items", data={"items": json.dumps({"items": []})}, files=files)
    assert none.status_code == 400


def test_a_body_that_is_too_large_is_refused_unread(tmp_path: Path, photos: Path) -> None:
    with serving(tmp_path / "small.db", max_body=2_000) as client:
        form = {"items": json.dumps({"items": [item("red", file=0)]})}
        answer = client.post("/v1/items", data=form, files=[("file", ("a", b"x" * 5_000))])
        assert answer.status_code == 413


@pytest.mark.parametrize("body", [{}, {"paths": ["/a"], "ids": ["b"]}, {"paths": [], "ids": []}])
def test_a_deletion_must_name_paths_or_ids(empty: TestClient, body: dict[str, Any]) -> None:
    assert empty.post("/v1/items/delete", json=body).status_code == 400


def test_deleting_what_is_not_stored(client: TestClient, photos: Path) -> None:
    assert client.post("/v1/items/delete", json={"paths": ["/a"]}).status_code == 404
    assert client.get("/v1/files", params={"root": "/a"}).status_code == 404
    send(client, photos, "red")
    for body in ({"paths": ["/a"]}, {"ids": ["0" * 32]}, {"ids": ["no' \"id"]}):
        assert client.post("/v1/items/delete", json=body).json()["deleted"] == 0


def test_writing_needs_a_write_key(tmp_path: Path, photos: Path) -> None:
    keys = ("reader:read:" + "r" * 16, "writer:write:" + "w" * 16)
    with serving(tmp_path / "keys.db", keys=keys) as client:
        for path, body in (
            ("/v1/items", {"items": []}),
            ("/v1/items/delete", {"ids": ["a"]}),
            ("/v1/items/gone", {"paths": ["a"]}),
        ):
            assert client.post(path, json=body).status_code == 401
            reader = {"Authorization": "Bearer " + "r" * 16}
            assert client.post(path, json=body, headers=reader).status_code == 403
        reading = client.get("/v1/files", params={"root": "/"}, headers=reader)
        assert reading.status_code == 403
        client.headers["Authorization"] = "Bearer " + "w" * 16
        assert send(client, photos, "red")["items"][0]["status"] == "stored"


def test_tenants_write_and_delete_their_own(tmp_path: Path, photos: Path) -> None:
    keys = (f"one:write:{'1' * 16}:alpha", f"two:write:{'2' * 16}:beta")
    with serving(tmp_path / "tenants.db", keys=keys, media=tmp_path / "media") as client:
        one = {"Authorization": "Bearer " + "1" * 16}
        two = {"Authorization": "Bearer " + "2" * 16}
        red = id_of(photos, "red")
        for headers in (one, two):
            client.headers.update(headers)
            assert send(client, photos, "red")["items"][0]["status"] == "stored"
        listed = client.get("/v1/files", params={"root": "/elsewhere"}, headers=one).json()
        assert listed["paths"] == ["/elsewhere/red.png"]
        client.post("/v1/items/delete", json={"ids": [red]}, headers=one)
        assert kept(tmp_path) == {red}
        gone = client.get("/v1/files", params={"root": "/elsewhere"}, headers=one).json()
        assert gone["paths"] == []
        left = client.get("/v1/files", params={"root": "/elsewhere"}, headers=two).json()
        assert left["paths"] == ["/elsewhere/red.png"]
        client.post("/v1/items/delete", json={"ids": [red]}, headers=two)
        assert kept(tmp_path) == set()


def test_another_model_than_the_collections_is_refused(client: TestClient, photos: Path) -> None:
    send(client, photos, "red")
    answer = client.post("/v1/items", json={"items": [item("blue")], "model": "clip-b32"})
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/model-mismatch"


def test_a_new_collection_is_made_with_the_model_that_is_named(
    client: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def other(name: str, **_: Any) -> ColourEncoder:
        opened.append(name)
        return ColourEncoder("other")

    monkeypatch.setattr("twinlens.server.library.open_encoders", other)
    send(client, photos, "red", collection="second", model="clip-b32")
    assert opened == ["clip-b32"]
    assert client.get("/v1/collections/second").json()["model"]["label"] == "other:none"
    send(client, photos, "red")
    assert client.get("/v1/collections/twinlens").json()["model"]["label"] == "colours:none"


def test_writes_run_one_at_a_time_and_readers_do_not_wait(
    client: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, photos, "red")
    inside, most, overlapping = 0, 0, threading.Event()
    release = threading.Event()
    put = Receiver.put

    def slow(self: Receiver, *args: Any, **options: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        overlapping.set()
        assert release.wait(20)
        try:
            return put(self, *args, **options)
        finally:
            inside -= 1

    monkeypatch.setattr(Receiver, "put", slow)
    colours = ["blue", "green", "yellow", "black"]
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(send, client, photos, colour) for colour in colours]
        assert overlapping.wait(20)
        found = client.post("/v1/search", json={"query": "red", "limit": 1}).json()["hits"]
        assert len(found) == 1
        release.set()
        for done in writing:
            assert done.result()["items"][0]["status"] == "stored"
    assert most == 1
    assert client.get("/v1/collections/twinlens").json()["images"] == 5


def test_the_write_queue_is_bounded() -> None:
    async def work() -> None:
        queue = WriteQueue()
        async with queue.turn("a"):
            entered: list[int] = []

            async def one(number: int) -> None:
                async with queue.turn("a"):
                    entered.append(number)

            waiting = [asyncio.create_task(one(number)) for number in range(MAX_WAITING)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await one(-1)
            async with queue.turn("b"):  # another collection's turn
                pass
        await asyncio.gather(*waiting)
        assert entered == list(range(MAX_WAITING))
        async with queue.turn("a"):
            pass
        assert not queue._locks

    asyncio.run(work())


def test_a_write_beyond_the_queue_gets_a_429(client: TestClient, photos: Path) -> None:
    client.app.state.context.writes.max_waiting = -1  # type: ignore[attr-defined]
    answer = client.post("/v1/items", json={"items": [item("red")]})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_new_collection_uses_the_servers_encoder(client: TestClient, photos: Path) -> None:
    send(client, photos, "red")
    model = client.get("/v1/collections/twinlens").json()["model"]
    assert model["digest"] == ColourEncoder().fingerprint.digest
    assert twinlens.__version__ == client.get("/healthz").json()["version"]

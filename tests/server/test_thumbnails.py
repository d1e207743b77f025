"""Test that thumbnails of the newest pictures are there before anybody asks for them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.serving import painted_db, serving

from twinlens.search.records import image_id
from twinlens.server import thumbnails
from twinlens.server.context import Context


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return painted_db(tmp_path)


def until_cached(client: Any, path: Path) -> None:
    media = client.app.state.context.media
    ends = time.monotonic() + 30
    while not all(media.cached(image_id(path.read_bytes()), side, "WEBP") for side in (320, 640)):
        assert time.monotonic() < ends, "no thumbnail was made"
        time.sleep(0.05)


def test_they_are_made_at_the_start_and_after_a_write(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "LOOK_SECONDS", 0.05)
    with serving(db, warm=True) as client:
        for path in (tmp_path / "photos").glob("*.png"):
            until_cached(client, path)
        new = tmp_path / "new.png"
        Image.new("RGB", (50, 40), (9, 99, 199)).save(new)
        sent = client.post(
            "/v1/items",
            data={"items": '{"items": [{"uri": "new.png", "file": 0}]}'},
            files={"file": new.read_bytes()},
        )
        assert sent.status_code == 200, sent.text
        until_cached(client, new)


def test_they_are_made_while_an_ingest_goes_on_one_round_at_a_time(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(thumbnails, "BUSY_SECONDS", 2.0)
    monkeypatch.setattr(thumbnails, "PAUSE_SECONDS", 0.0)
    running: list[int] = []
    rounds: list[int] = []
    warm = thumbnails._warm

    async def counted(ctx: Context) -> None:
        running.append(1)
        rounds.append(len(running))
        try:
            await warm(ctx)
        finally:
            running.pop()

    monkeypatch.setattr(thumbnails, "_warm", counted)
    with serving(db, warm=True) as client:
        media = client.app.state.context.media
        sent: list[bytes] = []

        def write() -> None:
            name = f"new-{len(sent)}.png"
            path = tmp_path / name
            Image.new("RGB", (50, 40), (9, len(sent), 199)).save(path)
            sent.append(path.read_bytes())
            answer = client.post(
                "/v1/items",
                data={"items": f'{{"items": [{{"uri": "{name}", "file": 0}}]}}'},
                files={"file": sent[-1]},
            )
            assert answer.status_code == 200, answer.text

        for _ in range(2):  # the second time: again, after a round
            first = len(sent)
            write()
            ends = time.monotonic() + 30
            while not media.cached(image_id(sent[first]), 320, "WEBP"):
                assert time.monotonic() < ends, "the thumbnail waits for the end of the ingest"
                time.sleep(0.05)
                write()
        assert len(rounds) < len(sent), "not every write has a round"
    assert set(rounds) == {1}


def test_an_empty_database_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "LOOK_SECONDS", 0.05)
    with serving(tmp_path / "none.db", warm=True) as client:
        time.sleep(0.3)
        assert client.get("/healthz").status_code == 200


def test_a_small_thumbnail_is_made_of_the_large_one(db: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos/red.png"
    address = f"/v1/items/{image_id(path.read_bytes())}/thumbnail"
    with serving(db) as client:
        assert client.get(address, params={"size": 640}).status_code == 200
        path.unlink()
        assert client.get(address, params={"size": 160}).status_code == 200

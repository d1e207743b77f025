"""A clock that is set forward or back changes no limit, no session and no cache for long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from support.colours import ColourEncoder
from support.serving import READ, bearer, paint, serving

import twinlens
from twinlens.server.auth import COOKIE, SESSION_SECONDS, Keys
from twinlens.server.disk_cache import DiskCache

HOUR, YEAR = 3_600.0, 365 * 24 * 3_600.0
#: Seconds by which the clock is set.
JUMPS = pytest.mark.parametrize("seconds", [HOUR, -HOUR, YEAR, -YEAR])


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


@JUMPS
def test_limits_searches_and_ingests_go_on(
    tmp_path: Path, seconds: float, set_clock: Callable[[float], None]
) -> None:
    photos = paint(tmp_path / "photos")
    db = tmp_path / "clocks.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with serving(db, keys=(READ,), rate=1.0, burst=4) as client:
        client.headers.update(bearer(READ))
        asked = {"query": "red", "limit": 1}
        before = client.post("/v1/search", json=asked).json()["hits"]
        (listed,) = client.get("/v1/collections").json()["collections"]
        set_clock(seconds)
        assert client.post("/v1/search", json=asked).json()["hits"] == before
        assert client.get("/v1/collections").json()["collections"] == [listed]
        refused = client.post("/v1/search", json=asked)
        assert (refused.status_code, 0 < int(refused.headers["Retry-After"]) <= 60) == (429, True)
    with twinlens.open(db, model=ColourEncoder()) as index:
        report = index.ingest(photos)
        assert (report.unchanged, report.removed) == (8, 0)


@pytest.mark.parametrize(
    ("seconds", "valid"),
    [
        (0, True),
        (HOUR, True),
        (-HOUR, True),
        (SESSION_SECONDS - HOUR, True),
        (SESSION_SECONDS + HOUR, False),
        (YEAR, False),
        (-YEAR, False),  # made while the clock was a year ahead: it would be valid for a year more
    ],
)
def test_a_session_ends_whatever_the_clock_said_when_it_began(
    seconds: float, valid: bool, set_clock: Callable[[float], None]
) -> None:
    keys = Keys([READ])
    reader = keys.find(READ.split(":")[2])
    assert reader is not None
    cookie = keys.session(reader)
    set_clock(seconds)
    assert (keys.of(Headers({"Cookie": f"{COOKIE}={cookie}"})) is not None) == valid


@JUMPS
def test_a_cache_still_knows_what_was_used_last(
    tmp_path: Path, seconds: float, set_clock: Callable[[float], None]
) -> None:
    cache = DiskCache(tmp_path, 1_000)
    for number in range(9):
        cache.put(f"{number:02}-a", bytes([65 + number]) * 100)
        path = tmp_path / f"{number:02}" / f"{number:02}-a"
        os.utime(path, (0, path.stat().st_mtime + number))
    set_clock(seconds)
    now = time.time()
    for name in ("00-a", "01-a"):
        assert cache.get(name)
    if abs(seconds) > HOUR:
        os.utime(tmp_path / "00" / "00-a", (now, now))  # as the system does with its own clock
        os.utime(tmp_path / "01" / "01-a", (now, now))
        cache.put("99-a", b"x" * 200)
        cache.sweep()
        left = {path.name for path in tmp_path.rglob("*-a")}
        assert {"00-a", "01-a"} <= left
    assert cache.get("00-a") == b"A" * 100

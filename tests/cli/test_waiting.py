"""A command that waits for a server says why, on a terminal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
from support.web import Web, serving

from twinlens.cli import waiting
from twinlens.remote.client import HttpClient, is_loading
from twinlens.remote.index import RemoteIndex


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as opened:
        yield opened


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_on_terminal", lambda: True)
    monkeypatch.setattr(waiting, "SECONDS", 0.01)


def say_ready(web: Web, model: str, loading: int) -> RemoteIndex:
    body = json.dumps({"status": "loading", "model": model, "loading": loading}).encode()
    web.serve("/readyz", body, 503)
    return RemoteIndex(HttpClient(web.url))


def wait_for_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "twinlens-waiting":
            thread.join(30)


def test_it_says_once_that_the_server_is_loading_a_model(
    web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    with waiting.saying_why(say_ready(web, "loading", 0)):
        wait_for_thread()
    assert capsys.readouterr().err == f"waiting: {web.url} is loading a model\n"
    assert web.asked == ["/readyz"]


def test_it_says_nothing_of_a_server_that_is_only_slow(
    web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    until = time.monotonic() + 30
    with waiting.saying_why(say_ready(web, "ready", 0)):
        while len(web.asked) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    wait_for_thread()
    assert len(web.asked) >= 2
    assert capsys.readouterr().err == ""


def test_it_does_not_ask_where_nobody_would_read_it(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_on_terminal", lambda: False)
    with waiting.saying_why(say_ready(web, "loading", 1)):
        wait_for_thread()
    assert web.asked == []


def test_models_of_other_collections_count() -> None:
    with serving() as web:
        say_ready(web, "ready", 1)
        assert is_loading(web.url)
        say_ready(web, "ready", 0)
        assert not is_loading(web.url)
        web.serve("/readyz", b"[]")
        assert not is_loading(web.url)
    assert not is_loading(web.url)

"""The page says that the server loads its model, in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import browser as browsers
from support.browser import Page, expect, listening
from support.colours import ColourEncoder
from support.serving import library_of, paint

import twinlens
from twinlens.search.models.base import Encoder
from twinlens.server import library as module


class Named(ColourEncoder):
    """An encoder that can be loaded by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = replace(self.fingerprint, source="local-dir:/models/slow")


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Loading the model waits for it."""
    opens = threading.Event()

    def load(*_: object, **options: object) -> Encoder:
        assert opens.wait(60)
        return Named()

    monkeypatch.setattr(module, "open_encoders", load)
    monkeypatch.setattr(browsers, "library_of", lambda db, _: library_of(db, None))
    yield opens
    opens.set()


@pytest.fixture
def address(tmp_path: Path, gate: threading.Event) -> Iterator[str]:
    with twinlens.open(tmp_path / "slow.db", model=Named()) as index:
        index.ingest(paint(tmp_path / "painted"))
    with listening(tmp_path / "slow.db") as found:
        yield found
        gate.set()  # a server that stops waits for its searches


def test_a_search_that_waits_for_the_model_says_so(
    visit: Callable[..., Page], gate: threading.Event
) -> None:
    page = visit("/?q=red")
    words = "The server is loading the model. The results follow."
    expect(page.locator(".ending")).to_have_text(words)
    expect(page.locator("#status")).to_have_text(words)
    gate.set()
    tiles = page.locator("#results .tile-link")
    expect(tiles.first).to_be_visible()
    expect(page.get_by_text(words)).to_have_count(0)

"""The browser for tests of the pages, which Playwright drives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium."""
    from support.browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens pages of the server at ``address``; see ``support.browser.visiting``."""
    from support.browser import visiting

    with visiting(browser, address) as opened:
        yield opened

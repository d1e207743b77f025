"""Say on a terminal that a server is loading a model, while a command waits for its answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twinlens.cli.printing import say

if TYPE_CHECKING:
    import twinlens

#: Seconds without an answer until the server is asked whether it is loading a model.
SECONDS = 1.0


@contextmanager
def saying_why(index: twinlens.Index | twinlens.RemoteIndex) -> Iterator[None]:
    """Say once, on standard error, that a server is loading a model, if that takes long."""
    url = getattr(index, "url", "")
    if not url or not _on_terminal():
        yield
        return
    answered = threading.Event()

    def watch() -> None:
        from twinlens.remote.client import is_loading

        while not answered.wait(SECONDS):
            if is_loading(url) and not answered.is_set():
                say(f"waiting: {url} is loading a model", file=sys.stderr, flush=True)
                return

    threading.Thread(target=watch, name="twinlens-waiting", daemon=True).start()
    try:
        yield
    finally:
        answered.set()


def _on_terminal() -> bool:
    return sys.stderr.isatty()

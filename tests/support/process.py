"""Run a server as a process, which tests stop and kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import TESTS

#: A server whose model takes its time, so that there is always something under way.
SCRIPT = """
import sys, time
sys.path[:0] = [{tests!r}, {root!r}]
import support.colours as conftest, twinlens

class Slow(conftest.ColourEncoder):
    def texts(self, texts):
        time.sleep({pause})
        return super().texts(texts)

def started(address):
    print(address, flush=True)

twinlens.serve({db!r}, port=0, model=Slow(), media={media!r}, started=started, **{settings!r})
print("closed", flush=True)
"""


@contextmanager
def running(
    db: Path, pause: float = 0.0, **settings: object
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """The process, and the host and port that it listens on."""
    tests = TESTS
    script = SCRIPT.format(
        tests=str(tests),
        root=str(tests.parent),
        db=str(db),
        pause=pause,
        media=str(db.with_suffix(".media")),
        settings=settings,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            pytest.fail(f"the server did not start: {process.communicate()[1]}")
        host, _, port = address.removeprefix("http://").rpartition(":")
        yield process, host, int(port)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()

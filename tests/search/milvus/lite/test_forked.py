"""A process that was forked, as by gunicorn, leaves what its parent writes to the parent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import TESTS
from support.colours import COLOURS

import twinlens

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

#: The child tries to write, closes its index, and ends as Python does, with all its exit handlers.
_PROGRAM = """
import os, sys
import twinlens
from support.colours import ColourEncoder

db, first, second, third = sys.argv[1:]
index = twinlens.open(db, model=ColourEncoder())
index.ingest(first)
index.ingest(second)
child = os.fork()
if child == 0:
    found = len(index.search("red"))
    try:
        index.ingest(third)
    except twinlens.StoreLockedError as error:
        print("child:", found, error)
    index.close()
    sys.exit(0)
_, status = os.waitpid(child, 0)
print("parent:", os.waitstatus_to_exitcode(status), index.ingest(third).images)
index.ingest(first)
child = os.fork()
if child == 0:
    sys.stdin.readline()  # still there when the parent has closed
    sys.exit(0)
index.close()
with twinlens.open(db, model=ColourEncoder()) as again:
    again.ingest(first)
    print("again:", again.info().images)
    os.kill(child, 9)
    os.waitpid(child, 0)
"""


def test_a_forked_child_reads_and_does_not_write(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    folders = []
    for number, colour in enumerate(list(COLOURS)[:3]):
        picture = paint(colour, f"photos{number}/{colour}.png")
        picture.with_suffix(".txt").write_text(f"a {colour} picture")
        folders.append(str(picture.parent))
    db = tmp_path / "forked.db"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(db), *folders],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert done.returncode == 0, done.stderr
    said = sorted(done.stdout.splitlines())
    assert said[0] == "again: 3"
    assert said[1].startswith(f"child: 2 {db} is open for writing in another process")
    assert said[2] == "parent: 0 1"
    report = twinlens.check(db)
    assert not [one for one in report.damage if not one.harmless]

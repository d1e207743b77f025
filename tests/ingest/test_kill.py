"""Kill an ingest at random moments and run it again: it must end like an uninterrupted one.

``TWINLENS_KILLS=20 pytest tests/ingest/test_kill.py`` kills it more often.
"""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from support import TESTS
from support.colours import COLOURS, ColourEncoder
from support.rows import comparable

import twinlens

KILLS = int(os.environ.get("TWINLENS_KILLS", "6"))
#: So many that half of the kills come before they are all encoded, however late they come.
FILES = 120 * KILLS

CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
import twinlens.ingest.sinks
from support.colours import ColourEncoder
import twinlens

twinlens.ingest.sinks.CHUNK = 8
class Slow(ColourEncoder):
    def images(self, pixels):
        time.sleep(0.02)
        return super().images(pixels)

with twinlens.open(sys.argv[2], model=Slow()) as index:
    index._database.client.lite()  # now, so that the kills come while it writes
    print("begun", flush=True)
    print(index.ingest(sys.argv[3], prune=True).images, flush=True)
"""


def start(db: Path, photos: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(TESTS), str(db), str(photos)],
        stdout=subprocess.PIPE,
        text=True,
    )


def contents(db: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of all three collections."""
    with twinlens.open(db, model=ColourEncoder()) as index:
        collection = index.engine.collection
        return {
            kind: sorted(
                (comparable(row) for rows in collection.scan(kind, ["*"]) for row in rows),
                key=lambda row: str(row.get("id", row["path"])),
            )
            for kind in ("images", "texts", "files")  # type: ignore[misc]
        }


def differing(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that only one of two lists has, without their vectors."""
    mine, its = (
        [json.dumps(row, sort_keys=True) for row in rows if row.pop("vector")]
        for rows in (copy.deepcopy(some), copy.deepcopy(others))
    )
    only = [{"only": "killed"} | json.loads(one) for one in sorted({*mine} - {*its})]
    only += [{"only": "whole"} | json.loads(one) for one in sorted({*its} - {*mine})]
    vectors = [
        row for row, other in zip(some, others, strict=False) if row["vector"] != other["vector"]
    ]
    return only or vectors


def change(photos: Path, turn: int) -> None:
    """The world goes on between the runs: files go, are renamed, replaced and captioned anew.

    Some of them are in the chunk that was written when the run was killed.
    """
    for number in range(turn % 5, FILES, 37):
        path = photos / f"{number:04}.png"
        if not path.exists():
            continue
        what = (number + turn) % 4
        if what == 0:
            path.unlink()
            path.with_suffix(".txt").unlink()
        elif what == 1:
            path.rename(photos / f"renamed-{turn}-{number}.png")
        elif what == 2:
            Image.new("RGB", (13, turn), (number % 256, number // 256, 7)).save(path)
        else:
            path.with_suffix(".txt").write_text(f"said anew, {turn}\n")


def test_an_ingest_killed_at_random_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    dice = random.Random(7)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(FILES):
        shade = tuple(dice.randrange(256) for _ in range(3))
        path = photos / f"{number:04}.png"
        Image.new("RGB", (12, 12), shade).save(path)
        path.with_suffix(".txt").write_text(f"a {dice.choice(list(COLOURS))} thing, {number}\n")

    kills = 0
    while kills < KILLS:
        child = start(tmp_path / "killed.db", photos)
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        time.sleep(dice.uniform(0.05, 0.6))
        if child.poll() is not None:
            # It was done before it could be killed; what follows still holds.
            child.stdout.close()
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        kills += 1
        change(photos, kills)
    last = start(tmp_path / "killed.db", photos)
    output, _ = last.communicate(timeout=120)
    assert last.returncode == 0, output

    with twinlens.open(tmp_path / "whole.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    whole, killed = contents(tmp_path / "whole.db"), contents(tmp_path / "killed.db")
    for kind in whole:
        assert not differing(killed[kind], whole[kind]), kind
    print(f"killed {kills} times")

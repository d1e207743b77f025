"""Measure one cold question as a whole process: CPU seconds, wall seconds, peak memory.

Each kind of question runs in a new process, in turn with the others, over several rounds: a search
for words and for a picture with twinlens; a bare script that imports pymilvus, opens the same
Milvus Lite folder and searches with a ready vector; and rclip on the same pictures, if it is found
(``--rclip PATH``) and ``RCLIP_DATADIR`` names its models (``benchmarks/rclip_models.py`` writes
them). rclip looks for changed pictures before it answers unless ``--no-indexing`` is given; both
are measured. Prints medians, and the ratio to the bare script.

Usage: python benchmarks/cold.py [--model starter] [--pictures 64] [--rows 0] [--rounds 5]
           [--rclip PATH]

``--rows`` adds so many rows of random vectors to the collection. ``--model ViT-B-32-256:w.pt``
takes random weights from a file as well as real ones: the time is the same.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from pictures import make_pictures

import twinlens

BARE = """
import sys
import numpy as np
from pymilvus import MilvusClient
client = MilvusClient(sys.argv[1])
client.load_collection(sys.argv[3])
vector = np.load(sys.argv[2])
print(client.search(sys.argv[3], [vector], limit=10, output_fields=["path", "captions"],
                    search_params={"metric_type": "IP"}))
"""
COLLECTION = "cold"


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    cpu: float
    wall: float
    memory: float


def main() -> None:
    """Make the collection, ask in turns, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="starter")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rclip", default=shutil.which("rclip", path=Path(sys.executable).parent))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        # In a process of its own: a child's peak memory begins with that of its parent.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            made = pool.submit(collection, folder, options.model, options.pictures, options.rows)
            db, vector, physical = made.result()
        picture = str(next(photos.rglob("*.jpg")))
        ask = [sys.executable, "-m", "twinlens", "search", "--db", str(db), "-c", COLLECTION]
        bare = [sys.executable, "-c", BARE, str(db), str(vector), physical]
        commands = {
            "bare pymilvus, a ready vector": bare,
            "twinlens, words": [*ask, "two dogs"],
            "twinlens, a picture": [*ask, "--image", picture],
        }
        if options.rclip is None or "RCLIP_DATADIR" not in os.environ:
            print("left out: rclip (--rclip PATH; RCLIP_DATADIR, see benchmarks/rclip_models.py)")
        else:
            # The first one indexes the pictures, in the round that does not count.
            commands["rclip, words"] = [options.rclip, "two dogs"]
            commands["rclip, words, --no-indexing"] = [options.rclip, "-n", "two dogs"]
            commands["rclip, a picture, --no-indexing"] = [options.rclip, "-n", picture]
        costs = measure(commands, options.rounds, photos)
    rows = options.pictures + options.rows
    print(f"{options.model}, {rows:,} pictures, {options.rounds} rounds, medians\n")
    print(f"{'':32} {'CPU s':>7} {'wall s':>7} {'MB':>7} {'CPU ratio':>10}")
    base = next(iter(costs.values())).cpu
    for what, cost in costs.items():
        print(
            f"{what:32} {cost.cpu:7.2f} {cost.wall:7.2f} {cost.memory:7.0f} {cost.cpu / base:10.2f}"
        )


def collection(folder: Path, model: str, pictures: int, rows: int) -> tuple[Path, Path, str]:
    """Make the database: its path, a file with a vector, and Milvus' name of the pictures."""
    photos = make_pictures(folder / "photos", pictures)
    db, vector = folder / "cold.db", folder / "vector.npy"
    with twinlens.open(db, COLLECTION, model=model) as index:
        index.ingest(photos)
        if rows:
            fill(index, rows)
        stored = index.engine.collection
        np.save(vector, next(stored.scan("images", ["vector"]))[0]["vector"])
        physical = stored.physical("images")
    return db, vector, physical


def fill(index: twinlens.Index, rows: int) -> None:
    """Add rows like those of pictures, with random unit vectors."""
    stored = index.engine.collection
    random = np.random.default_rng(0)
    for start in range(0, rows, 5_000):
        count = min(5_000, rows - start)
        vectors = random.normal(size=(count, stored.fingerprint.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        stored.insert(
            "images",
            [
                {
                    "id": f"{start + n:032x}",
                    "vector": vectors[n],
                    "path": f"/random/{start + n}.jpg",
                    "relative_path": f"{start + n}.jpg",
                    "paths": [],
                    "captions": [],
                    "width": 500,
                    "height": 375,
                    "bytes": 40_000,
                    "mtime": 0.0,
                    "format": "JPEG",
                }
                for n in range(count)
            ],
        )  # fmt: skip
    stored.flush()


def measure(commands: dict[str, list[str]], rounds: int, folder: Path) -> dict[str, Cost]:
    """Run every command in turn; the first round warms up the disk and does not count."""
    found: dict[str, list[Cost]] = {what: [] for what in commands}
    for number in range(rounds + 1):
        for what, command in commands.items():
            cost = run(command, folder)
            if number:
                found[what].append(cost)
    return {
        what: Cost(*(statistics.median(getattr(one, name) for one in costs)
                     for name in ("cpu", "wall", "memory")))
        for what, costs in found.items()
    }  # fmt: skip


def run(command: list[str], folder: Path) -> Cost:
    """Run one process to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed: {complaint.decode()[-500:]}")
    wall = time.perf_counter() - began
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()

"""Measure the memory of an audit, beside that of its vectors, which it keeps on disk.

Usage: python benchmarks/audit_memory.py [--pictures 333000] [--each 3] [--dim 64]

Rows are made up as they are read, so that what a database takes does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from twinlens.search.analysis.audit import audit
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Rows
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.query.calibration import Calibration

_PAGE = 4_000


class MadeUpRows:
    """Rows of pictures, and of captions that fit them no better than others."""

    def __init__(self, pictures: int, each: int, dim: int) -> None:
        self.fingerprint = Fingerprint("random", "none", dim, 8, "{}")
        self._counts = {"images": pictures, "texts": pictures * each}

    def scan(
        self, kind: str, fields: Sequence[str], expression: str = ""
    ) -> Iterator[list[dict[str, Any]]]:
        dice = np.random.default_rng(0)
        for start in range(0, self._counts[kind], _PAGE):
            numbers = range(start, min(start + _PAGE, self._counts[kind]))
            vectors = unit(dice, len(numbers), self.fingerprint.dim)
            yield [
                {
                    "id": key(number), "image_id": key(number % self._counts["images"]),
                    "path": "a.jpg", "relative_path": "a.jpg", "paths": ["a.jpg"],
                    "text": f"picture {number} of a dog on the beach", "vector": vector,
                }
                for number, vector in zip(numbers, vectors, strict=True)
            ]  # fmt: skip

    def get(self, *_: object) -> list[dict[str, Any]]:
        return []


def key(number: int) -> str:
    """An id, unsorted as hashes are."""
    return f"{number * 2_654_435_761 % 2**64:032x}"


def unit(dice: np.random.Generator, count: int, dim: int) -> Rows:
    rows = dice.normal(size=(count, dim))
    found: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def own_memory() -> float:
    """MB of this process that no file holds; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=333_000)
    parser.add_argument("--each", type=int, default=3)
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    sample = unit(np.random.default_rng(1), 200, options.dim)
    calibration = PairCalibration(Calibration.of("text", "images", sample, sample[:50], 200))
    rows = cast(Collection, MadeUpRows(options.pictures, options.each, options.dim))
    before = peak = own_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = audit(rows, calibration, below=0.5, out=Path(folder) / "bad.jsonl")
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    vectors = 4 * options.dim * (found.pairs + found.images) / 2**20
    print(f"{found.pairs:,} pairs: {peak - before:.0f} MB at most, in {seconds:.0f} s")
    print(f"their vectors take {vectors:.0f} MB: {vectors / (peak - before):.1f} times as much")


if __name__ == "__main__":
    main()

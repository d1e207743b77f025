"""Compare duplicates by all cosines with asking Milvus Lite for each row's neighbours.

Usage: python benchmarks/duplicates.py [--count 10000] [--dim 512]

Embeddings are random; one in twenty has a near copy.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from twinlens.search.analysis.duplicates import duplicates
from twinlens.search.milvus.database import Database
from twinlens.search.models.fingerprint import Fingerprint

BATCH = 64
NEIGHBOURS = 10
#: Batches that are timed; the rest is taken to cost the same.
TIMED = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    count, dice = options.count, np.random.default_rng(0)
    vectors = dice.normal(size=(count, options.dim)).astype(np.float32)
    copies = count // 20
    vectors[:copies] = vectors[copies : 2 * copies] + 0.1 * vectors[-copies:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Database(str(Path(folder) / "many.db")) as database,
    ):
        collection = database.create("many", Fingerprint("random", "none", options.dim, 8, "{}"))
        rows = [
            {
                "id": f"{number:032x}", "path": f"/{number}.jpg", "relative_path": f"{number}.jpg",
                "paths": [f"/{number}.jpg"], "captions": [], "width": 1, "height": 1, "bytes": 1,
                "mtime": 0.0, "format": "JPEG", "vector": vector,
            }
            for number, vector in enumerate(vectors)
        ]  # fmt: skip
        collection.upsert("images", rows)
        collection.search("images", vectors[:BATCH], NEIGHBOURS, fields=["id"])
        began = time.perf_counter()
        for start in range(0, TIMED * BATCH, BATCH):
            collection.search("images", vectors[start : start + BATCH], NEIGHBOURS, fields=["id"])
        asking = (time.perf_counter() - began) / TIMED * count / BATCH
        began = time.perf_counter()
        groups = duplicates(collection)
        computing = time.perf_counter() - began
    print(f"{count:,} rows of {options.dim}: {len(groups)} groups of {copies} found")
    print(f"all cosines {computing:.1f} s; asking Milvus Lite for each row {asking:.1f} s: "
          f"{asking / computing:.1f} times")  # fmt: skip


if __name__ == "__main__":
    main()

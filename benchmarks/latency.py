"""Measure the overhead of twinlens over Milvus itself for one search: p50 and p95, in one run.

The encoder is not measured: the query vectors are ready. Milvus returns the same fields of the
same number of hits, and they are read.

Usage: python benchmarks/latency.py [--db latency.db] [--rows 10000] [--dim 384] [--queries 200]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import twinlens
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import IMAGE_FIELDS

NAME = "twinlens_latency"
LIMIT = 10
BATCH = 64


def unit_rows(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def blank_row(number: int, vector: np.ndarray) -> dict[str, object]:
    """A picture's row with nothing to it but its vector and its number."""
    path = f"/photos/{number}.jpg"
    return {
        "id": f"{number:032x}", "vector": vector, "path": path, "relative_path": path[8:],
        "paths": [path], "captions": ["a caption"], "width": 640, "height": 480,
        "bytes": 60_000, "mtime": 0.0, "format": "JPEG", "year": 2020,
    }  # fmt: skip


def fill(collection: Collection, rows: np.ndarray) -> None:
    for start in range(0, len(rows), 5_000):
        batch = enumerate(rows[start : start + 5_000], start)
        collection.upsert("images", [blank_row(number, row) for number, row in batch])
    collection.flush()


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", default="")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--wait", type=float, default=0.0, help="seconds for a server's index")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = options.db or str(Path(folder) / "latency.db")
        with Database(db) as database:
            if database.exists(NAME):
                database.drop(NAME)
            fingerprint = Fingerprint("random", "none", options.dim, 224, "{}")
            collection = database.create(NAME, fingerprint)
            try:
                fill(collection, unit_rows(options.rows, options.dim, 0))
                time.sleep(options.wait)
                measure(database, collection, unit_rows(options.queries, options.dim, 1))
            finally:
                database.drop(NAME)


def measure(database: Database, collection: Collection, queries: np.ndarray) -> None:
    physical = collection.generation.physical(NAME, "images")
    params = ann.search_params(collection.generation.index, LIMIT)
    fields = [*IMAGE_FIELDS, "$meta"]

    def raw(vectors: np.ndarray) -> object:
        found = database.client.search(
            physical, data=list(vectors), anns_field="vector", limit=LIMIT, output_fields=fields,
            search_params={"metric_type": "IP", "params": params},
        )  # fmt: skip
        # pymilvus decodes a hit when it is read, which whoever asks for fields does.
        return [[(hit["distance"], dict(hit["entity"])) for hit in hits] for hits in found]

    index = twinlens.Index(database, NAME, model=_Silent(collection.fingerprint))
    for query in queries[:20]:
        raw(query[None])
        index.search(query, limit=LIMIT)
    ours, milvus = [], []
    for number, query in enumerate(queries):
        pair = [
            (ours, lambda query=query: index.search(query, limit=LIMIT)),
            (milvus, lambda query=query: raw(query[None])),
        ]
        for times, call in pair if number % 2 else reversed(pair):
            times.append(timed(call))
    kind = collection.generation.index
    print(
        f"{collection.capabilities.label}, {collection.count('images'):,} rows, {kind}, top {LIMIT}"
    )
    for percent in (50, 95):
        mine, theirs = np.percentile(ours, percent), np.percentile(milvus, percent)
        print(f"p{percent}: twinlens {mine:.2f} ms, Milvus {theirs:.2f} ms: {mine / theirs:.2f}×")
    batches = [queries[i : i + BATCH] for i in range(0, len(queries) - BATCH + 1, BATCH)]
    singles = np.median(milvus)
    batched = np.median([timed(lambda b=b: collection.search("images", b, LIMIT, fields=fields))
                         for b in batches for _ in range(3)]) / BATCH  # fmt: skip
    print(
        f"a query in a batch of {BATCH}: {batched:.2f} ms, alone {singles:.2f} ms: "
        f"1/{singles / batched:.1f}"
    )


class _Silent:
    """Stands for a model that is never asked."""

    image_batch = 1

    def __init__(self, fingerprint: Fingerprint) -> None:
        self.fingerprint = fingerprint

    def prepare(self, image: object) -> np.ndarray:
        raise NotImplementedError

    def images(self, pixels: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def texts(self, texts: list[str]) -> np.ndarray:
        return unit_rows(len(texts), self.fingerprint.dim, 2)


if __name__ == "__main__":
    main()

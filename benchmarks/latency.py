"""Compare a search with Milvus itself, and on Milvus Lite with NumPy's exact scan, in one run.

The encoder is not measured: the query vectors are ready. Milvus returns the same fields of the
same number of hits, and they are read; NumPy only finds the places of the best rows, and for a
batch computes the matrix product alone.

Usage: python benchmarks/latency.py [--db latency.db] [--rows 10000] [--dim 384] [--queries 200]
       [--keep]
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
from twinlens.search.milvus.lite.client import LiteClient
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
    """How many milliseconds a call takes."""
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", default="")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--keep", action="store_true", help="keep the rows of --db, and use them")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds for a server's index")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = options.db or str(Path(folder) / "latency.db")
        with Database(db) as database:
            fingerprint = Fingerprint("random", "none", options.dim, 224, "{}")
            if database.exists(NAME) and not options.keep:
                database.drop(NAME)
            collection = database.create(NAME, fingerprint)
            try:
                if collection.count("images") != options.rows:
                    fill(collection, unit_rows(options.rows, options.dim, 0))
                    time.sleep(options.wait)
                measure(database, collection, unit_rows(options.queries, options.dim, 1))
            finally:
                if not options.keep:
                    database.drop(NAME)


def measure(database: Database, collection: Collection, queries: np.ndarray) -> None:
    physical = collection.generation.physical(NAME, "images")
    params = ann.search_params(collection.generation.index, LIMIT)
    fields = [*IMAGE_FIELDS, "$meta"]
    client = database.client
    milvus = client.lite() if isinstance(client, LiteClient) else client
    milvus.load_collection(physical)

    def raw(vectors: np.ndarray, expression: str = "") -> object:
        found = milvus.search(
            physical, data=list(vectors), anns_field="vector", limit=LIMIT, output_fields=fields,
            search_params={"metric_type": "IP", "params": params}, filter=expression,
        )  # fmt: skip
        # pymilvus decodes a hit when it is read, which whoever asks for fields does.
        return [[(hit["distance"], dict(hit["entity"])) for hit in hits] for hits in found]

    index = twinlens.Index(database, NAME, model=_Silent(collection.fingerprint))
    count = iter(range(10**9))
    others: dict[str, Callable[[np.ndarray], object]] = {"Milvus itself": raw}
    if isinstance(client, LiteClient):
        matrix = np.concatenate([block.vectors for block, _ in client.view(physical)])
        others = {"NumPy": lambda vectors: exact(matrix, vectors), **others}
    kind = collection.generation.index
    print(
        f"{collection.capabilities.label}, {collection.count('images'):,} rows, {kind}, top {LIMIT}"
    )
    cases: dict[str, tuple[list[np.ndarray], Callable[[np.ndarray], object]]] = {
        "one query": (
            [query[None] for query in queries],
            lambda vectors: index.search(vectors[0], limit=LIMIT),
        ),
        # Each filter is new, so that no answer is remembered; every row matches.
        "with a filter": (
            [query[None] for query in queries],
            lambda vectors: index.search(
                vectors[0], limit=LIMIT, where=f"year >= 2000 and width > {next(count) % 600}"
            ),
        ),
        f"a batch of {BATCH}": (
            [queries[i : i + BATCH] for i in range(0, len(queries) - BATCH + 1, BATCH)] * 5,
            lambda vectors: collection.search("images", vectors, LIMIT, fields=fields),
        ),
    }
    for case, (inputs, ours) in cases.items():
        compare(case, inputs, {"twinlens": ours, **others})


def exact(matrix: np.ndarray, vectors: np.ndarray) -> object:
    """NumPy's exact search: the places of the best rows of each vector."""
    scores = matrix @ vectors.T
    return np.argpartition(scores, -LIMIT, axis=0)[-LIMIT:] if len(vectors) == 1 else scores


def compare(
    case: str, inputs: list[np.ndarray], calls: dict[str, Callable[[np.ndarray], object]]
) -> None:
    """Call each with the same inputs in turn, and print wall and CPU milliseconds a query."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call(inputs[0])
    for number, vectors in enumerate(inputs):
        names = list(calls) if number % 2 else list(reversed(calls))
        for name in names:
            wall, cpu = time.perf_counter(), time.process_time()
            calls[name](vectors)
            used = time.perf_counter() - wall, time.process_time() - cpu
            taken[name].append((1e3 * used[0] / len(vectors), 1e3 * used[1] / len(vectors)))
    mine = np.median(taken["twinlens"], axis=0)
    for name, times in taken.items():
        (wall, cpu), slow = np.median(times, axis=0), np.percentile([one[0] for one in times], 95)
        print(
            f"{case:16} {name:14} p50 {wall:7.2f} ms, p95 {slow:7.2f} ms, CPU {cpu:7.2f} ms: "
            f"twinlens takes {mine[0] / wall:.2f} x the time, {mine[1] / cpu:.2f} x the CPU time"
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

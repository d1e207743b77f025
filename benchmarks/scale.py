"""How a collection behaves as it grows: insert rate, index build, latency, recall, memory.

Random but clustered vectors, whose spectrum falls off as that of real embeddings does. At every
size the same queries are asked, and compared with numpy's exact search over the same vectors in
the same run, which is what a user without a database would do.

Usage: python benchmarks/scale.py [--db scale.db | http://host:19530] [--sizes 100000,1000000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from latency import blank_row, timed

from search.corpus import Corpus
from search.layout import Layout
from search.models import Fingerprint
from search.store import Store

LIMIT = 10
CHUNK = 5_000
CLUSTERS = 2_000
#: How much of a vector is its cluster's; the rest is its own.
SHARED = 0.7
PAUSE = 5.0


class Vectors:
    """Clustered unit rows, the same for the same seed whichever part of them is asked for."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        self.dim = dim
        self._seed = seed
        self._spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        rng = np.random.default_rng(seed)
        self._centres = rng.normal(size=(CLUSTERS, dim)).astype(np.float32) * self._spectrum

    def chunk(self, number: int, count: int = CHUNK) -> np.ndarray:
        """Chunk ``number``: float32 unit rows ``[count, dim]``."""
        rng = np.random.default_rng((self._seed, number + 1))
        own = rng.normal(size=(count, self.dim)).astype(np.float32) * self._spectrum
        rows = SHARED * self._centres[rng.integers(CLUSTERS, size=count)] + (1 - SHARED) * own
        unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def exact(vectors: Vectors, total: int, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """Numbers of the ``LIMIT`` nearest rows of each query, and seconds that numpy took for one."""
    best = np.full((len(queries), LIMIT), -1, dtype=np.int64)
    scores = np.full((len(queries), LIMIT), -np.inf, dtype=np.float32)
    single = 0.0
    for start in range(0, total, CHUNK):
        rows = vectors.chunk(start // CHUNK)
        single += 1e-3 * timed(lambda rows=rows: np.argpartition(-(rows @ queries[0]), LIMIT))
        found = np.concatenate([scores, queries @ rows.T], axis=1)
        numbers = np.concatenate(
            [best, np.broadcast_to(np.arange(start, start + CHUNK), (len(queries), CHUNK))], axis=1
        )
        order = np.argsort(-found, axis=1)[:, :LIMIT]
        scores = np.take_along_axis(found, order, axis=1)
        best = np.take_along_axis(numbers, order, axis=1)
    return best, single


def rows(vectors: Vectors, begin: int, end: int) -> Iterator[list[dict[str, object]]]:
    for start in range(begin, end, CHUNK):
        yield [
            blank_row(number, row)
            for number, row in enumerate(vectors.chunk(start // CHUNK), start)
        ]


def resident(lite: bool) -> int:
    """Bytes of memory that Milvus has: this process with Lite, else all servers on this machine."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            mine = int(folder.name) == os.getpid()
            name = (folder / "comm").read_text()
            if mine if lite else name.startswith("milvus"):
                pages = int((folder / "statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it has ended
            continue
    return total


def wait(store: Store, corpus: Corpus, patience: float) -> bool:
    """Until a server has built its index; whether it has."""
    if corpus.capabilities.lite:
        return True
    physical = corpus.generation.physical(corpus.name, "images")
    until = time.monotonic() + patience
    while time.monotonic() < until:
        state = store.client.describe_index(physical, "vector")
        if int(state.get("pending_index_rows", 0)) == 0:
            return True
        time.sleep(PAUSE)
    return False


def ask(corpus: Corpus, queries: np.ndarray, best: np.ndarray) -> tuple[list[float], float]:
    """Milliseconds of each query, and recall@10 against the exact nearest."""
    times, kept = [], 0
    for query in queries[:10]:
        corpus.search("images", query[None], LIMIT, fields=["id"])
    for query, ids in zip(queries, best, strict=True):
        began = time.perf_counter()
        (hits,) = corpus.search("images", query[None], LIMIT, fields=["path", "captions"])
        times.append(1e3 * (time.perf_counter() - began))
        kept += len({int(row["id"], 16) for row, _ in hits} & set(ids.tolist()))
    return times, kept / (LIMIT * len(queries))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", default="")
    parser.add_argument("--collection", default="twinlens_scale")
    parser.add_argument("--sizes", default="100000,1000000")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--index", default="auto")
    parser.add_argument("--patience", type=float, default=3_600.0, help="seconds for an index")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds after it, on a server")
    parser.add_argument(
        "--keep", action="store_true", help="keep the collection, or ask a kept one"
    )
    options = parser.parse_args()
    sizes = sorted(CHUNK * max(1, int(size) // CHUNK) for size in options.sizes.split(","))
    vectors = Vectors(options.dim)
    queries = vectors.chunk(1_000_000_000, options.queries)
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(options.db or str(Path(folder) / "scale.db")) as store,
    ):
        if store.exists(options.collection) and not options.keep:
            store.drop(options.collection)
        fingerprint = Fingerprint("random", "none", options.dim, 224, "{}")
        corpus = store.create(options.collection, fingerprint, Layout(options.index))
        try:
            grow(store, corpus, vectors, queries, sizes, options)
        finally:
            if not options.keep:
                store.drop(options.collection)


def grow(
    store: Store,
    corpus: Corpus,
    vectors: Vectors,
    queries: np.ndarray,
    sizes: list[int],
    options: argparse.Namespace,
) -> None:
    lite = corpus.capabilities.lite
    print(f"{corpus.capabilities.label}, {options.dim} dimensions, {corpus.generation.index}")
    there = corpus.count("images")
    medians = []
    for size in sizes:
        if there > size:
            continue
        began = time.perf_counter()
        for chunk in rows(vectors, there, size):
            corpus.upsert("images", chunk)
        inserting = time.perf_counter() - began
        began = time.perf_counter()
        corpus.settle()
        indexed = wait(store, corpus, options.patience)
        building = time.perf_counter() - began
        if not lite and size > there:
            time.sleep(options.settle)  # it goes over to what it has built
        best, single = exact(vectors, size, queries)
        times, recall = ask(corpus, queries, best)
        p50, p95 = np.percentile(times, 50), np.percentile(times, 95)
        medians.append(p50)
        rate = f"{(size - there) / inserting:,.0f} rows/s" if size > there else "kept"
        print(
            f"{size:>10,} rows: inserted {rate}, index {building:.0f} s"
            f"{'' if indexed else ' (unfinished)'}, p50 {p50:.2f} ms, p95 {p95:.2f} ms, "
            f"recall@{LIMIT} {recall:.3f}, memory {resident(lite) / 2**30:.2f} GiB, "
            f"numpy exact {1e3 * single:.1f} ms: {1e3 * single / p50:.1f}× as long",
            flush=True,
        )
        there = size
    if len(medians) > 1:
        print(f"from {sizes[0]:,} to {sizes[-1]:,} rows: p50 {medians[-1] / medians[0]:.2f}×")


if __name__ == "__main__":
    main()

"""Measure recall@10 and time of each index kind of a server against exact search.

Usage: python benchmarks/ann.py http://host:19530 --vectors rows.npy --queries queries.npy
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from latency import fill

from twinlens.search.errors import StoreError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.layout import Layout
from twinlens.search.models.fingerprint import Fingerprint

NAME = "twinlens_ann"
LIMIT = 10
#: Seconds to wait for an index, and between two looks.
PATIENCE = 90.0
PAUSE = 3.0


def recall(collection: Collection, queries: np.ndarray, best: np.ndarray) -> float:
    found = collection.search("images", queries, LIMIT, fields=["id"])
    kept = [
        len({int(row["id"], 16) for row, _ in hits} & set(ids.tolist()))
        for hits, ids in zip(found, best, strict=True)
    ]
    return sum(kept) / (LIMIT * len(queries))


def wait(database: Database, collection: Collection) -> bool:
    """Until everything is indexed, and the server has gone over to that."""
    physical = collection.generation.physical(NAME, "images")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        state = database.client.describe_index(physical, "vector")
        if int(state.get("pending_index_rows", 0)) == 0:
            time.sleep(25.0 if collection.generation.index != "FLAT" else 0.0)
            return True
        time.sleep(PAUSE)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri")
    parser.add_argument("--vectors", required=True, help="float32 unit rows [n, dim], .npy")
    parser.add_argument("--queries", required=True, help="float32 unit rows [m, dim], .npy")
    parser.add_argument("--kinds", default="FLAT,HNSW,IVF_FLAT,IVF_SQ8")
    options = parser.parse_args()
    rows, queries = np.load(options.vectors), np.load(options.queries)[:500]
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :LIMIT]
    with Database(options.uri) as database:
        print(f"{database.capabilities.label}, {len(rows):,} rows of {rows.shape[1]} dimensions")
        for kind in options.kinds.split(","):
            try:
                fingerprint = Fingerprint("given", "none", rows.shape[1], 224, "{}")
                collection = database.create(NAME, fingerprint, Layout(kind))
                fill(collection, rows)
                fresh = recall(collection, queries, best)
                indexed = wait(database, collection)
                share = recall(collection, queries, best)
                times = []
                for query in queries[:200]:
                    began = time.perf_counter()
                    collection.search("images", query[None], LIMIT, fields=["id"])
                    times.append(1e3 * (time.perf_counter() - began))
                note = "" if indexed else "  (not indexed in time)"
                print(f"{kind:9} recall@{LIMIT} {share:.4f}, before it is indexed {fresh:.4f}; "
                      f"p50 {np.median(times):.1f} ms{note}")  # fmt: skip
            except StoreError as error:
                print(f"{kind:9} {error}")
            finally:
                if database.exists(NAME):
                    database.drop(NAME)


if __name__ == "__main__":
    main()

"""Compare ``twinlens copy`` from Milvus Lite to a server with a plain loop over the same rows.

Usage: python benchmarks/copying.py --server http://host:19530 [--rows 100000] [--dim 512]

The loop is what one would write with pymilvus: ``query_iterator`` with its default batch size, and
``insert``. Both write into collections with the same columns and index. The time of ``copy``
includes the names of fields, the counts and the comparison of 1,000 rows.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
import uuid
from collections.abc import Iterator

import numpy as np

import twinlens
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.layout import Layout
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import IMAGE_FIELDS, Row, image_id

CENTRES = 500
STEP = 2_000
NAME = "many"


def rows(count: int, dim: int) -> Iterator[list[Row]]:
    """Pictures that nobody took, in clusters as real ones are."""
    dice = np.random.default_rng(0)
    centres = dice.normal(size=(CENTRES, dim))
    for start in range(0, count, STEP):
        size = min(STEP, count - start)
        vectors = centres[dice.integers(CENTRES, size=size)] + 0.5 * dice.normal(size=(size, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield [
            {
                "id": image_id(f"{start + number}".encode()),
                "vector": vector.astype(np.float32),
                "path": f"/pictures/{start + number}.jpg",
                "relative_path": f"{start + number}.jpg",
                "paths": [f"/pictures/{start + number}.jpg"],
                "captions": [f"picture number {start + number} of many"],
                "width": 640,
                "height": 480,
                "bytes": 100_000,
                "mtime": 1.7e9,
                "format": "JPEG",
                "year": 2000 + number % 25,
            }
            for number, vector in enumerate(vectors)
        ]


def loop(source: Database, target: Database, name: str) -> float:
    """Seconds of the plain loop, until the copy can be searched."""
    began = time.perf_counter()
    old = source.collection(NAME)
    new = target.create(name, old.fingerprint, Layout())
    there, here = new.generation.physical(name, "images"), old.generation.physical(NAME, "images")
    new.load()
    iterator = source.client.query_iterator(here, output_fields=[*IMAGE_FIELDS, "vector", "$meta"])
    while found := iterator.next():
        target.client.insert(there, [dict(row) for row in found])
    iterator.close()
    target.client.flush(there)
    seconds = time.perf_counter() - began
    assert new.count("images") == old.count("images")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    digest = hashlib.sha256(uuid.uuid4().bytes).hexdigest()[:8]
    plain, copied = f"plain_{digest}", f"copied_{digest}"
    with tempfile.TemporaryDirectory() as folder, Database(options.server) as target:
        db = f"{folder}/many.db"
        with Database(db) as source:
            collection = source.create(NAME, Fingerprint("random", "none", options.dim, 8, "{}"))
            began = time.perf_counter()
            for chunk in rows(options.rows, options.dim):
                collection.upsert("images", chunk)
            collection.flush()
            print(f"made in {time.perf_counter() - began:.0f} s", flush=True)
            try:
                seconds = loop(source, target, plain)
                print(f"plain loop: {options.rows / seconds:8.0f} rows/s", flush=True)
                report = twinlens.copy(db, options.server, NAME, to=copied)
                print(f"twinlens:   {report.rows_per_second:8.0f} rows/s, "
                      f"{report.compared} rows compared")  # fmt: skip
                print(f"{options.rows} rows x {options.dim}: {seconds / report.seconds:.2f} times "
                      "as fast as the plain loop")  # fmt: skip
            finally:
                target.drop(plain)
                target.drop(copied)


if __name__ == "__main__":
    main()

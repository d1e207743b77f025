"""Measure how a collection behaves as it grows: insert rate, index build, latency, recall, memory.

Uses random but clustered vectors with a spectrum like that of real embeddings. Each size runs the
same queries and compares them with numpy's exact search over the same vectors in the same run,
which is what a user without a database would do. Prints a table line by line, and below it how much
the median latency grew.

With ``--keep FILE`` the collection stays and each line is stored in the file: run it again to
resume.

Usage: python benchmarks/scale.py [--db scale.db | http://host:19530] [--sizes 100k,1M]
                                  [--keep scale.jsonl]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from latency import blank_row, timed

from twinlens.search.analysis.sizing import parse_count
from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import is_server
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.layout import Layout
from twinlens.search.models.fingerprint import Fingerprint

LIMIT = 10
CHUNK = 5_000
CLUSTERS = 2_000
#: How much of a vector is its cluster's; the rest is its own.
SHARED = 0.7
#: Seconds between two looks at an index, and between two words about how far it is.
PAUSE = 1.0
TELL = 30.0
HEADER = ("rows", "inserted rows/s", "index s", "p50 ms", "p95 ms", f"recall@{LIMIT}",
          "memory GiB", "numpy exact ms")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured at one size.

    Attributes:
        setting: of which database, collection, index and dimensions.
        rows: the size.
        inserted: rows a second; ``None`` where all were there.
        building: seconds from the flush until the index was built.
        built: whether it was, in the time that there was for it.
        p50, p95: milliseconds of one query.
        recall: the share of the exact nearest.
        memory: bytes; ``None`` where the server runs on another machine.
        exact: milliseconds that numpy took for one query.
    """

    setting: str
    rows: int
    inserted: float | None
    building: float
    built: bool
    p50: float
    p95: float
    recall: float
    memory: int | None
    exact: float

    def cells(self) -> list[str]:
        return [
            f"{self.rows:,}",
            "kept" if self.inserted is None else f"{self.inserted:,.0f}",
            f"{self.building:.0f}" + ("" if self.built else ", unfinished"),
            f"{self.p50:.2f}",
            f"{self.p95:.2f}",
            f"{self.recall:.3f}",
            "not here" if self.memory is None else f"{self.memory / 2**30:.2f}",
            f"{self.exact:.1f}",
        ]


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


def column_bytes(row: dict[str, object]) -> int:
    """Bytes of what a row has beside its vector."""
    values = (value for name, value in row.items() if name != "vector")
    return sum(
        len(value) if isinstance(value, str)
        else sum(map(len, value)) if isinstance(value, list)
        else 8
        for value in values
    )  # fmt: skip


def resident(db: str) -> int | None:
    """Bytes of memory that Milvus has: this process with Lite, else all servers on this machine.

    ``None`` where the server is on another, whose memory cannot be seen from here.
    """
    server = is_server(db)
    if server and urlsplit(db).hostname not in ("localhost", "127.0.0.1", "::1"):
        return None
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            mine = int(folder.name) == os.getpid()
            name = (folder / "comm").read_text()
            if name.startswith("milvus") if server else mine:
                pages = int((folder / "statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it has ended
            continue
    return total or None


def wait(database: Database, collection: Collection, size: int, patience: float) -> bool:
    """Until a server has built its index; whether it has."""
    if collection.capabilities.lite:
        return True
    physical = collection.generation.physical(collection.name, "images")
    until = time.monotonic() + patience
    told = time.monotonic()
    while time.monotonic() < until:
        state = database.client.describe_index(physical, "vector")
        pending = int(state.get("pending_index_rows", 0))
        # Right after the flush nothing is pending, since nothing was begun.
        begun = (
            int(state.get("indexed_rows", 0)) >= size or collection.generation.index == ann.EXACT
        )
        if pending == 0 and begun:
            return True
        if time.monotonic() - told > TELL:
            told = time.monotonic()
            tell(f"index: {state.get('indexed_rows', 0):,} rows, {pending:,} wait")
        time.sleep(PAUSE)
    return False


def ask(collection: Collection, queries: np.ndarray, best: np.ndarray) -> tuple[list[float], float]:
    """Milliseconds of each query, and recall@10 against the exact nearest."""
    times, kept = [], 0
    for query in queries[:10]:
        collection.search("images", query[None], LIMIT, fields=["id"])
    for query, ids in zip(queries, best, strict=True):
        began = time.perf_counter()
        (hits,) = collection.search("images", query[None], LIMIT, fields=["path", "captions"])
        times.append(1e3 * (time.perf_counter() - began))
        kept += len({int(row["id"], 16) for row, _ in hits} & set(ids.tolist()))
    return times, kept / (LIMIT * len(queries))


def fill(collection: Collection, vectors: Vectors, size: int) -> float | None:
    """Insert what is missing of the first ``size`` rows; rows a second, ``None`` if nothing was."""
    there = collection.count("images")
    if there >= size:
        return None
    # A chunk that broke off half-way is written again, to the same ids.
    begin = there // CHUNK * CHUNK
    began = told = time.perf_counter()
    done = begin
    for chunk in rows(vectors, begin, size):
        collection.upsert("images", chunk)
        done += len(chunk)
        if time.perf_counter() - told > TELL:
            told = time.perf_counter()
            tell(f"{done:,} of {size:,} rows, {(done - begin) / (told - began):,.0f} rows/s")
    return (size - begin) / (time.perf_counter() - began)


def measure(
    database: Database,
    collection: Collection,
    vectors: Vectors,
    queries: np.ndarray,
    size: int,
    setting: str,
    options: argparse.Namespace,
) -> Line:
    """Grow the collection to a size, and ask it."""
    inserted = fill(collection, vectors, size)
    began = time.perf_counter()
    collection.flush()
    built = wait(database, collection, size, options.patience)
    building = time.perf_counter() - began
    if inserted is not None and not collection.capabilities.lite:
        time.sleep(options.flush)  # it goes over to what it has built
    best, single = exact(vectors, size, queries)
    times, recall = ask(collection, queries, best)
    return Line(
        setting,
        size,
        inserted,
        building,
        built,
        float(np.percentile(times, 50)),
        float(np.percentile(times, 95)),
        recall,
        resident(options.db),
        1e3 * single,
    )


def grow(
    database: Database, collection: Collection, sizes: Sequence[int], options: argparse.Namespace
) -> None:
    """The table, a line for each size, and how the latency grew from the first to the last."""
    vectors = Vectors(options.dim)
    queries = vectors.chunk(1_000_000_000, options.queries)
    index = collection.generation.index
    setting = (
        f"{database.uri} {collection.name} {collection.generation.identity} {index} {options.dim}"
    )
    kept = {line.rows: line for line in read(options.keep) if line.setting == setting}
    print(f"{collection.capabilities.label}, {options.dim} dimensions, {index}\n")
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    lines: list[Line] = []
    for size in sizes:
        line = kept.get(size)
        if line is None and collection.count("images") > size:
            tell(f"{size:,} rows: passed over, the collection holds more already")
            continue
        if line is None:
            line = measure(database, collection, vectors, queries, size, setting, options)
            write(options.keep, line)
        lines.append(line)
        print(f"| {' | '.join(line.cells())} |", flush=True)
    if any(line.memory is None for line in lines):
        print("\nmemory: no Milvus runs on this machine, look at it where it does")
    if len(lines) > 1:
        first, last = lines[0], lines[-1]
        print(f"\nfrom {first.rows:,} to {last.rows:,} rows: p50 {last.p50 / first.p50:.2f}×")


def read(path: Path | None) -> list[Line]:
    """The lines of earlier runs."""
    if path is None or not path.exists():
        return []
    return [Line(**json.loads(line)) for line in path.read_text().splitlines()]


def write(path: Path | None, line: Line) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(asdict(line)) + "\n")


def tell(text: str) -> None:
    """Say how far it is, beside the table."""
    print(f"  {text}", file=sys.stderr, flush=True)


def sizes_of(text: str) -> list[int]:
    """``100k,1M`` in whole chunks, in order."""
    try:
        return sorted({CHUNK * max(1, parse_count(size) // CHUNK) for size in text.split(",")})
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", default="", help="default: a temporary file")
    parser.add_argument("--collection", default="twinlens_scale")
    parser.add_argument("--sizes", type=sizes_of, default="100k,1M")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--index", default="auto")
    parser.add_argument("--patience", type=float, default=7_200.0, help="seconds for an index")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds after it, on a server")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="keep the collection and the lines, or go on"
    )
    options = parser.parse_args(arguments)
    if options.keep and not options.db:
        parser.error("--keep goes with a --db that stays")
    try:
        with tempfile.TemporaryDirectory() as folder:
            options.db = options.db or str(Path(folder) / "scale.db")
            run(options)
    except TwinlensError as error:
        sys.exit(f"scale.py: {error}")


def run(options: argparse.Namespace) -> None:
    with Database(options.db) as database:
        if database.exists(options.collection) and not options.keep:
            database.drop(options.collection)
        fingerprint = Fingerprint("random", "none", options.dim, 224, "{}")
        collection = database.create(options.collection, fingerprint, Layout(options.index))
        try:
            grow(database, collection, options.sizes, options)
        finally:
            if not options.keep:
                database.drop(options.collection)


if __name__ == "__main__":
    main()

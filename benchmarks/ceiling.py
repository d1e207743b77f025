"""Compare ingest, with an encoder that costs nothing, with decoding alone on the same cores.

Usage: python benchmarks/ceiling.py [--count 5000] [--large 300] [--rounds 3] [--captions]
       [--db http://host:19530]

The encoder returns rows that were made ahead, so what is left is everything that would keep an
accelerator waiting. Decoding alone reads, decodes and prepares the same files in a pool of threads,
and in one of processes; the ratio is to the quicker one. Sides alternate in rounds, each in a
process of its own, which has imported and connected before the clock starts. Small pictures are
500x375, large ones 4000x3000: crops of the sample photographs, and copies of them that differ in
their last bytes.

CPU milliseconds are those of the process and its children (``getrusage``), not those of a server.
"Main process" is the CPU time of the ingesting process alone, while the encoder takes the second
half of the pictures: an upper bound of the time in which it holds the interpreter's lock. What it
needs at the end of a run, to flush and to clean up, is given apart. Threads of it decode on fewer
than four cores; ``--processes`` lets processes do it, from some hundreds of pictures on. The stages
are timed one by one, each alone in one thread, in milliseconds of CPU: read, hash and decode the
files; walk the folder with its sidecars; judge by the ledger; make rows;
write rows to Milvus.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import numpy as np
from pictures import make_pictures

import twinlens
from twinlens.ingest import executor
from twinlens.search.models.base import PendingRows, Pixels, Rows
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.preprocess import preparation

SIDE, DIM, BATCH = 224, 512, 512
#: Different pictures of each size; the others are copies of them with other last bytes.
DISTINCT = {"small": 200, "large": 6}
SIZES = {"small": (500, 375), "large": (4000, 3000)}
SIDES = ("ingest", "threads", "processes")
#: Set for the children if processes decode on any number of cores.
PROCESSES = "TWINLENS_BENCHMARK_PROCESSES"


class FreeEncoder:
    """Copies pixels to memory that it keeps, as for an accelerator; returns rows made ahead."""

    def __init__(self) -> None:
        self.fingerprint = Fingerprint("free", "none", DIM, SIDE, "{}")
        self.image_batch = self.text_batch = BATCH
        self.prepare = self.preparation = preparation({"size": SIDE})
        rows = np.random.default_rng(0).normal(size=(4096, DIM)).astype(np.float32)
        self._rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        self._next = 0
        self._copied = np.zeros((BATCH, SIDE, SIDE, 3), np.uint8)
        self.images_seen: list[tuple[int, float]] = [(0, 0.0)]

    def __reduce__(self) -> tuple[type[FreeEncoder], tuple[()]]:
        return FreeEncoder, ()

    def images(self, pixels: Pixels) -> Rows:
        return self.begin_images(pixels)()

    def begin_images(self, pixels: Pixels | Sequence[Pixels]) -> PendingRows:
        """Copy the pixels; note how many pictures came so far, at how much CPU time."""
        for place, one in enumerate(pixels):
            self._copied[place % len(self._copied)] = one
        self.images_seen.append((self.images_seen[-1][0] + len(pixels), cpu()[0]))
        rows = self.rows(len(pixels))
        return lambda: rows

    def begin_texts(self, texts: Sequence[str]) -> PendingRows:
        rows = self.rows(len(texts))
        return lambda: rows

    def texts(self, texts: list[str]) -> Rows:
        return self.rows(len(texts))

    def rows(self, count: int) -> Rows:
        self._next = (self._next + count) % 2048
        rows: Rows = self._rows[self._next : self._next + count]
        return rows


# ---- One side, in a process of its own


_prepare = preparation({"size": SIDE})


def decode_file(path: str) -> int:
    from twinlens.search.images.decode import decode

    with open(path, "rb") as file:
        data = file.read()
    return int(_prepare(decode(data, target=SIDE).image)[0, 0, 0])


def cpu() -> tuple[float, float]:
    """CPU seconds of this process, and of its children that have ended."""
    mine, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime, children.ru_utime + children.ru_stime


def alone(side: str, files: list[str]) -> dict[str, float]:
    cores = os.cpu_count() or 2
    pool: Executor = ThreadPoolExecutor(cores) if side == "threads" else ProcessPoolExecutor(cores)
    with pool:
        chunk = 1 if side == "threads" else 8
        list(pool.map(decode_file, files[: 4 * cores], chunksize=1))
        before, began = cpu(), time.perf_counter()
        list(pool.map(decode_file, files, chunksize=chunk))
        seconds = time.perf_counter() - began
    after = cpu()
    return {"seconds": seconds, "cpu": sum(after) - sum(before), "main": 0.0}


def ingest(folder: Path, warm: Path, db: str, collection: str) -> dict[str, float]:
    if os.environ.get(PROCESSES):
        executor.MIN_CORES = 1
    encoder = FreeEncoder()
    with twinlens.open(db, collection, model=encoder) as index:
        index.ingest(warm)
        before, began = cpu(), time.perf_counter()
        report = index.ingest(folder)
        seconds = time.perf_counter() - began
        after = cpu()
    assert not report.failed, report.failed[0]
    total, at_last = encoder.images_seen[-1]
    half, at_half = next(one for one in encoder.images_seen if one[0] >= total // 2)
    return {
        "seconds": seconds,
        "cpu": sum(after) - sum(before),
        "main": (at_last - at_half) / max(total - half, 1),
        "end": after[0] - at_last,
        "images": report.images,
    }


# ---- Stages, each alone


def timed(function: Callable[[], object], count: int) -> float:
    """CPU milliseconds of a call, by item."""
    began = time.process_time()
    function()
    return 1e3 * (time.process_time() - began) / count


def stages(folder: Path, warm: Path, db: str, collection: str) -> dict[str, float]:
    from twinlens.ingest.ledger import Ledger, file_row
    from twinlens.ingest.rows import PendingItem, decoded_columns, image_row
    from twinlens.ingest.sources.folder import walk
    from twinlens.ingest.tasks import decode_image
    from twinlens.search.records import image_id

    encoder = FreeEncoder()
    files = sorted(str(path) for path in folder.rglob("*.jpg"))[:1000]
    count = len(files)
    data: list[bytes] = []
    found: dict[str, float] = {}
    found["read"] = timed(lambda: data.extend(Path(path).read_bytes() for path in files), count)
    found["hash"] = timed(lambda: [image_id(one) for one in data], count)
    images = []
    found["decode"] = timed(
        lambda: images.extend(decode_image(one, encoder.prepare, SIDE) for one in data), count
    )
    walked: list = []
    listed = sum(1 for _ in folder.rglob("*.jpg"))
    found["walk, sidecars"] = timed(lambda: walked.extend(walk(folder)), listed)
    with twinlens.open(db, collection, model=encoder) as index:
        index.ingest(warm)
        target = index.engine.collection
        with Ledger(target) as ledger:
            found["ledger: judge"] = timed(lambda: list(ledger.judge_all(walked, set())), listed)
        pending = []
        for number, image in enumerate(images):
            item = PendingItem(walked[number], None, image_id(data[number]))
            item.columns = decoded_columns(item.sample, image)
            pending.append(item)
        vectors = encoder.rows(count)
        rows: list = []
        found["rows"] = timed(
            lambda: rows.extend(
                image_row(item, vector) for item, vector in zip(pending, vectors, strict=True)
            ),
            count,
        )
        ledger_rows = [file_row(item.sample, item.id, ()) for item in pending]

        def write(kind: str, made: list) -> None:
            for start in range(0, len(made), 256):
                target.upsert(kind, made[start : start + 256])

        write("images", rows[:1])
        found["Milvus: pictures"] = timed(lambda: write("images", rows), count)
        found["Milvus: ledger"] = timed(lambda: write("files", ledger_rows), count)
    return found


# ---- All sides


def run(side: str, folder: Path, warm: Path, db: str) -> dict[str, float]:
    """One side in a process of its own; on a server, its collection is dropped afterwards."""
    name = f"ceiling_{os.getpid()}_{time.monotonic_ns()}"
    with tempfile.TemporaryDirectory() as temporary:
        home = db or str(Path(temporary) / "ceiling.db")
        command = [sys.executable, __file__, "--side", side, str(folder), str(warm), home, name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        if db and side in ("ingest", "stages"):
            with twinlens.open(db, name, model=FreeEncoder()) as index:
                index.drop()
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_side(side: str, folder: str, warm: str, db: str, collection: str) -> None:
    if side == "ingest":
        result = ingest(Path(folder), Path(warm), db, collection)
    elif side == "stages":
        result = stages(Path(folder), Path(warm), db, collection)
    else:
        result = alone(side, sorted(str(path) for path in Path(folder).rglob("*.jpg")))
    print(json.dumps(result))


def make_copies(folder: Path, kind: str, count: int, captions: bool) -> Path:
    """``count`` JPEGs, few of which were really made."""
    distinct = min(count, DISTINCT[kind])
    quality = 85 if kind == "small" else 90
    made = sorted(
        make_pictures(folder / "made", distinct, size=SIZES[kind], quality=quality).rglob("*.jpg")
    )
    contents = [path.read_bytes() for path in made]
    for number in range(count):
        path = folder / "pictures" / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[number % distinct] + number.to_bytes(4, "big"))
        if captions:
            path.with_suffix(".txt").write_text(f"picture number {number} of the collection\n")
    return folder / "pictures"


def compare(kind: str, count: int, rounds: int, db: str, base: Path, captions: bool) -> None:
    folder = make_copies(base / kind, kind, count, captions)
    warm = make_copies(base / "warm", "small", 2, False)
    results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
            results[side].append(run(side, folder, warm, db))
        quickest = min(results[side][-1]["seconds"] for side in SIDES[1:])
        print(
            f"  round {turn + 1}: "
            + ", ".join(f"{side} {count / results[side][-1]['seconds']:.0f}/s" for side in SIDES)
            + f"; ingest/alone {quickest / results['ingest'][-1]['seconds']:.0%}"
        )

    def middle(side: str, what: str) -> float:
        return statistics.median(one[what] for one in results[side])

    for side in SIDES:
        line = f"  {side:9} {count / middle(side, 'seconds'):6.0f} pictures/s, "
        line += f"{1e3 * middle(side, 'cpu') / count:6.3f} CPU-ms a picture"
        if side == "ingest":
            line += f", of it main process {1e3 * middle(side, 'main'):.3f}"
            line += f"; {middle(side, 'end'):.2f} CPU-s at the end of the run"
        print(line)
    ratios = [
        min(results[side][turn]["seconds"] for side in SIDES[1:])
        / results["ingest"][turn]["seconds"]
        for turn in range(rounds)
    ]
    by_cpu = min(middle(side, "cpu") for side in SIDES[1:]) / middle("ingest", "cpu")
    print(
        f"  ingest runs at {statistics.median(ratios):.0%} of decoding alone; by CPU time, which "
        f"other work on the machine disturbs less, at {by_cpu:.0%}"
    )


def print_stages(shares: Iterable[tuple[str, float]]) -> None:
    shares = list(shares)
    total = sum(ms for _, ms in shares)
    for stage, ms in shares:
        print(f"    {stage:18} {ms:7.3f} CPU-ms a picture {ms / total:5.0%}")


def main() -> None:
    if sys.argv[1:2] == ["--side"]:
        one_side(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5_000, help="pictures of 500x375")
    parser.add_argument("--large", type=int, default=300, help="pictures of 12 megapixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--captions", action="store_true", help="a text sidecar for each picture")
    parser.add_argument("--processes", action="store_true", help="decode in processes")
    parser.add_argument("--no-stages", action="store_true")
    parser.add_argument("--db", default="", help="a server; default: a new Milvus Lite file")
    options = parser.parse_args()
    if options.processes:
        os.environ[PROCESSES] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        for kind, count in (("small", options.count), ("large", options.large)):
            if count:
                width, height = SIZES[kind]
                print(f"{count} pictures of {width}x{height}, {options.db or 'Milvus Lite'}")
                compare(kind, count, options.rounds, options.db, base, options.captions)
                if not options.no_stages:
                    print("  each stage alone, in one thread:")
                    print_stages(
                        run(
                            "stages", base / kind / "pictures", base / "warm/pictures", options.db
                        ).items()
                    )


if __name__ == "__main__":
    main()

"""Compare the peak memory of an ingest of many pictures with one of few.

Usage: python benchmarks/memory.py [--few 2000] [--many 20000] [--db URI]

With a server's URI the database is outside the measured process; with Milvus Lite it is inside.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from pictures import make_pictures

CHILD = """
import resource, sys, twinlens
with twinlens.open(sys.argv[2], sys.argv[3], model=sys.argv[4]) as index:
    report = index.ingest(sys.argv[1])
    assert not report.failed, report.failed[0]
print(report.images, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder: Path, db: str, collection: str, model: str) -> float:
    """Peak resident megabytes of an ingest in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), db, collection, model],
        check=True,
        capture_output=True,
        text=True,
    )
    count, kilobytes = map(int, done.stdout.split())
    print(f"{count} pictures: {kilobytes / 1024:.0f} MB")
    return kilobytes / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--db", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        few = peak(make_pictures(base / "few", options.few), options.db or str(base / "few.db"),
                   "memory_few", options.model)  # fmt: skip
        many = peak(make_pictures(base / "many", options.many), options.db or str(base / "many.db"),
                    "memory_many", options.model)  # fmt: skip
        print(f"{options.many} pictures need {many / few:.2f} times the memory of {options.few}")


if __name__ == "__main__":
    main()

"""Compare a second run over an unchanged tree with the first.

Usage: python benchmarks/rerun.py [--count 10000] [--model starter]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pictures import make_pictures


def run(folder: Path, db: Path, model: str) -> float:
    """Wall seconds of one ``twinlens ingest``, the start of the process included."""
    command = [sys.executable, "-m", "twinlens", "ingest", str(folder), "--db", str(db), "--model",
               model]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    print(f"{seconds:7.2f} s  {done.stdout.splitlines()[0]}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_pictures(Path(temporary) / "pictures", options.count)
        db = Path(temporary) / "rerun.db"
        first = run(folder, db, options.model)
        seconds = min(run(folder, db, options.model) for _ in range(3))
        print(f"{options.count} files: the second run takes 1/{first / seconds:.0f} of the first")


if __name__ == "__main__":
    main()

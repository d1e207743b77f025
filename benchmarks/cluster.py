"""Ingest on Ray with a worker for each core against the single-process pipeline, on the same cores.

Usage: python benchmarks/cluster.py [--count 1000] [--rounds 3] [--model starter] [--folder DIR]

Each side is the ``twinlens ingest`` command, with a Milvus Lite file of its own. The two take
turns, in rounds, each with a few pictures and with many. The time for the many is the whole, with
starting Python, Ray and the model; what the more pictures take longer is the steady state.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pictures import make_pictures


def run(folder: Path, db: Path, model: str, *more: str) -> float:
    """Wall seconds of one ``twinlens ingest``."""
    command = [sys.executable, "-m", "twinlens", "ingest", str(folder), "--db", str(db),
               "--model", model, "--quiet", *more]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def link(files: list[Path], folder: Path) -> Path:
    """A folder with some of the pictures."""
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number:06}{file.suffix}").symlink_to(file.absolute())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--folder", type=Path, help="pictures to use instead of made ones")
    options = parser.parse_args()
    wholes, steadies = [], []
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        source = options.folder or make_pictures(base / "pictures", options.count)
        files = sorted(source.rglob("*.jpg"))[: options.count]
        few = link(files[: len(files) // 4], base / "few")
        many = link(files, base / "many")
        more = len(files) - len(files) // 4
        for turn in range(options.rounds):
            seconds: dict[str, tuple[float, float]] = {}
            for name, option in (("one process", ()), ("ray", ("--cluster", "local"))):
                dbs = [base / f"{name[:3]}{turn}{size}.db" for size in ("few", "many")]
                seconds[name] = (
                    run(few, dbs[0], options.model, *option),
                    run(many, dbs[1], options.model, *option),
                )
            rates = {name: more / (long - short) for name, (short, long) in seconds.items()}
            wholes.append(seconds["one process"][1] / seconds["ray"][1])
            steadies.append(rates["ray"] / rates["one process"])
            for name, (short, long) in seconds.items():
                print(
                    f"round {turn + 1}: {name:11} {short:6.1f} s and {long:6.1f} s, "
                    f"steady {rates[name]:6.1f} img/s",
                    flush=True,
                )
            print(f"round {turn + 1}: ratio {steadies[-1]:.2f} steady, {wholes[-1]:.2f} whole")
    print(
        f"{options.model}, {len(files)} pictures, {os.cpu_count()} cores: Ray is "
        f"{statistics.median(steadies):.2f} times as fast as one process in the steady state, "
        f"{statistics.median(wholes):.2f} times with its start"
    )


if __name__ == "__main__":
    main()

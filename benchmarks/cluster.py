"""Compare ingest on Ray, one worker per core, with the single-process pipeline on the same cores.

Usage: python benchmarks/cluster.py [--count 1000] [--rounds 3] [--model starter] [--folder DIR]
       python benchmarks/cluster.py --busy [--count 1000] [--rounds 3] [--folder DIR]

Each side runs the ``twinlens ingest`` command with its own Milvus Lite file. The two alternate in
rounds, each with a few pictures and with many. The time for many includes starting Python, Ray and
the model; the difference between many and few is the steady state.

With ``--busy``, encoders stand for accelerators: each takes 8 ms a picture, in which it needs no
core. What is printed is the share of the time between its first batch and its last in which one was
busy, in the best round: with two cores that decode and encode, and with one accelerator for which
they decode.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pictures import make_pictures

import twinlens
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.preprocess import preparation

#: Pixels a side that the encoder of ``--busy`` takes, few, so that cores are not the limit.
SIDE = 64
#: Seconds that the encoder of ``--busy`` takes for a picture.
DEVICE_SECONDS = 8e-3


class SlowDevice:
    """Sleeps for each batch, and writes to a file of its process from when until when."""

    def __init__(self, folder: Path, batch: int) -> None:
        self.fingerprint = Fingerprint("slow", "none", 64, SIDE, "{}")
        self.image_batch = batch
        self._folder = folder
        self.prepare = preparation({"size": SIDE})

    def images(self, pixels: Pixels) -> Rows:
        began = time.monotonic()
        time.sleep(DEVICE_SECONDS * len(pixels))
        with (self._folder / str(os.getpid())).open("a") as file:
            file.write(f"{began} {time.monotonic()}\n")
        return self.texts([""] * len(pixels))

    def texts(self, texts: Sequence[str]) -> Rows:
        return np.eye(1, 64, dtype=np.float32).repeat(len(texts), axis=0)


def run(folder: Path, db: Path, model: str, *more: str) -> float:
    """Wall seconds of one ``twinlens ingest``."""
    command = [sys.executable, "-m", "twinlens", "ingest", str(folder), "--db", str(db),
               "--model", model, "--quiet", *more]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return time.perf_counter() - began


def link(files: list[Path], folder: Path) -> Path:
    """A folder with some of the pictures."""
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number:06}{file.suffix}").symlink_to(file.absolute())
    return folder


def busy(files: list[Path], base: Path, rounds: int) -> None:
    """Print how much of the time the encoders of workers are busy."""
    import ray

    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    photos = link(files, base / "photos")
    for name, device, batch in (("two cores", "cpu", 32), ("an accelerator", "auto", 128)):
        shares = []
        for turn in range(rounds):
            spans = base / f"{device}{turn}"
            spans.mkdir()
            model: Any = SlowDevice(spans, batch)
            with twinlens.open(base / f"{device}{turn}.db", model=model, device=device) as index:
                assert index.ingest(photos, cluster="auto").images == len(files)
            # The fullest file: a worker that was started late has few batches.
            fullest = max(spans.iterdir(), key=lambda file: file.stat().st_size)
            shares.append(share_of(fullest))
        print(f"{name}: {max(shares):.0%} busy, the best of {rounds}", flush=True)
    ray.shutdown()


def share_of(file: Path) -> float:
    """The share of the time in which the encoder was busy, from its second batch on."""
    spans = np.loadtxt(file, ndmin=2)[1:]
    return float((spans[:, 1] - spans[:, 0]).sum() / (spans[-1, 1] - spans[0, 0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--folder", type=Path, help="pictures to use instead of made ones")
    parser.add_argument("--busy", action="store_true", help="see above")
    options = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {"one process": [], "ray": []}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        size = (160, 120) if options.busy else (500, 375)
        source = options.folder or make_pictures(base / "pictures", options.count, size=size)
        files = sorted(source.rglob("*.jpg"))[: options.count]
        if options.busy:
            busy(files, base, options.rounds)
            return
        few = link(files[: len(files) // 4], base / "few")
        many = link(files, base / "many")
        more = len(files) - len(files) // 4
        for turn in range(options.rounds):
            for name, option in (("one process", ()), ("ray", ("--cluster", "local"))):
                dbs = [base / f"{name[:3]}{turn}{size}.db" for size in ("few", "many")]
                short = run(few, dbs[0], options.model, *option)
                long = run(many, dbs[1], options.model, *option)
                taken[name].append((short, long))
                print(f"round {turn + 1}: {name:11} {short:6.1f} s, {long:6.1f} s", flush=True)
    # The fastest of each, since whatever else runs only ever makes them slower.
    shorts = {name: min(short for short, _ in runs) for name, runs in taken.items()}
    longs = {name: min(long for _, long in runs) for name, runs in taken.items()}
    rates = {name: more / (longs[name] - shorts[name]) for name in taken}
    whole = statistics.median(
        one / ray for (_, one), (_, ray) in zip(taken["one process"], taken["ray"], strict=True)
    )
    print(
        f"{options.model}, {len(files)} pictures, {os.cpu_count()} cores: in the steady state one "
        f"process {rates['one process']:.1f} img/s, Ray {rates['ray']:.1f} img/s, ratio "
        f"{rates['ray'] / rates['one process']:.2f}; with its start, {whole:.2f}"
    )


if __name__ == "__main__":
    main()

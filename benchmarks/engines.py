"""Compare ONNX Runtime with OpenVINO for queries: one cold question, and a warm one.

Both read the towers that twinlens exported. Every engine runs in a process of its own; OpenVINO a
second time with its cache of compiled models filled. Prints what loading a tower and its first run
take (CPU seconds, wall seconds), the CPU and wall milliseconds of a warm run, and the peak memory.

Usage: python benchmarks/engines.py FOLDER...    # of exports: TWINLENS_CACHE/models/*
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from twinlens.search.models.onnx import IMAGE, MANIFEST, TEXT, TOKENIZER
from twinlens.search.models.sessions import RUNS_UNTIL_PACKED, Tower
from twinlens.search.models.tokenizer import ExportedTokenizer, TokenizerSpec

WARM_RUNS = 30
ENGINES = ("onnxruntime", "openvino", "openvino, cached")
Run = Callable[[np.ndarray], np.ndarray]


def open_openvino(model: Path, cache: str) -> Run:
    """Compile a tower for the CPU in float32."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"CACHE_DIR": cache} if cache else {}
    compiled = openvino.Core().compile_model(str(model), "CPU", settings)
    return lambda batch: np.asarray(compiled(batch)[0])


def example(folder: Path, tower: str) -> np.ndarray:
    """The input of one query."""
    if tower == TEXT:
        spec = TokenizerSpec(**json.loads((folder / TOKENIZER).read_text()))
        return ExportedTokenizer(spec)(["two dogs in the snow"])
    side = json.loads((folder / MANIFEST).read_text())["fingerprint"]["image_size"]
    return np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype(np.uint8)


def clock() -> np.ndarray:
    """CPU seconds and wall seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([usage.ru_utime + usage.ru_stime, time.perf_counter()])


def measure(engine: str, folder: Path, tower: str, cache: str) -> str:
    """Measure one engine in this process."""
    batch, began = example(folder, tower), clock()
    run: Run = (
        Tower(folder / tower)
        if engine == "onnxruntime"
        else open_openvino(folder / tower, cache if "cached" in engine else "")
    )
    run(batch)
    first = clock() - began
    for _ in range(RUNS_UNTIL_PACKED):
        run(batch)
    began = clock()
    for _ in range(WARM_RUNS):
        run(batch)
    warm = (clock() - began) / WARM_RUNS * 1e3
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"first {first[0]:5.2f} CPU s {first[1]:5.2f} s   "
        f"warm {warm[0]:6.1f} CPU ms {warm[1]:6.1f} ms   {memory:5.0f} MB"
    )


def main() -> None:
    """Measure every engine on both towers of every export."""
    if sys.argv[1:2] == ["--one"]:
        engine, folder, tower, cache = sys.argv[2:]
        print(measure(engine, Path(folder), tower, cache))
        return
    for folder in sys.argv[1:]:
        label = json.loads((Path(folder) / MANIFEST).read_text())["fingerprint"]["architecture"]
        for tower in (TEXT, IMAGE):
            with tempfile.TemporaryDirectory() as cache:
                for engine in ENGINES:
                    command = [sys.executable, __file__, "--one", engine, folder, tower, cache]
                    for _ in range(2):  # the first one fills the caches
                        done = subprocess.run(command, capture_output=True, text=True, check=True)
                    print(f"{label:14} {tower:11} {engine:17} {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()

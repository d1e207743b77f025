"""Measure ingest on a GPU, and what bounds it: copies, decoding, the encoder, texts.

Usage: python benchmarks/gpu.py [--device cuda] [--models b32,siglip2-b16,l14] [--quick]
       [--only texts] [--minutes 9] [--pictures 40000] [--captions] [--markdown FILE]
       [--json FILE]

Needs no network: models have random weights, which are as quick as trained ones, and pictures are
copies of crops of the sample photographs (500x375) that differ in their last bytes. Prints a report
in Markdown; a part that fails, or that there is no time for, says so and the others follow.

For each model: images a second of the device alone with pixels already there, of the encoder from
this process's memory (with copies, beside each other), of a loop that waits for each batch, and of
``Index.ingest`` from files on disk into Milvus Lite. The last line of each is the ratio of the
ingest to the lower of two ceilings: the encoder, and all cores decoding in processes.

``--device cpu`` runs the same parts without a GPU, to try the benchmark; ``--quick`` makes all of
them short, too short for figures to quote.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ceiling import make_copies
from gpu_busy import describe
from gpu_measures import (
    Found,
    measure_copies,
    measure_decoding,
    measure_encoder,
    measure_ingest,
    measure_nvjpeg,
    measure_plain_loop,
    measure_texts,
    median_size,
)
from gpu_models import MODELS, Model, random_encoder

#: The parts; an ingest needs those before it for its ratio.
PARTS = "copies,decoding,nvjpeg,encoder,loop,texts,ingest"
#: Seconds of one measurement, and of one ingest.
LONG, SHORT = (3.0, 15.0), (0.2, 1.0)
#: Seconds that compiling a model takes at most, for the decision whether there is time for it.
COMPILING = 90.0


class Report:
    """Runs the parts within the time, and keeps what they found."""

    def __init__(self, minutes: float) -> None:
        self.began = time.monotonic()
        self.until = self.began + 60 * minutes
        self.parts: dict[str, dict[str, Any]] = {}

    def left(self) -> float:
        """Seconds until the time is over."""
        return self.until - time.monotonic()

    def run(self, title: str, work: Callable[[], Found], needs: float = 5.0) -> Found:
        """Run a part; an error, or too little time, is what it found."""
        print(f"{time.monotonic() - self.began:6.1f} s  {title}", file=sys.stderr, flush=True)
        if self.left() < needs:
            self.parts[title] = {"skipped": f"needs {needs:.0f} s, {self.left():.0f} s are left"}
            return {}
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - the others are to follow
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            self.parts[title] = {"failed": reason}
            return {}
        self.parts[title] = dict(found)
        return found

    def markdown(self, machine: dict[str, Any]) -> str:
        """The report, with a table for each part."""
        lines = [f"# twinlens on {machine.get('card', machine['processor'])}", ""]
        lines += [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
        for title, found in self.parts.items():
            lines += [f"## {title}", "", "| | |", "|---|---|"]
            lines += [f"| {name} | {said(value)} |" for name, value in found.items()] + [""]
        return "\n".join(lines)


def said(value: Any) -> str:
    """A value for people."""
    if isinstance(value, str):
        return value.replace("|", "/")
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}"


def measure_model(
    report: Report, model: Model, options: argparse.Namespace, base: Path, decoding: float
) -> None:
    """All parts of one model."""
    seconds, long = SHORT if options.quick else LONG
    gpu = options.device.startswith("cuda")
    precision = options.precision
    name = f"{model.architecture}, random weights, precision {precision}"
    rates = []
    encoder = None
    for compiled in (False, True) if gpu or options.compile else (False,):
        title = f"{name}, {'compiled' if compiled else 'not compiled'}"
        made = []

        def encode(compiled: bool = compiled, made: list[Any] = made) -> Found:
            made.append(random_encoder(model, options.device, precision))
            return measure_encoder(made[0], seconds, compiled=compiled)

        if "encoder" not in options.only:
            made.append(random_encoder(model, options.device, precision))
        elif found := report.run(title, encode, needs=10 * seconds + COMPILING * compiled):
            rates.append(found["encoder, images/s"])
        if not compiled and made:
            encoder = made[0]
        del made
        gc.collect()
    if encoder is None:
        return
    chosen = encoder
    if "loop" in options.only:
        report.run(f"{name}, a plain loop", lambda: measure_plain_loop(chosen, seconds))
    if "texts" in options.only:
        count = 128 if options.quick else 20_000 if gpu else 1_000
        report.run(f"{name}, texts", lambda: measure_texts(chosen, count, seconds), 3 * seconds)
    if "ingest" not in options.only or not rates or not decoding:
        return
    ceiling = min(rates[0], decoding)
    folders = sorted(path for path in (base / "pictures").iterdir() if path.is_dir())
    wanted = max(1, round(long * ceiling / 1000))
    # The profiler keeps every kernel, so it gets few pictures, and others.
    chosen_folders, others = folders[:wanted], folders[wanted : wanted + max(1, wanted // 5)]

    def ingest() -> Found:
        found = measure_ingest(chosen, chosen_folders, others, base / f"{model.name}.db")
        rate = found["ingest, pictures/s"]
        found["ceiling of the encoder, images/s"] = rates[0]
        found["ceiling of the cores, pictures/s"] = decoding
        found["ratio to the lower one"] = rate / ceiling
        return found

    report.run(f"{name}, ingest", ingest, needs=2 * long)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="", help="default: cuda if there is one, else cpu")
    parser.add_argument("--models", default="", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--precision", default="auto", help="auto, bf16, fp16 or fp32")
    parser.add_argument("--only", default=PARTS, help=f"parts to run; default: {PARTS}")
    parser.add_argument("--compile", action="store_true", help="on a CPU, too")
    parser.add_argument("--quick", action="store_true", help="too short for figures to quote")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop")
    parser.add_argument("--pictures", type=int, default=0, help="default: 40,000; quick: 1,000")
    parser.add_argument("--captions", action="store_true", help="a text sidecar for each picture")
    parser.add_argument("--markdown", type=Path, help="a file for the report")
    parser.add_argument("--json", type=Path, help="a file for the report")
    options = parser.parse_args()
    import torch

    options.device = options.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    gpu = options.device.startswith("cuda")
    names = options.models or ("b32,siglip2-b16,l14" if gpu and not options.quick else "b32")
    unknown = [name for name in names.split(",") if name not in MODELS]
    if unknown:
        parser.error(f"there is no model {unknown[0]!r}: use some of {', '.join(MODELS)}")
    models = [MODELS[name] for name in names.split(",")]
    options.only = options.only.split(",")
    if wrong := [part for part in options.only if part not in PARTS.split(",")]:
        parser.error(f"there is no part {wrong[0]!r}: use some of {PARTS}")
    seconds, _ = SHORT if options.quick else LONG
    report = Report(options.minutes)
    machine = describe(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        count = options.pictures or (1_000 if options.quick else 40_000 if gpu else 4_000)
        print(f"making {count} pictures", file=sys.stderr, flush=True)
        make_copies(base, "small", count, options.captions)
        files = sorted(str(path) for path in (base / "pictures").rglob("*.jpg"))
        machine["pictures"] = f"{count} of {median_size(files)}"
        if gpu and "copies" in options.only:
            report.run("Copies", lambda: measure_copies(options.device, seconds / 3))
        decoding: Found = {}
        if "decoding" in options.only:
            decoding = report.run("Decoding", lambda: measure_decoding(files, 224, seconds))
        if gpu and "nvjpeg" in options.only:
            report.run(
                "Decoding by nvJPEG", lambda: measure_nvjpeg(files, 224, options.device, seconds)
            )
        for model in models:
            measure_model(report, model, options, base, next(iter(decoding.values()), 0.0))
    text = report.markdown(machine)
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        found = {"machine": machine, "parts": report.parts}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measure how much of the time a GPU is busy: by ``nvidia-smi``, and by torch's profiler."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

#: Milliseconds between two samples of nvidia-smi.
EVERY = 200
QUERY = "utilization.gpu,memory.used,power.draw,clocks.sm"


@dataclass
class Sampled:
    """Means of what nvidia-smi said: per cent, MiB, watts, MHz; empty without nvidia-smi."""

    means: dict[str, float] = field(default_factory=dict)


@contextmanager
def sampled(device: str) -> Iterator[Sampled]:
    """Ask nvidia-smi about a device while the body runs."""
    result = Sampled()
    process = None
    if device.startswith("cuda"):
        command = ["nvidia-smi", f"--id={_name(device)}", f"--loop-ms={EVERY}"]
        command.append(f"--query-gpu={QUERY}")
        try:
            process = subprocess.Popen(
                [*command, "--format=csv,noheader,nounits"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError:
            process = None
    try:
        yield result
    finally:
        if process is not None:
            process.terminate()
            result.means = means_of(process.communicate()[0])


def _name(device: str) -> str:
    """nvidia-smi's name of a device; its numbers may be others than torch's."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def means_of(output: str) -> dict[str, float]:
    """The means of the columns that nvidia-smi printed; what is no number is left out."""
    columns: dict[str, list[float]] = {name: [] for name in QUERY.split(",")}
    for line in output.splitlines():
        for name, cell in zip(columns, line.split(","), strict=False):
            try:
                columns[name].append(float(cell))
            except ValueError:
                continue
    return {name: statistics.fmean(cells) for name, cells in columns.items() if cells}


@dataclass
class Profiled:
    """Shares of the time in which kernels ran, copies ran, and copies ran beside kernels."""

    kernels: float | None = None
    copies: float | None = None
    overlapped: float | None = None


@contextmanager
def profiled(device: str) -> Iterator[Profiled]:
    """Record the work of a GPU with torch's profiler while the body runs."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    result = Profiled()
    if not device.startswith("cuda"):
        yield result
        return
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        began = time.perf_counter()
        yield result
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    kernels, copies = [], []
    for event in recorded.events():
        if "CUDA" in str(event.device_type):
            span = (event.time_range.start / 1e6, event.time_range.end / 1e6)
            (copies if event.name.startswith(("Memcpy", "Memset")) else kernels).append(span)
    result.kernels = length_of(kernels) / seconds
    result.copies = length_of(copies) / seconds
    both = length_of(kernels) + length_of(copies) - length_of([*kernels, *copies])
    result.overlapped = both / length_of(copies) if copies else None


def length_of(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def describe(device: str) -> dict[str, Any]:
    """The card, its driver, the versions and the cores."""
    import os
    import platform
    from datetime import UTC, datetime

    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": device,
        "cores": cores,
        "processor": _processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": _version("open_clip_torch"),
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "card": properties.name,
            "memory GiB": round(properties.total_memory / 2**30, 1),
            "CUDA": torch.version.cuda,
            "driver": _driver(),
        }
    return found


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:  # copied to a machine without being installed
        return "unknown"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return "unknown"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"

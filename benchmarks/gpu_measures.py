"""What ``gpu.py`` measures: copies, decoding, encoders, texts, and a whole ingest."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from gpu_busy import profiled, sampled
from gpu_models import random_texts

import twinlens
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.models.encoding_queue import EncodingQueue
from twinlens.search.models.openclip import OpenClipEncoder
from twinlens.search.models.preprocess import preparation

Found = dict[str, Any]
#: Batches that are submitted ahead in a measurement of an encoder.
AHEAD = 6
#: Batches until a batch has its size.
WARM_UP = 24


def synchronize(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def repeat(work: Callable[[], object], seconds: float, device: str) -> float:
    """Times a second that some work is done, after one call to warm up."""
    work()
    synchronize(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or not count:
        work()
        count += 1
    synchronize(device)
    return count / (time.perf_counter() - began)


def measure_copies(device: str, seconds: float) -> Found:
    """GB/s of 256 images of 224 pixels to the device, and of rows back, by kind of memory."""
    import torch

    found = {}
    for name, pin in (("pageable", False), ("pinned", True)):
        host = torch.zeros((256, 224, 224, 3), dtype=torch.uint8, pin_memory=pin)
        there = torch.empty_like(host, device=device)
        times = repeat(lambda h=host, t=there: t.copy_(h, non_blocking=True), seconds, device)
        found[f"{name} memory to device, GB/s"] = times * host.numel() / 1e9
        times = repeat(lambda h=host, t=there: h.copy_(t, non_blocking=True), seconds, device)
        found[f"device to {name} memory, GB/s"] = times * host.numel() / 1e9
    return found


# ---- Decoding


def decode_file(path: str, side: int) -> int:
    """Read, decode and prepare one file; for a pool of processes."""
    from twinlens.search.images.decode import decode

    data = Path(path).read_bytes()
    pixels = preparation({"size": side})(decode(data, target=side).image)
    return int(pixels[0, 0, 0])


def measure_decoding(files: Sequence[str], side: int, seconds: float) -> Found:
    """Pictures a second that all cores decode, each in a process of its own."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(decode_file, files[: 2 * cores], [side] * 2 * cores))
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds or not count:
            some = files[: 64 * cores]
            list(pool.map(decode_file, some, [side] * len(some), chunksize=8))
            count += len(some)
        rate = count / (time.perf_counter() - began)
    return {f"pictures/s on {cores} cores, to {side} pixels": rate}


def measure_nvjpeg(files: Sequence[str], side: int, device: str, seconds: float) -> Found:
    """Pictures a second that nvJPEG decodes, 128 at a time, without and with resizing."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import functional

    data = [torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
            for path in files[:128]]  # fmt: skip

    def decode() -> list[Any]:
        return list(decode_jpeg(data, mode=ImageReadMode.RGB, device=device))

    def decode_and_resize() -> list[Any]:
        resized = [functional.resize(one, [side], antialias=True) for one in decode()]
        return [functional.center_crop(one, [side, side]) for one in resized]

    return {
        "nvJPEG, pictures/s": len(data) * repeat(decode, seconds, device),
        "nvJPEG and resizing, pictures/s": len(data) * repeat(decode_and_resize, seconds, device),
    }


# ---- Encoders


def random_pixels(count: int, side: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def submit_for(
    submit: Callable[[], Future[Rows]], seconds: float, at_least: int = 2 * AHEAD
) -> tuple[int, float]:
    """Keep batches in flight for a while; the items, and the seconds until the last is done."""
    began, count = time.perf_counter(), 0
    flying: deque[Future[Rows]] = deque()
    submitted = 0
    while time.perf_counter() - began < seconds or submitted < at_least:
        flying.append(submit())
        submitted += 1
        if len(flying) > AHEAD:
            count += len(flying.popleft().result())
    count += sum(len(one.result()) for one in flying)
    return count, time.perf_counter() - began


def measure_encoder(encoder: OpenClipEncoder, seconds: float, *, compiled: bool) -> Found:
    """Images a second: of the device alone, and through the queue from this process's memory."""
    import torch

    side, device = encoder.fingerprint.image_size, encoder.device
    began = time.perf_counter()
    with EncodingQueue(encoder) as queue:
        pixels = random_pixels(encoder.image_batch, side)
        for _ in range(WARM_UP):
            if len(pixels) != queue.image_batch:
                pixels = random_pixels(queue.image_batch, side)
            queue.submit_images(pixels).result()
            if not device.startswith("cuda"):
                break  # batches do not grow there
        pixels = random_pixels(queue.image_batch, side)
        if compiled:
            with torch.inference_mode():
                encoder.image_tower.compile(torch.from_numpy(pixels).to(device))
            queue.submit_images(pixels).result()
        warm = time.perf_counter() - began
        before = encoder.device_seconds
        count, taken = submit_for(lambda: queue.submit_images(pixels), seconds, at_least=3)
        busy = encoder.device_seconds - before
    batch = len(pixels)
    images = torch.from_numpy(pixels).to(device)

    def alone() -> None:
        with torch.inference_mode():
            encoder.image_tower(images)

    return {
        "images at once": float(batch),
        "compiled": float(encoder.image_tower.is_compiled),
        "warm-up, s": warm,
        "encoder, images/s": count / taken,
        "device alone, images/s": batch * repeat(alone, seconds, device),
        "device busy, share": busy / taken,
    }


def measure_plain_loop(encoder: OpenClipEncoder, seconds: float) -> Found:
    """Images a second of a loop that pins, copies, encodes and fetches one batch after another."""
    import torch

    side, device = encoder.fingerprint.image_size, encoder.device
    gpu = device.startswith("cuda")
    pixels = random_pixels(256 if gpu else encoder.image_batch, side)

    def encode() -> None:
        batch = torch.from_numpy(np.stack(list(pixels)))
        batch = batch.pin_memory() if gpu else batch
        with torch.inference_mode():
            encoder.image_tower(batch.to(device)).cpu()

    return {"plain loop, images/s": len(pixels) * repeat(encode, seconds, device)}


def measure_texts(encoder: OpenClipEncoder, count: int, seconds: float) -> Found:
    """Texts a second: through the queue, and in batches of 64 with all of their padding."""
    import torch

    texts = random_texts(count)
    with EncodingQueue(encoder) as queue:
        queue.submit_texts(texts[:64]).result()
        before = time.process_time()
        done, taken = submit_for(lambda: queue.submit_texts(texts), seconds, at_least=1)
        cpu = (time.process_time() - before) / done
    rate = done / taken
    padded_cpu = 0.0
    few = min(256, count // 4)
    chosen = sorted(texts, key=len)[:: count // few][:few]

    def padded() -> None:
        nonlocal padded_cpu
        before = time.process_time()
        with torch.inference_mode():
            for start in range(0, len(chosen), 64):
                tokens = encoder.tokenizer(chosen[start : start + 64])
                encoder.model.encode_text(tokens.to(encoder.device)).float().cpu()
        padded_cpu = (time.process_time() - before) / len(chosen)

    # In a thread like the queue's: on a CPU that others use, too, OpenMP wastes less time there.
    with ThreadPoolExecutor(1) as pool:
        plain = len(chosen) * pool.submit(repeat, padded, seconds, encoder.device).result()
    return {
        "texts/s": rate,
        "padded, 64 at once, texts/s": plain,
        "ratio": rate / plain,
        "CPU ms a text": 1e3 * cpu,
        "padded, 64 at once, CPU ms a text": 1e3 * padded_cpu,
        "ratio of CPU time": padded_cpu / cpu,
    }


# ---- The whole ingest


def measure_ingest(
    encoder: OpenClipEncoder, folders: Sequence[Path], profile: Sequence[Path], db: Path
) -> Found:
    """Pictures a second of ``Index.ingest`` from files on disk, and how busy the device is."""
    device = encoder.device
    with twinlens.open(db, model=encoder) as index:
        before = encoder.device_seconds
        with sampled(device) as samples:
            began = time.perf_counter()
            report = index.ingest(*folders)
            seconds = time.perf_counter() - began
        if report.failed:
            raise RuntimeError(f"{report.failed[0].uri}: {report.failed[0].reason}")
        found = {
            "pictures": float(report.images),
            "seconds": seconds,
            "ingest, pictures/s": report.images / seconds,
            "device busy (its own events), share": (encoder.device_seconds - before) / seconds,
        }
        found |= {f"nvidia-smi {name}": mean for name, mean in samples.means.items()}
        if profile and device.startswith("cuda"):
            with profiled(device) as shares:
                index.ingest(*profile)
            for name in ("kernels", "copies", "overlapped"):
                if (value := getattr(shares, name)) is not None:
                    found[f"profiler: {name}, share"] = value
    return found


def median_size(files: Sequence[str]) -> str:
    """Width, height and kilobytes of the pictures, for the report."""
    from PIL import Image

    data = Path(files[0]).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        size = f"{image.width}x{image.height}"
    return (
        f"{size}, {statistics.median(Path(one).stat().st_size for one in files[:200]) / 1e3:.0f} kB"
    )

"""Measure the memory that decoding takes, for each format of pictures, at any size.

Usage: python benchmarks/decode_memory.py [--pixels 200000000] [--target 224] [--only PNG]

Prints the peak of resident memory above what the process had with the file read, in MB, and how
many times that is the size of the picture as 8-bit RGB. Linux only: each peak is measured in a
process of its own, which resets its high-water mark.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from decode_files import FILES

CHILD = """
import re, sys, time
from pathlib import Path
import numpy, PIL.Image, PIL.ImageCms
from twinlens.search.errors import ImageError
from twinlens.search.images import decode as module

def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

path, small, target, max_pixels = sys.argv[1:]
target = int(target) or None
max_pixels = int(max_pixels) or module.MAX_PIXELS
module.decode(Path(small).read_bytes(), target=target)
data = Path(path).read_bytes()
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
began = time.process_time()
try:
    image = module.decode(data, target=target, max_pixels=max_pixels).image
    what = "%dx%d" % image.size
except ImageError as error:
    what = str(error)
print(1024 * (kilobytes("VmHWM") - before), time.process_time() - began, what)
"""


def measure(
    path: Path, small: Path, target: int | None = None, max_pixels: int = 0
) -> tuple[int, float, str]:
    """Decode a file in a process of its own.

    Args:
        path: the file.
        small: a small file of the same format, decoded first, which imports the decoder.
        target: see ``decode``.
        max_pixels: see ``decode``; 0: its default.

    Returns:
        Bytes at the peak, above those before; CPU seconds; the size of the result, or the error.
    """
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(small), str(target or 0), str(max_pixels)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    peak, seconds, what = done.stdout.strip().split(" ", 2)
    return int(peak), float(seconds), what


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=200_000_000)
    parser.add_argument("--target", type=int, default=224, help="a model's side; 0: whole pictures")
    parser.add_argument("--only", default="", help="formats whose name begins with this")
    parser.add_argument("--keep", type=Path, help="keep the files in this folder")
    options = parser.parse_args()
    side = math.isqrt(options.pixels)
    rgb = 3 * side * side
    print(f"{side}x{side} pixels, {rgb / 1e6:.0f} MB as 8-bit RGB, target {options.target or None}")
    print(f"{'':30}{'MB':>8}{'of RGB':>8}{'CPU s':>8}  result")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for name, write in FILES.items():
            if not name.startswith(options.only):
                continue
            path, small = (
                folder / f"{name.replace(' ', '_').replace(',', '')}-{pixels}"
                for pixels in (side, 64)
            )
            try:
                for file, pixels in ((path, side), (small, 64)):
                    if not file.exists():
                        file.write_bytes(write(pixels))
            except (OSError, ValueError, RuntimeError) as error:
                print(f"{name:54}  cannot be written: {error}")
                continue
            try:
                peak, seconds, what = measure(path, small, options.target)
                figures = f"{peak / 1e6:8.0f}{peak / rgb:8.2f}{seconds:8.1f}"
            except subprocess.CalledProcessError as error:
                figures, what = " " * 24, f"killed: {error.returncode} {error.stderr[-200:]}"
            print(f"{name:30}{figures}  {what}", flush=True)
            if not options.keep:
                path.unlink()


if __name__ == "__main__":
    main()

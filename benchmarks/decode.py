"""Compare the decoder with Pillow's full decode: speed, and the effect on embeddings.

Usage: python benchmarks/decode.py FOLDER [--model starter] [--as 4032x3024] [--others]

FOLDER holds large JPEGs, such as a camera's; ``--as`` first rewrites each in that size at quality
85. Both sides end with a picture resized to the model's side by the same bicubic filter. One
thread, best of five for each file.

``--others`` compares ways that are not used: Pillow at a scale of no less than the model's side
instead of twice that, and simplejpeg, if it is installed, at either scale.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from twinlens.search.images.decode import decode
from twinlens.search.models.base import Encoder
from twinlens.search.models.load import open_encoder


def best(function: Callable[[], object]) -> float:
    """Milliseconds of CPU time of the quickest of five calls."""
    times = []
    for _ in range(5):
        began = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - began))
    return min(times)


def usual(data: bytes) -> Image.Image:
    """What everybody writes, with the orientation that most forget."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)).convert("RGB"))


def others(side: int) -> dict[str, Callable[[bytes], Image.Image]]:
    """Ways to decode that are not used."""

    def drafted(data: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(data))
        image.draft(None, (side, side))
        return image.convert("RGB")

    found: dict[str, Callable[[bytes], Image.Image]] = {"Pillow, 1x": drafted}
    with suppress(ImportError):
        import simplejpeg

        def by_simplejpeg(data: bytes, least: int) -> Image.Image:
            pixels = simplejpeg.decode_jpeg(
                data, "RGB", True, True, min_height=least, min_width=least, min_factor=1
            )
            return Image.fromarray(pixels)

        found["simplejpeg, 2x"] = lambda data: by_simplejpeg(data, 2 * side)
        found["simplejpeg, 1x"] = lambda data: by_simplejpeg(data, side)
    return found


def compare_others(files: list[bytes], encoder: Encoder) -> None:
    """Print the time and the cosine of other ways, in relation to ours and to the full decode."""
    side = encoder.fingerprint.image_size
    ways = {"ours": lambda data: decode(data, target=side).image, **others(side)}
    full = encoder.images(np.stack([encoder.prepare(usual(data)) for data in files]))
    ours = 0.0
    for name, way in ways.items():
        ms = [best(lambda data=data, way=way: encoder.prepare(way(data))) for data in files]
        rows = encoder.images(np.stack([encoder.prepare(way(data)) for data in files]))
        cosines = (rows * full).sum(axis=1)
        ours = ours or float(np.mean(ms))
        print(
            f"{name:16} {np.mean(ms):6.2f} ms, {ours / np.mean(ms):.2f} times as fast as ours; "
            f"cosine mean {cosines.mean():.4f}, lowest {cosines.min():.4f}"
        )


def written_anew(data: bytes, size: str) -> bytes:
    """The picture, upright, as a JPEG of WIDTHxHEIGHT."""
    width, height = map(int, size.split("x"))
    buffer = io.BytesIO()
    usual(data).resize((width, height)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--as", dest="size", default="", help="WIDTHxHEIGHT")
    parser.add_argument("--others", action="store_true", help="compare ways that are not used")
    parser.add_argument("--smallest", type=float, default=10.0, help="megapixels, for the ratio")
    options = parser.parse_args()
    encoder = open_encoder(options.model, device="cpu")
    side = encoder.fingerprint.image_size
    ratios, cosines = [], []
    if options.others:
        files = [path.read_bytes() for path in sorted(options.folder.rglob("*.jp*g"))]
        files = [written_anew(data, options.size) if options.size else data for data in files]
        compare_others(files, encoder)
        return
    for path in sorted(options.folder.rglob("*.jp*g")):
        data = path.read_bytes()
        if options.size:
            data = written_anew(data, options.size)
        with Image.open(io.BytesIO(data)) as header:
            megapixels = header.width * header.height / 1e6
        slow = best(lambda data=data: encoder.prepare(usual(data)))
        fast = best(lambda data=data: encoder.prepare(decode(data, target=side).image))
        rows = encoder.images(
            np.stack(
                [
                    encoder.prepare(usual(data)),
                    encoder.prepare(decode(data, target=side).image),
                ]
            )
        )
        cosine = float(rows[0] @ rows[1])
        cosines.append(cosine)
        if megapixels >= options.smallest:
            ratios.append(slow / fast)
        print(
            f"{path.name:32} {megapixels:5.1f} MP  full {slow:6.1f} ms  ours {fast:6.1f} ms  "
            f"ratio {slow / fast:4.1f}  cosine {cosine:.4f}"
        )
    if ratios:
        print(f"from {options.smallest:.0f} MP on: {np.median(ratios):.1f} times as fast (median)")
    print(f"cosine to the full decode: mean {np.mean(cosines):.4f}, lowest {np.min(cosines):.4f}")


if __name__ == "__main__":
    main()

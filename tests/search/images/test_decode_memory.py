"""Decoding takes at most three times the picture as 8-bit RGB, in every format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from support import ROOT

from twinlens.search.errors import ImageError
from twinlens.search.images import colour
from twinlens.search.images.colour import to_rgb
from twinlens.search.images.decode import decode

SIDE = 1_500
CHILD = """
import importlib.util, json, re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from decode_files import FILES
from twinlens.search.errors import ImageError
from twinlens.search.images import colour, cost
from twinlens.search.images.decode import decode

def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def peak(data, target, max_pixels):
    found = []
    for _ in range(3):  # threads of decoders come and go
        Path("/proc/self/clear_refs").write_text("5")
        before = kilobytes("VmRSS")
        decode(data, target=target, max_pixels=max_pixels)
        found.append(1024 * (kilobytes("VmHWM") - before))
        if found[-1] <= 9 * max_pixels:
            break
    return min(found)

# As if the picture were as large as the limit of pixels allows.
side = int(sys.argv[2])
colour.WHOLE = cost.WHOLE = side * side // 12
colour.BAND = cost.BAND = side * side // 48
cost.MAX_SLOW_PIXELS = side * side // 8
modules = {"HEIF": "pillow_heif", "JXL": "pillow_jxl", "RAW": "rawpy"}
peaks, refused = {}, []
for name, write in FILES.items():
    module = modules.get(name.split()[0])
    if module and not importlib.util.find_spec(module):
        continue
    for part in (8, 5, 2):  # eighths of the side
        data = write(side * part // 8)
        try:
            decode(write(64))
            peaks[name] = [peak(data, target, side * side) for target in (side // 64, None)]
            break
        except ImageError as error:
            refused.append([name, part, str(error)])
print(json.dumps([peaks, refused]))
"""


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, list[int]], list[tuple[str, int, str]]]:
    """Peaks by format, with a target and without, and which pictures were refused."""
    pytest.importorskip("tifffile")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of memory cannot be measured here")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT / "benchmarks"), str(SIDE)],
        check=False,
        capture_output=True,
        text=True,
        # Large blocks go back to the system at once, so that each peak is its own.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr
    peaks, refused = json.loads(done.stdout)
    return peaks, refused


def test_every_format_is_decoded_within_the_limit(measured) -> None:
    peaks, _ = measured
    assert len(peaks) >= 45
    most = 3 * 3 * SIDE * SIDE + (4 << 20)  # decoders have buffers of a fixed size
    over = {name: [f"{peak >> 20} MB" for peak in both] for name, both in peaks.items()
            if max(both) > most}  # fmt: skip
    assert not over, f"more than {most >> 20} MB"


def test_formats_that_take_more_have_a_lower_limit_of_pixels(measured) -> None:
    _, refused = measured
    whole = {name for name, part, _ in refused if part == 8}
    assert whole >= {"WEBP", "WEBP lossless", "AVIF", "TIFF RGBA 16 bit, one strip"}
    kinds = {name.split()[0] for name in whole}
    assert kinds <= {"WEBP", "AVIF", "TIFF", "BMP", "JXL", "HEIF", "JPEG", "JPEG2000", "RAW"}
    for name, _, message in refused:
        assert "over the limit of" in message, f"{name}: {message}"
        assert "\n" not in message


THREADS = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from decode_files import FILES
from twinlens.search.images import budget
from twinlens.search.images.decode import decode

def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

data = FILES["PNG RGB"](4_400)  # 77 MB decoded
budget._budget = budget.DecodingBudget(140 << 20)
budget.RETURNED = 60 << 20
before = kilobytes("VmRSS")
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: decode(data, target=224), range(8)))
print(kilobytes("VmHWM") - before)
"""


def test_threads_share_one_budget() -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of memory cannot be measured here")
    done = subprocess.run(
        [sys.executable, "-c", THREADS, str(ROOT / "benchmarks")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 250 << 10, "one at a time; four take 310 MB"


@pytest.mark.parametrize("shorter", [None, 7, 20])
@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "P", "I;16", "F", "I", "LAB"]
)
def test_bands_change_no_pixel(
    mode: str, shorter: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (103, 187, 4), np.uint8)
    rgba = Image.fromarray(noise)
    if mode in ("I;16", "I", "F"):
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        wide = noise[:, :, 0].astype(np.int64) * 997 - (0 if mode == "I;16" else 9_000)
        image = Image.fromarray((wide % 65_536 if mode == "I;16" else wide).astype(kinds[mode]))
    elif mode == "LAB":
        image = Image.frombytes("LAB", rgba.size, rgba.convert("RGB").tobytes())
    else:
        image = rgba.convert("RGB").convert(mode) if mode in ("CMYK", "P") else rgba.convert(mode)
    at_once = np.asarray(to_rgb(image, shorter), dtype=int)
    monkeypatch.setattr(colour, "WHOLE", 100)
    for band in (1, 187 * 17, 187 * 50):
        monkeypatch.setattr(colour, "BAND", band)
        in_bands = np.asarray(to_rgb(image, shorter), dtype=int)
        assert in_bands.shape == at_once.shape
        assert np.array_equal(in_bands, at_once)


def test_bands_keep_transparency_and_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from decode_files import swapped_profile

    noise = np.random.default_rng(2).integers(0, 8, (60, 50), np.uint8)
    palette = Image.fromarray(noise).convert("P")
    palette.info["transparency"] = 3
    rgb = Image.merge("RGB", [Image.fromarray(noise * 30)] * 2 + [Image.new("L", (50, 60))])
    rgb.info["icc_profile"] = swapped_profile()
    for image in (palette, rgb):
        at_once = np.asarray(to_rgb(image, 20))
        with monkeypatch.context() as patch:
            patch.setattr(colour, "WHOLE", 100)
            patch.setattr(colour, "BAND", 300)
            assert np.array_equal(np.asarray(to_rgb(image, 20)), at_once)
    assert np.asarray(to_rgb(rgb, None))[:, :, 0].max() < 60  # the profile was applied


def test_a_finished_image_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "WHOLE", 100)
    image = Image.new("RGB", (30, 30))
    assert to_rgb(image, None) is image
    image.info["transparency"] = (0, 0, 0)
    assert to_rgb(image, None).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("top", [1, 100, 254, 256, 1_000, 65_534, 65_535])
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_of_a_ppm_are_those_of_pillow(top: int, channels: int) -> None:
    kind = ">u2" if top > 255 else "u1"
    values = np.random.default_rng(3).integers(0, top + 1, (9, 7, channels)).astype(kind)
    data = b"P%d 7 9 %d\n" % (5 if channels == 1 else 6, top) + values.tobytes()
    with Image.open(BytesIO(data)) as opened:
        expected = np.asarray(opened, dtype=float)
    if opened.mode == "I":
        expected = np.round(expected * (255 / 65_535))
    actual = np.asarray(decode(data).image, dtype=float)
    assert np.abs(actual - (expected if channels == 3 else expected[:, :, None])).max() <= 1
    if top <= 255:
        assert np.array_equal(actual, np.broadcast_to(
            expected if channels == 3 else expected[:, :, None], actual.shape))  # fmt: skip
    with pytest.raises(ImageError, match="truncated PPM"):
        decode(data[:-3])

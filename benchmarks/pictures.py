"""Make test pictures: crops of the sample photographs, each different, as JPEG files."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageEnhance

SAMPLES = Path(__file__).parents[1] / "samples" / "photos"


def make_pictures(
    folder: Path, count: int, size: tuple[int, int] = (500, 375), quality: int = 85, seed: int = 0
) -> Path:
    """``count`` JPEGs of ``size`` pixels below ``folder``, 1,000 to a subfolder; made only once."""
    dice = random.Random(seed)
    sources = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.rglob("*.jpg"))]
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        source = dice.choice(sources)
        scale = dice.uniform(0.6, 1.0)
        box_w, box_h = int(source.width * scale), int(source.height * scale)
        left, top = dice.randint(0, source.width - box_w), dice.randint(0, source.height - box_h)
        light = dice.uniform(0.7, 1.3)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        crop = source.resize(size, box=(left, top, left + box_w, top + box_h))
        ImageEnhance.Brightness(crop).enhance(light).save(path, quality=quality)
    return folder

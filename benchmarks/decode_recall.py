"""Measure what decoding at reduced size costs in recall.

Usage: python benchmarks/decode_recall.py FLICKR8K_DIR [--photos 300] [--side 1792]

The photos of the dev split are first enlarged to large JPEGs, because they are too small to be
decoded at reduced size. Both decodes read the same files; everything else is the same.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
from decode import usual
from PIL import Image

from twinlens.search.images.decode import decode
from twinlens.search.models.load import open_encoder


def recalls(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> list[float]:
    """Text→image recall@1, 5, 10 in per cent; ``owner`` is each text's picture."""
    scores = texts @ images.T
    places = (scores > scores[np.arange(len(texts)), owner][:, None]).sum(axis=1)
    return [100 * float((places < k).mean()) for k in (1, 5, 10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--side", type=int, default=1792)
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    encoder = open_encoder(options.model, device="cpu")
    rows = map(json.loads, (options.folder / "captions.jsonl").read_text().splitlines())
    chosen = [row for row in rows if row["split"] == "dev"][: options.photos]
    full, scaled = [], []
    for row in chosen:
        buffer = io.BytesIO()
        with Image.open(options.folder / row["image"]) as photo:
            large = photo.convert("RGB").resize((options.side, options.side))
        large.save(buffer, "JPEG", quality=90)
        data = buffer.getvalue()
        full.append(encoder.prepare(usual(data)))
        scaled.append(encoder.prepare(decode(data, target=encoder.fingerprint.image_size).image))
    captions = [(number, text) for number, row in enumerate(chosen) for text in row["captions"]]
    texts = encoder.texts([text for _, text in captions])
    owner = np.array([number for number, _ in captions])
    kinds = {
        name: np.concatenate([encoder.images(pixels[None]) for pixels in part])
        for name, part in (("full", full), ("scaled", scaled))
    }
    for name, images in kinds.items():
        one, five, ten = recalls(images, texts, owner)
        print(
            f"{name:7} recall@1/5/10 {one:.1f} / {five:.1f} / {ten:.1f} % of {len(texts)} captions"
        )
    cosines = (kinds["full"] * kinds["scaled"]).sum(axis=1)
    print(f"cosine of the two: mean {cosines.mean():.4f}, lowest {cosines.min():.4f}")


if __name__ == "__main__":
    main()

"""Compare ways to fuse the parts of a query on five tasks that captions can score.

Usage: python benchmarks/fusion.py --flickr8k DIR [--split dev] [--model starter] [--cache FOLDER]

Compares the plain sum of unit vectors, the sum of vectors each divided by the spread of its cosines
over the collection (``twinlens.search.query.fusion``), and reciprocal rank fusion of one search for
each part (k = 60).
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from captions import Split, encode_images, encode_texts
from PIL import Image, ImageOps

from twinlens.search.models.base import Rows
from twinlens.search.models.load import open_encoder
from twinlens.search.query.calibration import ROW_SAMPLE
from twinlens.search.query.embed import phrase
from twinlens.search.query.fusion import fuse, spread

#: What captions must say, what they must not, and how one would ask for the two.
WITHOUT = (
    ("a dog", "dog", "grass", "grass|lawn|field"),
    ("a dog", "dog", "water", "water|pool|lake|ocean|sea|river|splash"),
    ("a dog", "dog", "snow", "snow"),
    ("a dog", "dog", "a ball", "ball"),
    ("a child", "child|girl|boy|kid", "water", "water|pool|lake|ocean|sea|river|splash|beach"),
    ("a child", "child|girl|boy|kid", "a slide", "slide|swing|playground"),
    ("a man", "man|guy", "a bicycle", "bike|bicycl|biker|cyclist"),
    ("a man", "man|guy", "a mountain", "mountain|cliff|rock|climb"),
    ("people", "people|crowd|group", "a street", "street|sidewalk|road|city"),
    ("snow", "snow", "a dog", "dog"),
    ("a beach", "beach", "people", "people|man|woman|child|boy|girl|person|kid"),
    ("a ball", "ball", "a dog", "dog"),
    ("water", "water|lake|river|ocean", "a dog", "dog"),
    ("jumping", "jump", "a dog", "dog"),
    ("running", "run", "a dog", "dog"),
    ("a street", "street", "a bicycle", "bike|bicycl|biker|cyclist"),
)
WEIGHTS = (0.25, 0.5, 0.75, 1.0)
#: A part of a query: its row, and how much it counts.
Parts = Sequence[tuple[Rows, float]]
Fusion = Callable[[Parts, Rows, Rows], Rows]


def plain(parts: Parts, gallery: Rows, sample: Rows) -> Rows:
    """The scores of the sum of unit rows."""
    return gallery @ sum(weight * row for row, weight in parts)


def spread_out(parts: Parts, gallery: Rows, sample: Rows) -> Rows:
    """The scores of ``twinlens.search.query.fusion``."""
    rows = np.stack([row for row, _ in parts])
    return gallery @ fuse(rows, [weight for _, weight in parts], spread(rows, sample))


def reciprocal(parts: Parts, gallery: Rows, sample: Rows) -> Rows:
    """Reciprocal rank fusion; what should not be there takes its reciprocal away."""
    total = np.zeros(len(gallery))
    for row, weight in parts:
        ranks = np.empty(len(gallery))
        ranks[np.argsort(-(gallery @ row))] = np.arange(1, len(gallery) + 1)
        total += weight / (60 + ranks)
    return total


FUSIONS: dict[str, Fusion] = {
    "plain sum": plain,
    "sum over spreads": spread_out,
    "RRF": reciprocal,
}


def degrade(image: Image.Image) -> Image.Image:
    """Its middle, half of it, grey, 80 pixels wide and crushed by JPEG."""
    width, height = image.size
    part = image.crop((width // 7, height // 7, 6 * width // 7, 6 * height // 7))
    part.thumbnail((80, 80))
    buffer = io.BytesIO()
    ImageOps.grayscale(part).save(buffer, "JPEG", quality=20)
    return Image.open(buffer).convert("RGB")


def recall(asked: Iterable[Parts], gallery: Rows, sample: Rows, fusion: Fusion) -> str:
    """R@1 and R@10, where the n-th query's answer is the n-th row."""
    ranks = []
    for answer, parts in enumerate(asked):
        scores = fusion(parts, gallery, sample)
        ranks.append(int((scores > scores[answer]).sum()))
    found = np.array(ranks)
    return f"{100 * (found < 1).mean():.1f} / {100 * (found < 10).mean():.1f}"


def precision(
    asked: Sequence[tuple[Parts, Rows]], gallery: Rows, sample: Rows, fusion: Fusion
) -> float:
    """The share of the ten best that are right, in per cent."""
    shares = [
        right[np.argsort(-fusion(parts, gallery, sample))[:10]].mean() for parts, right in asked
    ]
    return 100 * float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flickr8k", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--cache", type=Path, help="keep embeddings here")
    options = parser.parse_args()
    encoder = open_encoder(options.model, device="cpu")
    split = Split(options.flickr8k / "captions.jsonl", options.split, options.cache)
    photos = split.rows()
    cached = partial(split.cached, encoder)

    def pictures(change: Callable[[Image.Image], Image.Image]) -> Rows:
        return encode_images(encoder, map(change, split.pictures(encoder)))

    gallery = cached("images", lambda: pictures(lambda image: image))
    damaged = cached("damaged", lambda: pictures(degrade))
    firsts = cached("first", lambda: encode_texts(encoder, [p["captions"][0] for p in photos]))
    seconds = cached("second", lambda: encode_texts(encoder, [p["captions"][1] for p in photos]))
    wanted = encode_texts(encoder, [phrase(one[0], "images") for one in WITHOUT])
    unwanted = encode_texts(encoder, [phrase(one[2], "images") for one in WITHOUT])
    together = [" ".join(photo["captions"]).lower() for photo in photos]
    holds, spoils = (
        np.array([[bool(re.search(rf"\b(?:{w[n]})", text)) for text in together] for w in WITHOUT])
        for n in (1, 3)
    )
    sample = gallery[np.random.default_rng(0).permutation(len(gallery))[:ROW_SAMPLE]]
    for name, rows in (("captions", firsts), ("photos", gallery)):
        deviation = np.std(rows @ sample.T, axis=1).mean()
        print(f"spread of the cosines of {name} to photos: {deviation:.3f}")
    print(f"{encoder.fingerprint.label}, {len(gallery):,} photos of Flickr8k {options.split}")

    alone: list[tuple[str, Sequence[Rows]]] = [
        ("one caption", firsts),
        ("the damaged photo", damaged),
    ]
    for name, rows in alone:
        asked = [[(row, 1.0)] for row in rows]
        print(f"{name}: R@1 / R@10 {recall(asked, gallery, sample, plain)}")
    for name, others in (("two captions", seconds), ("caption + damaged photo", damaged)):
        pairs = [[(a, 1.0), (b, 1.0)] for a, b in zip(firsts, others, strict=True)]
        for label, fusion in FUSIONS.items():
            print(f"{name}, {label}: R@1 / R@10 {recall(pairs, gallery, sample, fusion)}")

    right = holds & ~spoils
    base = [([(row, 1.0)], good) for row, good in zip(wanted, right, strict=True)]
    print(f"wanted alone: precision@10 {precision(base, gallery, sample, plain):.1f}")
    for weight in WEIGHTS:
        cells = []
        for label, fusion in FUSIONS.items():
            without = [
                ([(yes, 1.0), (no, -weight)], good)
                for yes, no, good in zip(wanted, unwanted, right, strict=True)
            ]
            cells.append(f"{label} {precision(without, gallery, sample, fusion):.1f}")
        print(f"not, weight {weight}: precision@10 " + ", ".join(cells))
    changed(unwanted, holds, spoils, gallery, sample)
    feedback(wanted, holds, gallery, sample)


def changed(words: Rows, holds: Rows, spoils: Rows, gallery: Rows, sample: Rows) -> None:
    """A photo and a word that it lacks: are both in what is found?"""
    for weight in (0.5, 1.0, 2.0):
        by_word: dict[str, np.ndarray] = {}
        for label, fusion in FUSIONS.items():
            means = []
            for word, subject, added in zip(words, holds, spoils, strict=True):
                both = subject & added
                shares = []
                for photo in np.flatnonzero(subject & ~added)[:25]:
                    scores = fusion([(gallery[photo], 1.0), (word, weight)], gallery, sample)
                    order = np.argsort(-scores)
                    shares.append(both[order[order != photo][:10]].mean())
                means.append(100 * np.mean(shares))
            by_word[label] = np.array(means)
        cells = [f"{label} {means.mean():.1f}" for label, means in by_word.items()]
        gains = by_word["sum over spreads"] - by_word["plain sum"]
        drawn = np.random.default_rng(0).choice(gains, (10_000, len(gains))).mean(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        print(
            f"photo + {weight} x word: precision@10 {', '.join(cells)}; "
            f"spreads over plain {gains.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        )


def feedback(wanted: Rows, holds: Rows, gallery: Rows, sample: Rows) -> None:
    """Two right and two wrong hits of the first twenty are marked; what do the others gain?"""
    for like, unlike in ((0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (0.75, 0.0), (0.75, 0.15),
                         (0.75, 0.3), (1.5, 0.3)):  # fmt: skip
        cells = []
        for label, fusion in FUSIONS.items():
            shares = []
            for row, right in zip(wanted, holds, strict=True):
                first = np.argsort(-(gallery @ row))[:20]
                good, bad = first[right[first]][:2], first[~right[first]][:2]
                parts = [(row, 1.0)]
                parts += [(gallery[n], like / len(good)) for n in good]
                parts += [(gallery[n], -unlike / len(bad)) for n in bad]
                order = np.argsort(-fusion(parts, gallery, sample))
                order = order[~np.isin(order, [*good, *bad])][:20]
                shares.append(right[order].mean())
            cells.append(f"{label} {100 * np.mean(shares):.1f}")
        print(f"like {like}, unlike {unlike}: precision@20 of the rest " + ", ".join(cells))


if __name__ == "__main__":
    main()

"""Measure whether match tells true pairs from swapped ones, and whether its probabilities hold.

Usage: python benchmarks/match.py CAPTIONS [--split dev] [--model starter] [--cache FOLDER]

CAPTIONS is a JSONL file with image, captions and split, like Flickr8k's. Half of its pictures are
ingested with their captions: the collection. The pairs of the other half are scored, by the
calibration of the collection and by that of the model, which needs no collection. Prints the AUC
and the expected calibration error (ECE, 15 bins of equal width) of true pairs against as many
random swaps, averaged over ten draws; the AUC against captions that are hard to tell from the
right one; how often the verdicts are right; and how far CLIPScore is from its formula.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

import numpy as np
from captions import Split, encode_images, encode_texts
from nonsense import nonsense_texts
from relevance import auc

import twinlens
from twinlens.search.analysis.match import (
    PairCalibration,
    clip_score,
    cosines,
    ref_clip_score,
    verdict,
)
from twinlens.search.models.base import Rows
from twinlens.search.models.load import open_encoders

BINS = 15
#: A collection of one kind.
TOPIC = r"\bdogs?\b"
DRAWS = 10
Values = np.ndarray


def calibration_error(said: Values, true: Values) -> float:
    """Expected calibration error: https://arxiv.org/abs/1706.04599, section 2."""
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    gaps = [
        abs(said[bins == one].mean() - true[bins == one].mean()) * (bins == one).mean()
        for one in range(BINS)
        if (bins == one).any()
    ]
    return float(sum(gaps))


def collection_calibration(split: Split, rows: list[dict], model: str) -> PairCalibration:
    """The calibration of a collection of these pictures and captions."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions.jsonl"
        lines = [
            json.dumps(
                {"image": str((split.file.parent / row["image"]).resolve()),
                 "captions": row["captions"]}
            )
            for row in rows
        ]  # fmt: skip
        file.write_text("\n".join(lines), "utf-8")
        with twinlens.open(Path(folder) / "half.db", model=model, device="cpu") as index:
            index.ingest(file)
            encoder = open_encoders(model, device="cpu")
            return PairCalibration.of_collection(index.engine.calibrations, encoder)


def fitted(pairs: PairCalibration, images: Rows, texts: Rows, owner: Values) -> tuple[float, float]:
    """The half and width of a curve for true pairs and random swaps."""
    swapped = (owner + np.random.default_rng(0).integers(1, len(images), len(owner))) % len(images)
    z = np.concatenate(
        [
            pairs.calibration.z_scores(texts, cosines(texts, images[which]))
            for which in (owner, swapped)
        ]
    )
    return fit_curve(z, np.repeat([1.0, 0.0], len(owner)))


def fit_curve(z: Values, was: Values) -> tuple[float, float]:
    """The half and width of a logistic regression; ``was``: 1 for true pairs, 0 for others.

    Both kinds weigh the same.
    """
    importance = np.where(was > 0, 0.5 / np.mean(was > 0), 0.5 / np.mean(was <= 0))
    design, weights = np.stack([np.ones_like(z), z], axis=1), np.zeros(2)
    for _ in range(50):  # Newton's method
        said = 1 / (1 + np.exp(-design @ weights))
        curvature = (design * (importance * said * (1 - said))[:, None]).T @ design
        weights += np.linalg.solve(curvature, design.T @ (importance * (was - said)))
    return float(-weights[0] / weights[1]), float(1 / weights[1])


def hardest(scores: Values, mine: Values) -> Values:
    """The column of the highest score in each row, without those that are its own."""
    found: Values = np.where(mine, -np.inf, scores).argmax(axis=1)
    return found


def select(images: Rows, texts: Rows, owner: Values, which: Values) -> tuple[Rows, Rows, Values]:
    """Some of the pictures with their captions, and the picture of each caption."""
    here = which[owner]
    return images[which], texts[here], (np.cumsum(which) - 1)[owner[here]]


def measure(title: str, pairs: PairCalibration, images: Rows, texts: Rows, owner: Values) -> None:
    """Print the figures of one calibration on unseen pairs."""
    print(
        f"\n{title}: half {pairs.half:.2f}, width {pairs.width:.2f}, in spreads of "
        f"{pairs.calibration.spread:.3f}"
    )
    true = pairs.match(texts, images[owner])
    said, was, areas, errors = [], [], [], []
    for draw in range(DRAWS):
        dice = np.random.default_rng(draw)
        swapped = (owner + dice.integers(1, len(images), len(owner))) % len(images)
        false = pairs.match(texts, images[swapped])
        areas.append(auc(true, false))
        said.append(np.concatenate([true, false]))
        was.append(np.repeat([1, 0], len(true)))
        errors.append(calibration_error(said[-1], was[-1]))
    print(f"  random swaps: AUC {np.mean(areas):.4f}, ECE {np.mean(errors):.4f} "
          f"(largest of {DRAWS} draws {max(errors):.4f})")  # fmt: skip
    mine = owner[:, None] == owner[None]
    near_text = hardest(texts @ texts.T, mine)
    near_image = hardest(images @ texts.T, owner[None] == np.arange(len(images))[:, None])
    hard = pairs.match(texts[near_text], images[owner])
    print(f"  nearest other caption, to the caption: AUC {auc(true, hard):.4f}")
    hard = pairs.match(texts[near_image], images)
    print(f"  nearest other caption, to the picture: AUC {auc(true, hard):.4f}")
    together, right = np.concatenate(said), np.concatenate(was)
    verdicts = np.array([verdict(one) for one in together])
    for name in ("match", "unsure", "mismatch"):
        these = verdicts == name
        print(f"  {name:9} {these.mean():6.1%} of pairs, {right[these].mean():6.1%} of them true")
    bins = np.minimum((together * 5).astype(int), 4)
    cells = [
        f"{one / 5:.1f}–{(one + 1) / 5:.1f}: {right[bins == one].mean():.2f}" for one in range(5)
    ]
    print("  true pairs by probability: " + ", ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--cache", type=Path, help="keep embeddings in this folder")
    options = parser.parse_args()
    split = Split(options.captions, options.split, options.cache)
    encoder = open_encoders(options.model, device="cpu")
    rows = split.rows()
    images = split.cached(
        encoder, "images", lambda: encode_images(encoder, split.pictures(encoder))
    )
    texts = split.cached(
        encoder,
        "texts",
        lambda: encode_texts(encoder, [text for row in rows for text in row["captions"]]),
    )
    owner = np.repeat(np.arange(len(rows)), [len(row["captions"]) for row in rows])
    half = np.zeros(len(rows), dtype=bool)
    half[np.random.default_rng(0).permutation(len(rows))[: len(rows) // 2]] = True
    unseen = ~half[owner]
    seen = [row for row, here in zip(rows, half, strict=True) if here]
    print(
        f"{encoder.fingerprint.label}: {len(seen)} pictures in the collection; "
        f"{(~half).sum()} others with {unseen.sum():,} captions are scored"
    )
    mine = select(images, texts, owner, ~half)
    of_collection = collection_calibration(split, seen, options.model)
    of_model = PairCalibration.of_model(encoder)
    theirs = select(images, texts, owner, half)
    for name, pairs in (("collection", of_collection), ("model", of_model)):
        best, wide = fitted(pairs, *theirs)
        print(
            f"calibrated by the {name}, true pairs lie {pairs.distance:.2f} spreads from unrelated "
            f"ones; best on the collection's half: half {best:.2f} = {best / pairs.distance:.2f} "
            f"distance, width {wide:.2f} = {wide * pairs.distance:.2f} / distance"
        )
    measure("calibrated by the collection", of_collection, *mine)
    measure("calibrated by the model alone", of_model, *mine)

    topic = np.array([bool(re.search(TOPIC, " ".join(row["captions"]).lower())) for row in rows])
    chosen = [row for row, here in zip(rows, half & topic, strict=True) if here]
    some = select(images, texts, owner, ~half & topic)
    print(f"\nOne topic: {len(chosen)} pictures of dogs; {len(some[0])} others of dogs are scored")
    of_topic = collection_calibration(split, chosen, options.model)
    measure("calibrated by the collection of dogs", of_topic, *some)
    measure("calibrated by the model alone", of_model, *some)

    mad = encode_texts(encoder, [text for kind in nonsense_texts().values() for text in kind])
    said = np.concatenate([of_model.match(mad, np.broadcast_to(row, mad.shape)) for row in mine[0]])
    verdicts = [verdict(one) for one in said]
    print(
        f"\n{len(mad)} meaningless texts with each picture: "
        f"{verdicts.count('mismatch') / len(said):.1%} mismatch, "
        f"{verdicts.count('match') / len(said):.2%} match"
    )

    pictures, captions, own = mine
    shown = pictures[own]
    expected = 2.5 * np.maximum((captions.astype(np.float64) * shown).sum(axis=1), 0)
    gap = abs(clip_score(captions, shown) - expected).max()
    near = np.maximum(
        (captions.astype(np.float64) @ captions[:5].T.astype(np.float64)).max(axis=1), 0
    )
    total = expected + near
    harmonic = np.divide(2 * expected * near, total, np.zeros_like(total), where=total > 0)
    reference = abs(ref_clip_score(captions, shown, captions[:5]) - harmonic).max()
    print(
        f"\nCLIPScore differs from 2.5 max(cos, 0) by {gap:.0e} at most, RefCLIPScore from the "
        f"harmonic mean by {reference:.0e}; mean CLIPScore of true pairs {expected.mean():.3f}"
    )


if __name__ == "__main__":
    main()

"""Measure zero-shot top-1 on some ImageNet classes: one template against several.

Usage: python benchmarks/zero_shot.py --imagenet-samples DIR [--classes 200] [--model starter]

DIR holds labels.jsonl (image, label) and the pictures it names. The image tower of ``starter`` was
trained as an ImageNet classifier: for ``starter`` this is a sanity check, not zero-shot.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twinlens.search.analysis.classify import TEMPLATES, Classifier
from twinlens.search.images.decode import decode
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.load import open_encoder


def encode(encoder: Encoder, pictures: Sequence[Path]) -> Rows:
    rows = []
    for start in range(0, len(pictures), encoder.image_batch):
        batch = pictures[start : start + encoder.image_batch]
        decoded = [
            decode(path.read_bytes(), target=encoder.fingerprint.image_size) for path in batch
        ]
        rows.append(encoder.images(np.stack([encoder.prepare(one.image) for one in decoded])))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imagenet-samples", type=Path, required=True)
    parser.add_argument("--classes", type=int, default=200, help="evenly spread over the list")
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    lines = (options.imagenet_samples / "labels.jsonl").read_text("utf-8").splitlines()
    # Two classes of ImageNet can have one name.
    named = {row["label"]: row for row in map(json.loads, lines)}
    rows = list(named.values())
    rows = [rows[int(at)] for at in np.linspace(0, len(rows) - 1, min(options.classes, len(rows)))]
    labels = [row["label"] for row in rows]
    encoder = open_encoder(options.model)
    vectors = encode(encoder, [options.imagenet_samples / row["image"] for row in rows])
    print(f"{encoder.fingerprint.label}, {len(labels)} classes, a photo of each")
    right = {}
    for name, templates in [("the label alone", ("{}",)), ("one template", TEMPLATES[:1]),
                            (f"{len(TEMPLATES)} templates", TEMPLATES)]:  # fmt: skip
        found = Classifier(encoder, labels, templates).probabilities(vectors)
        mine = found[np.arange(len(labels)), np.arange(len(labels))]
        ranks = (found > mine[:, None]).sum(axis=1)
        right[name] = ranks == 0
        share = right[name].mean()
        spread = 1.96 * np.sqrt(share * (1 - share) / len(labels))
        print(
            f"{name:16}  top-1 {share:6.1%} (± {spread:.1%})  top-5 {(ranks < 5).mean():6.1%}  "
            f"mean probability of the right label {mine.mean():.2f}"
        )
    one, several = list(right.values())[1:]
    print(
        f"several templates against one: {np.sum(several & ~one)} pictures gained, "
        f"{np.sum(one & ~several)} lost, {several.sum() / one.sum():.2f} times as many right"
    )


if __name__ == "__main__":
    main()

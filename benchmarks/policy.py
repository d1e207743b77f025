"""Measure a moderation policy: hits, and false alarms on pictures that thresholds have not seen.

Usage: python benchmarks/policy.py --imagenet-samples DIR [--model starter] [--splits 20]

DIR holds labels.jsonl (image, wnid, label) and the pictures it names. For each concept, pictures of
all other classes are divided at random: one half chooses the threshold, the other is judged. A
threshold for the cosine alone, the same for all concepts, is chosen from the same half beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from twinlens.search.analysis.metrics import Estimate, wilson
from twinlens.search.analysis.pictures import read_pictures
from twinlens.search.analysis.policy.file import Concept, Policy
from twinlens.search.analysis.policy.judge import Background, Judge
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.load import open_encoder

#: The classes that show a concept, and its texts. ``animals`` is every class of animals.
SHOWN = {
    "weapons": "assault rifle, rifle, revolver, cannon, missile, projectile, holster, tank, bow, "
    "cleaver, letter opener, scabbard, guillotine, half track, warplane",
    "alcohol": "beer bottle, beer glass, wine bottle, red wine, cocktail shaker, whiskey jug, "
    "goblet, corkscrew, eggnog",
    "vehicles": "ambulance, beach wagon, cab, convertible, jeep, limousine, minivan, Model T, "
    "racer, sports car, police van, fire engine, garbage truck, moving van, tow truck, "
    "trailer truck, pickup, minibus, school bus, trolleybus, recreational vehicle, golfcart, "
    "go-kart, moped, motor scooter, bullet train, electric locomotive, steam locomotive, "
    "freight car, passenger car, streetcar, snowplow, tractor",
}
TEXTS = {
    "weapons": "gun, rifle, pistol, knife, sword, cannon, tank",
    "alcohol": "bottle of beer, glass of wine, whiskey, cocktail, glass of beer",
    "animals": "dog, cat, bird, fish, insect, snake, monkey, wild animal",
    "vehicles": "car, truck, bus, train, motorcycle",
}
#: WordNet's numbers of ImageNet's animals end here.
LAST_ANIMAL = "n02500000"
WANTED = (0.01, 0.05)


def encode(encoder: Encoder, pictures: list[Path]) -> Rows:
    named = [(path.name, path.read_bytes) for path in pictures]
    return np.concatenate(
        [
            encoder.images(np.stack([one.pixels for one in batch if one.pixels is not None]))
            for batch in read_pictures(encoder, named)
        ]
    )


def concept(name: str, share: float) -> Policy:
    texts = tuple(f"a photo of a {one}" for one in TEXTS[name].split(", "))
    return Policy("benchmark", "1", (Concept(name, texts, (), share),))


def shared_threshold(encoder: Encoder, ordinary: Rows, share: float) -> float:
    """The cosine that is exceeded in a share of ordinary pictures, over the texts of all."""
    best = [
        (ordinary @ encoder.texts(list(concept(name, share).concepts[0].texts)).T).max(axis=1)
        for name in TEXTS
    ]
    return float(np.quantile(np.concatenate(best), 1 - share))


def per_cent(share: Estimate) -> str:
    return f"{share.value:6.1%} [{share.low:.1%}, {share.high:.1%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imagenet-samples", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    lines = (options.imagenet_samples / "labels.jsonl").read_text("utf-8").splitlines()
    classes = [json.loads(line) for line in lines]
    encoder = open_encoder(options.model)
    vectors = encode(encoder, [options.imagenet_samples / row["image"] for row in classes])
    own = Background.of(encoder)
    print(
        f"{encoder.fingerprint.label}, {len(classes)} pictures, {options.splits} splits; the "
        "interval is that of one split's judged half"
    )
    within = total = 0
    for name in TEXTS:
        shown = {one.strip() for one in SHOWN.get(name, "").split(",")}
        true = np.array(
            [row["label"] in shown or (name == "animals" and row["wnid"] < LAST_ANIMAL)
             for row in classes]
        )  # fmt: skip
        others = np.flatnonzero(~true)
        for share in WANTED:
            policy = concept(name, share)
            alarms: list[float] = []
            hits: list[float] = []
            by_cosine: list[float] = []
            rows = encoder.texts(list(policy.concepts[0].texts))
            for split in range(options.splits):
                mixed = np.random.default_rng(split).permutation(others)
                chosen, judged = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
                judge = Judge(policy, encoder, Background(vectors[chosen], "collection"))
                found = int(judge.found(vectors[judged]).sum())
                alarms.append(found / len(judged))
                interval = wilson(found, len(judged))
                within += interval.low <= share <= interval.high
                total += 1
                hits.append(float(judge.found(vectors[true]).mean()))
                bar = shared_threshold(encoder, vectors[chosen], share)
                by_cosine.append(float(((vectors[judged] @ rows.T).max(axis=1) > bar).mean()))
            hit = wilson(round(float(np.mean(hits)) * int(true.sum())), int(true.sum()))
            alarm = wilson(round(float(np.mean(alarms)) * len(judged)), len(judged))
            rough = Judge(policy, encoder, own)
            print(
                f"{name:9} wanted {share:4.0%}  false alarms {per_cent(alarm)} of {len(judged)}  "
                f"hits {per_cent(hit)} of {int(true.sum())}\n"
                f"          one cosine for all concepts: false alarms {np.mean(by_cosine):.1%};  "
                f"thresholds from twinlens' own {len(own.rows)} photographs: false alarms "
                f"{rough.found(vectors[others]).mean():.1%}, hits "
                f"{rough.found(vectors[true]).mean():.1%}"
            )
    print(
        f"the wanted share is within the 95 % interval of the false alarms in {within} of {total} "
        f"splits ({within / total:.0%})"
    )


if __name__ == "__main__":
    main()

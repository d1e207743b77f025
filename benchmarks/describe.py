"""Measure the captions that are proposed for pictures without any.

Usage: python benchmarks/describe.py CAPTIONS [--split dev] [--model starter] [--seed 0]

CAPTIONS is a JSONL file with image, captions and split, like Flickr8k's. One half of the pictures
is stored with its captions, the other half without, and is described from the first half's. Prints
how many proposals reach a probability of 0.5; how near the proposals are to the pictures' true
captions, beside a random caption of the first half and one of the five true ones; and how often
proposals of each probability are right. A proposal counts as right if it is nearer to the true
captions than one in ten true captions is to the other four.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from captions import encode_texts

import twinlens
from twinlens.search.analysis.describe import CAPTION_PRIOR, WORDS_FITTING, Describer, Labels
from twinlens.search.analysis.everyday import WORDS
from twinlens.search.analysis.match import PairCalibration, ref_clip_score
from twinlens.search.models.base import Rows

#: Bounds of the probabilities that are reported together.
BINS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
#: Other ways in which captions say an everyday word.
ALSO = {
    "man": "men|guy|male",
    "woman": "women|lady|female",
    "child": "children|kid|toddler|boy|girl",
    "dog": "puppy|puppies|canine",
    "bicycle": "bike|biker|cyclist|bicyclist",
    "motorcycle": "motorbike|dirt bike|motorcyclist",
    "group of people": "people|men|women|group",
    "crowd": "people|group",
    "canoe": "kayak|boat|raft",
    "sea": "ocean|water|wave",
    "surfer": "surfing|surf|surfboard",
    "swimmer": "swimming|swim|pool",
    "skier": "ski|skiing",
    "climber": "climbing|climb",
}


def nearness(proposals: Rows, own: Rows, skip: Sequence[int] | None = None) -> np.ndarray:
    """The highest cosine of each proposal ``[n, dim]`` with its true captions ``[n, 5, dim]``."""
    cosines = np.einsum("nd,ncd->nc", proposals, own)
    if skip is not None:
        cosines[np.arange(len(cosines)), skip] = -1
    found: np.ndarray = cosines.max(axis=1)
    return found


def by_probability(probabilities: np.ndarray, right: np.ndarray) -> None:
    for low, high in pairwise(BINS):
        these = (probabilities >= low) & (probabilities < (high if high < 1 else 2))
        if these.any():
            print(
                f"    {low:.2f}–{high:.2f}: {these.sum():4} proposals, stated "
                f"{probabilities[these].mean():.2f}, right {right[these].mean():.2f}"
            )


def says(caption: str, word: str) -> bool:
    choices = "|".join([re.escape(word), *ALSO.get(word, "").split("|")]).rstrip("|")
    return re.search(rf"\b({choices})(s|es)?\b", caption) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = map(json.loads, options.captions.read_text("utf-8").splitlines())
    rows = [one for one in lines if one["split"] == options.split and len(one["captions"]) == 5]
    folder = options.captions.absolute().parent
    dice = np.random.default_rng(options.seed)
    order = dice.permutation(len(rows))
    told = {int(number) for number in order[: len(rows) // 2]}
    with tempfile.TemporaryDirectory() as temporary:
        pairs = Path(temporary) / "pairs.jsonl"
        pairs.write_text(
            "".join(
                json.dumps(
                    {
                        "image": str(folder / row["image"]),
                        "captions": row["captions"] if number in told else [],
                    }
                )
                + "\n"
                for number, row in enumerate(rows)
            ),
            "utf-8",
        )
        with twinlens.open(Path(temporary) / "half.db", model=options.model, device="cpu") as index:
            index.ingest(pairs)
            print(
                f"{index.info().fingerprint.label}: {len(rows) - len(told)} pictures without "
                f"captions, {5 * len(told):,} captions of {len(told)} others"
            )
            found = {one.path: one for one in index.describe(missing=True, min_probability=0)}
            default = list(index.describe(missing=True))
            encoder = index._load_encoder()
            match = PairCalibration.of_collection(index.engine.calibrations, encoder).match
            mine = [row for row in rows if str(folder / row["image"]) in found]
            paths = [str(folder / row["image"]) for row in mine]
            images = np.stack(
                [index.engine.collection.get("images", [found[path].id], ["vector"])[0]["vector"]
                 for path in paths]
            )  # fmt: skip
    best = [found[path].proposals[0] for path in paths]
    shared = [rows[number] for number in sorted(told)]
    drawn = dice.integers(0, len(shared), len(mine))
    random = [shared[at]["captions"][dice.integers(5)] for at in drawn]
    pick = dice.integers(0, 5, len(mine))
    own = encode_texts(encoder, [text for row in mine for text in row["captions"]])
    own = own.reshape(len(mine), 5, -1)
    kinds = {
        "proposal": encode_texts(encoder, [one.text for one in best]),
        "random caption": encode_texts(encoder, random),
        "a true caption": own[np.arange(len(mine)), pick],
    }
    owned = np.repeat(np.eye(len(mine), dtype=bool), 5, axis=1)
    near, scores = {}, {}
    for kind, texts in kinds.items():
        skip = pick if kind == "a true caption" else None
        near[kind] = nearness(texts, own, skip)
        theirs = owned.copy()
        if skip is not None:
            theirs[np.arange(len(mine)), 5 * np.arange(len(mine)) + skip] = False
        references = own.reshape(5 * len(mine), -1)
        scores[kind] = ref_clip_score(texts, images, references, theirs)
    bar = float(np.quantile(near["a true caption"], 0.1))
    right = {kind: values >= bar for kind, values in near.items()}
    print(f"  {'':16}nearest true caption   RefCLIPScore   right")
    for kind in kinds:
        print(
            f"  {kind:16}{near[kind].mean():20.3f} {scores[kind].mean():14.3f} "
            f"{right[kind].mean():8.1%}"
        )
    gain = right["proposal"].mean() / max(right["random caption"].mean(), 1 / len(mine))
    print(f"  a proposal is right {gain:.0f} times as often as a random caption")
    probabilities = np.array([one.probability for one in best])
    sure = probabilities >= 0.5
    print(
        f"  stated probability ≥ 0.5: {sure.mean():.1%}; right {right['proposal'][sure].mean():.1%}"
        f" of these, {right['proposal'][~sure].mean():.1%} of the others"
    )
    by_probability(probabilities, right["proposal"])
    pairs_that_fit = nearness_of_all(own, encode_texts(encoder, random), bar)
    print(
        f"  random pairs that fit: 1 in {1 / pairs_that_fit:.0f}; the prior is 1 in "
        f"{1 / CAPTION_PRIOR:.0f}"
    )
    words = Labels(lambda: encoder, WORDS, WORDS_FITTING)
    found_words = Describer([words], match, min_probability=0).propose(images)
    lower = [" ".join(row["captions"]).lower() for row in mine]
    named = [proposals[0] for proposals in found_words]
    said = np.array([says(text, one.text) for text, one in zip(lower, named, strict=True)])
    shares = np.array([one.probability for one in named])
    fitting = np.mean([sum(says(text, word) for word in WORDS) for text in lower])
    chance = np.mean([says(text, WORDS[dice.integers(len(WORDS))]) for text in lower])
    print(
        f"everyday words: the best of {len(WORDS)} is in the true captions of {said.mean():.1%}, a "
        f"random one of {chance:.1%}; on average {fitting:.1f} are, the prior is {WORDS_FITTING:g}"
    )
    by_probability(shares, said)
    nothing = sum(not one.proposals for one in default)
    is_word = sum(bool(one.proposals) and one.proposals[0].text in WORDS for one in default)
    print(
        f"both, by default: a caption for {1 - (nothing + is_word) / len(default):.1%}, a word for "
        f"{is_word / len(default):.1%}, cannot tell {nothing / len(default):.1%}"
    )


def nearness_of_all(own: Rows, texts: Rows, bar: float) -> float:
    """The share of all pairs of a picture and a text that count as right."""
    best = np.einsum("ncd,td->nct", own, texts).max(axis=1)
    return float(max((best >= bar).mean(), 1e-6))


if __name__ == "__main__":
    main()

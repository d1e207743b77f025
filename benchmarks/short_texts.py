"""Measure match for texts of one or two words: bare, in a phrase, and with a curve of their own.

Usage: python benchmarks/short_texts.py CAPTIONS [--labels LABELS] [--split dev] [--model starter]
           [--cache FOLDER]

CAPTIONS is a JSONL file with image, captions and split, like Flickr8k's. Half of its pictures are
the collection, the others are scored. One word fits a picture if three of its captions say it, and
two words if two of them do; its swaps are pictures whose captions say no form of these words, nor
anything of their kind. LABELS is a JSONL file with image and label, like ImageNet's samples; its
labels and the names of the photographs in samples/ are swapped among each other. Prints AUC and ECE
(see match.py) in each form of the texts, true pairs and swaps weighing the same, also with single
words as the captions of the collection; those of a curve fitted to one word; how many everyday
words match the samples; and how many whole captions get a phrase.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from captions import Split, encode_images, encode_texts
from match import calibration_error, collection_calibration, fit_curve
from relevance import auc

from twinlens.search.analysis.everyday import WORDS
from twinlens.search.analysis.match import MATCH_FROM, PairCalibration, cosines
from twinlens.search.analysis.matcher import PHRASED_WORDS
from twinlens.search.models.base import Rows
from twinlens.search.models.load import open_encoders
from twinlens.search.models.openclip import OpenClipEncoder
from twinlens.search.query.calibration import logistic
from twinlens.search.query.embed import in_phrase

FORMS = ("{}", "a {}", "a photo of {}", "a photo of a {}")
SAMPLES = Path(__file__).parents[1] / "samples" / "captions.jsonl"
#: Captions of a picture that say a text of one or two words, at least; pictures of each half that a
#: text fits, at least and at most; swaps for each of them.
SAID = {1: 3, 2: 2}
FEWEST, MOST, SWAPS = 3, 20, 4
#: Texts that fit each other's pictures, so often that one is no swap for the other.
KINDS = tuple(
    frozenset(kind.split())
    for kind in (
        "man woman boy girl child children kid baby people person couple family crowd group men "
        "women lady guy player adult toddler team rider biker skier surfer runner climber swimmer "
        "cyclist bicyclist skateboarder snowboarder he she his her their who someone",
        "dog puppy animal greyhound hound poodle retriever terrier collie shepherd labrador lab",
        "water lake river sea ocean beach wave pool fountain stream swim surf boat canoe",
        "mountain hill cliff rock boulder climb",
        "bicycle bike motorcycle bmx biker cyclist bicyclist",
        "snow ice ski snowboard sled snowy",
        "ball soccer football basketball tennis baseball volleyball",
        "street road sidewalk path dirt ramp",
        "field grass meadow lawn grassy green",
        "hat cap helmet",
        "shirt jacket coat dress suit wearing",
        "hold carry stick mouth toy",
        "run jump play walk ride sit stand",
    )
)
STOP_WORDS = (
    "a an the of on in at to with and is are by it its for from up down out off over into that as "
    "while through near next has have be one another some other around behind front there they "
    "them him very each all during against after above under about being his her their who"
)
Values = np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Texts with pictures, some of which they fit.

    Attributes:
        texts: one for each pair.
        images: float32 unit rows ``[n, dim]``.
        fits: bool ``[n]``.
    """

    texts: Sequence[str]
    images: Rows
    fits: Values

    def rows(self, encoder: OpenClipEncoder, form: str) -> Rows:
        """The texts in a form, float32 unit rows ``[n, dim]``."""
        names = list(dict.fromkeys(self.texts))
        place = {name: at for at, name in enumerate(names)}
        rows = encode_texts(encoder, [form.format(name) for name in names])
        return rows[[place[text] for text in self.texts]]


def stems(word: str) -> set[str]:
    """A word with its usual forms."""
    found = {word, word.removesuffix("s"), word.removesuffix("es")}
    if word.endswith("ing"):
        bare = word.removesuffix("ing")
        found |= {bare, f"{bare}e", bare[:-1]}
    return found | {f"{one}{end}" for one in found for end in ("s", "es", "ing")}


def kin(word: str) -> set[str]:
    """The forms of a word, and of what it is of one kind with."""
    forms = stems(word)
    alike = set().union(*(kind for kind in KINDS if kind & forms))
    return forms.union(*map(stems, alike))


def said_texts(captions: Sequence[Sequence[str]], length: int) -> Mapping[str, Values]:
    """The texts of ``length`` words that captions say, with the pictures that each fits."""
    fitting, passed = defaultdict(list), set(STOP_WORDS.split())
    for number, some in enumerate(captions):
        counts: Counter[str] = Counter()
        for caption in some:
            words = re.findall(r"[a-z]+", caption.lower())
            parts = (words[at : at + length] for at in range(len(words) - length + 1))
            counts.update(
                {
                    " ".join(part)
                    for part in parts
                    if not passed.intersection(part) and all(len(word) > 2 for word in part)
                }
            )
        for text, count in counts.items():
            if count >= SAID[length]:
                fitting[text].append(number)
    return {text: np.array(pictures) for text, pictures in fitting.items()}


def spoken(
    captions: Sequence[Sequence[str]], images: Rows, length: int, seen: Values
) -> tuple[Pairs, Pairs]:
    """Texts that captions say, with pictures of the seen half and with others."""
    words = [set(re.findall(r"[a-z]+", " ".join(some).lower())) for some in captions]
    texts = {
        text: which
        for text, which in said_texts(captions, length).items()
        if min(seen[which].sum(), (~seen[which]).sum()) >= FEWEST
    }
    halves = []
    for half in (seen, ~seen):
        dice = np.random.default_rng(0)
        names, numbers, fits = [], [], []
        for text, which in texts.items():
            mine = dice.permutation(which[half[which]])[:MOST]
            bad = set().union(*(kin(word) for word in text.split()))
            free = [at for at in np.flatnonzero(half) if not words[at] & bad]
            swaps = dice.permutation(free)[: SWAPS * len(mine)].astype(int)
            if len(swaps):
                names += [text] * (len(mine) + len(swaps))
                numbers += [*mine, *swaps]
                fits += [True] * len(mine) + [False] * len(swaps)
        halves.append(Pairs(names, images[numbers], np.array(fits)))
    return halves[0], halves[1]


def named(names: Sequence[str], images: Rows) -> Pairs:
    """Each picture with its name, and with those of others."""
    dice = np.random.default_rng(0)
    texts, numbers, fits = [], [], []
    for at, name in enumerate(names):
        others = [other for other, its in enumerate(names) if its != name]
        swaps = dice.choice(others, SWAPS, replace=False)
        texts += [name] * (1 + SWAPS)
        numbers += [at, *swaps]
        fits += [True] + [False] * SWAPS
    return Pairs(texts, images[numbers], np.array(fits))


def report(title: str, said: Values, fits: Values) -> None:
    """Print the figures of one set of pairs, as if every second fitted."""
    true, false = said[fits], said[~fits]
    # As many of each: what fits is repeated.
    times = round(len(false) / len(true))
    both = np.concatenate([np.repeat(true, times), false])
    was = np.repeat([1, 0], [len(true) * times, len(false)])
    right, wrong = (true >= MATCH_FROM).mean(), (false >= MATCH_FROM).mean()
    print(
        f"    {title:16} AUC {auc(true, false):.3f}  ECE {calibration_error(both, was):.3f}  "
        f"a match are {right:5.1%} of what fits, {wrong:5.1%} of swaps"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--cache", type=Path, help="keep embeddings in this folder")
    options = parser.parse_args()
    encoder = open_encoders(options.model, device="cpu")

    def load(file: Path, split: str, name: str) -> tuple[list[dict], Rows]:
        one = Split(file, split, options.cache)
        rows = one.cached(encoder, name, lambda: encode_images(encoder, one.pictures(encoder)))
        return one.rows(), rows

    rows, images = load(options.captions, options.split, "images")
    captions = [row["captions"] for row in rows]
    seen = np.zeros(len(rows), dtype=bool)
    seen[np.random.default_rng(0).permutation(len(rows))[: len(rows) // 2]] = True
    split = Split(options.captions, options.split, options.cache)
    half = [row for row, here in zip(rows, seen, strict=True) if here]
    words_of = defaultdict(list)
    for word, which in said_texts(captions, 1).items():
        for number in which:
            words_of[number].append(word)
    worded = [rows[at] | {"captions": words_of[at]} for at in np.flatnonzero(seen)]
    one_seen, one = spoken(captions, images, 1, seen)
    _, two = spoken(captions, images, 2, seen)
    photos, shown = load(SAMPLES, "", "samples")
    sets = {"one word": one, "two words": two}
    sets["samples, named"] = named(
        [re.sub(r"-\d+$", "", Path(row["image"]).stem) for row in photos], shown
    )
    if options.labels:
        labelled, pictures = load(options.labels, "", "labelled")
        sets["labels"] = named([row["label"] for row in labelled], pictures)
    calibrations = {
        "the model": PairCalibration.of_model(encoder),
        "the collection": collection_calibration(split, half, options.model),
        "a collection of words": collection_calibration(split, worded, options.model),
    }
    for by, pairs in calibrations.items():
        print(f"\nCalibrated by {by}: half {pairs.half:.2f}, width {pairs.width:.2f}")
        for title, some in sets.items():
            print(f"  {title}: {len(set(some.texts))} texts, {some.fits.sum()} pictures that fit")
            for form in FORMS:
                report(
                    form.format("…"), pairs.match(some.rows(encoder, form), some.images), some.fits
                )
    pairs = calibrations["the model"]
    form = in_phrase("word", PHRASED_WORDS).replace("word", "{}")

    def z(some: Pairs) -> Values:
        text_rows = some.rows(encoder, form)
        return pairs.calibration.z_scores(text_rows, cosines(text_rows, some.images))

    best, wide = fit_curve(z(one_seen), one_seen.fits.astype(float))
    print(f"\nA curve fitted to one word in the other half: half {best:.2f}, width {wide:.2f}")
    for title, some in sets.items():
        report(title, logistic((z(some) - best) / wide), some.fits)

    spoken_of = [set(re.findall(r"[a-z]+", " ".join(row["captions"]).lower())) for row in photos]
    words = [set().union(*map(stems, word.split())) for word in WORDS]
    foreign = np.array([[not word & said for word in words] for said in spoken_of])
    for shape in ("{}", form):
        texts = encode_texts(encoder, [shape.format(word) for word in WORDS])
        found = np.stack([pairs.match(np.broadcast_to(row, shown.shape), shown) for row in texts])
        wrong = (found.T >= MATCH_FROM) & foreign
        print(
            f"{shape.format('…'):16} {len(WORDS)} everyday words, each of {len(photos)} samples: a "
            f"match are {wrong.sum() / foreign.sum():.1%} of those that its captions do not say, "
            f"one or more for {wrong.any(axis=1).mean():.0%} of the pictures"
        )
    every = [caption for some in captions for caption in some]
    changed = sum(in_phrase(caption, PHRASED_WORDS) != caption for caption in every)
    print(f"\n{changed} of {len(every):,} whole captions get a phrase")


if __name__ == "__main__":
    main()

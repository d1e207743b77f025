"""Measure whether a single word finds more when it is encoded as "a photo of …".

Usage: python benchmarks/bare_words.py CAPTIONS [--split dev] [--model starter]

CAPTIONS is a JSONL file with image, captions and split, like Flickr8k's. A hit is right if one of
its captions contains the word. The first line of the output is a search with the bare word.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from captions import Split, encode_images, encode_texts

from twinlens.search.models.load import open_encoder
from twinlens.search.query.embed import phrase

WORDS = (
    "dog boy girl man woman child baby people beach snow grass water ball bike car street field "
    "pool horse bird tree rock mountain ocean soccer football basketball tennis skateboard "
    "snowboard skier climber motorcycle swing guitar stage crowd frisbee hat shirt jacket lake "
    "river boat wave surfer sand park playground bench building city night fire sunset toy stick "
    "puppy bride mud race"
)
FORMS = ("{}", "a {}", "a photo of a {}", "a photo of {}")
LIMIT = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    encoder = open_encoder(options.model)
    split = Split(options.captions, options.split, None)
    gallery = encode_images(encoder, split.pictures(encoder))
    said = [" ".join(row["captions"]).lower() for row in split.rows()]
    asked = WORDS.split()
    holds = np.array([[bool(re.search(rf"\b{word}", text)) for text in said] for word in asked])
    kept = holds.sum(axis=1) >= LIMIT
    words = [word for word, enough in zip(asked, kept, strict=True) if enough]
    print(f"{len(words)} words, each in the captions of {LIMIT} pictures or more of {len(said)}")
    bare = 0.0
    for form in FORMS:
        rows = encode_texts(encoder, [form.format(word) for word in words])
        nearest = np.argsort(-(rows @ gallery.T), axis=1)[:, :LIMIT]
        right = np.take_along_axis(holds[kept], nearest, axis=1).mean()
        bare = bare or right
        ours = ", what twinlens encodes" if form.format("dog") == phrase("dog", "images") else ""
        print(f"{form.format('dog'):16} P@{LIMIT} {right:.3f}, {right / bare:.3f} × bare{ours}")


if __name__ == "__main__":
    main()

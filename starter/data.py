"""Read what the heads of `starter` are trained on; ``python -m starter.convert`` writes it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Of ImageNet.
CLASSES = 1000
#: Of each photo of Flickr8k.
CAPTIONS = 5
#: Lists of the photos, in the folders of Flickr8k and of the ImageNet samples.
PHOTO_LIST = "captions.jsonl"
SAMPLE_LIST = "labels.jsonl"


@dataclass(frozen=True)
class Photo:
    """One photo of Flickr8k."""

    path: Path
    captions: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class Sample:
    """One photo of one ImageNet class; classes are numbered in the order of their WordNet ids."""

    path: Path
    wnid: str
    label: str
    number: int


@dataclass(frozen=True)
class Noun:
    """A name and the classes it covers; ``own`` is the class that it names itself, or -1."""

    text: str
    classes: tuple[int, ...]
    own: int


def read_photos(folder: Path) -> list[Photo]:
    """The photos that ``captions.jsonl`` lists."""
    rows = _read_rows(folder / PHOTO_LIST)
    return [Photo(folder / r["image"], tuple(r["captions"][:CAPTIONS]), r["split"]) for r in rows]


def read_samples(folder: Path) -> list[Sample]:
    """The photos that ``labels.jsonl`` lists."""
    rows = _read_rows(folder / SAMPLE_LIST)
    numbers = {wnid: n for n, wnid in enumerate(sorted(row["wnid"] for row in rows))}
    return [Sample(folder / r["image"], r["wnid"], r["label"], numbers[r["wnid"]]) for r in rows]


def read_nouns(wordnet: Path | None, samples: Sequence[Sample], widest: int = 260) -> list[Noun]:
    """Every word for each class and for what it is a kind of, up to ``widest`` classes.

    ``wordnet`` is WordNet 3.0's folder with ``data.noun`` (its format: wndb(5WN)); without it the
    classes' own labels are all there is.
    """
    own = {sample.wnid: sample for sample in samples}
    if wordnet is None:
        return [Noun(sample.label, (sample.number,), sample.number) for sample in samples]
    words, above = {}, {}
    for line in (wordnet / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        parts = line.partition("|")[0].split()
        wnid, count = "n" + parts[0], int(parts[3], 16)
        words[wnid] = [parts[4 + 2 * i].replace("_", " ") for i in range(count)]
        pointers = parts[5 + 2 * count :]
        above[wnid] = [
            "n" + target
            for kind, target in zip(pointers[::4], pointers[1::4], strict=False)
            if kind in {"@", "@i"}
        ]
    covers: dict[str, set[int]] = defaultdict(set)
    for sample in samples:
        climb = [sample.wnid]
        while climb:
            wnid = climb.pop()
            if sample.number not in covers[wnid]:
                covers[wnid].add(sample.number)
                climb += above[wnid]
    return [
        Noun(word, tuple(sorted(classes)), own[wnid].number if wnid in own else -1)
        for wnid, classes in sorted(covers.items())
        if len(classes) <= widest
        for word in dict.fromkeys([*([own[wnid].label] if wnid in own else []), *words[wnid]])
    ]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

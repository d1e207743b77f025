"""Measure how well an audit finds swapped captions, and how long it takes.

Usage: python benchmarks/audit.py CAPTIONS [--split dev] [--share 0.05] [--each 1] [--times 7]
                           [--cache FOLDER]

CAPTIONS is a JSONL file with image, captions and split, like Flickr8k's; --split "" takes all of
it. A share of the captions is swapped in pairs, and everything is stored in Milvus Lite. Prints
precision and recall among as many of the least likely pairs as were swapped, beside those by the
cosine alone (the filter of LAION); how often the partner of a swap is named, and named rightly;
what ``--below`` would leave out; the time of the audit, from stored vectors; and how many captions
that are cut within a word are told by their words.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from captions import Split, encode_images, encode_texts

from twinlens.search.analysis.audit import MAX_LISTED, audit
from twinlens.search.analysis.caption_checks import CaptionChecks, has_problem
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.models.base import Rows
from twinlens.search.models.load import open_encoder
from twinlens.search.query.calibration import CalibrationCache
from twinlens.search.records import text_id

_BATCH = 2_000


def swap(owners: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Swap a share of the captions in pairs of different pictures; return for each its partner."""
    dice = np.random.default_rng(seed)
    partner = np.arange(len(owners))
    chosen = dice.permutation(len(owners))[: 2 * round(share * len(owners) / 2)]
    first, second = np.split(chosen, 2)
    for one, other in zip(first, second, strict=True):
        if owners[one] != owners[other]:
            partner[one], partner[other] = other, one
    return partner


def store(
    collection: Collection, images: Rows, texts: Rows, said: list[str], owners: np.ndarray
) -> list[str]:
    """Store pictures and captions; return the captions' ids."""
    keys = [f"{number:032x}" for number in range(len(images))]
    rows = [
        {
            "id": key, "path": f"/{key}.jpg", "relative_path": f"{key}.jpg",
            "paths": [f"/{key}.jpg"], "captions": [], "width": 1, "height": 1, "bytes": 1,
            "mtime": 0.0, "format": "JPEG", "vector": vector,
        }
        for key, vector in zip(keys, images, strict=True)
    ]  # fmt: skip
    ids = [text_id(keys[owner], text) for owner, text in zip(owners, said, strict=True)]
    captions = [
        {
            "id": id_, "path": f"/{keys[owner]}.jpg", "relative_path": f"{keys[owner]}.jpg",
            "text": text, "image_id": keys[owner], "vector": vector,
        }
        for id_, text, owner, vector in zip(ids, said, owners, texts, strict=True)
    ]  # fmt: skip
    for start in range(0, len(rows), _BATCH):
        collection.upsert("images", rows[start : start + _BATCH])
    for start in range(0, len(captions), _BATCH):
        collection.upsert("texts", captions[start : start + _BATCH])
    collection.flush()
    return ids


def cut_words(said: list[str], share: float = 0.02, seed: int = 0) -> None:
    """Cut a share of the captions within a word, and print how many are told by their words."""
    dice = np.random.default_rng(seed)
    texts, cut = list(said), set()
    for number in dice.permutation(len(said))[: round(share * len(said))].tolist():
        text = said[number].rstrip(" .")
        at = int(dice.integers(len(text) // 2, len(text)))
        if text[at - 1 : at + 1].isalpha():
            texts[number] = text[:at]
            cut.add(number)
    for name, captions in (("as they are", said), (f"{len(cut):,} cut within a word", texts)):
        checks = CaptionChecks(None)
        marked = np.flatnonzero(has_problem(checks.finish(checks.check(captions)), "cut-off"))
        right = (
            f", {len(cut.intersection(marked.tolist())):,} of these" if captions is texts else ""
        )
        print(f"  marked as cut off, captions {name}: {len(marked):,}{right}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--each", type=int, default=0, help="captions of each picture; 0 for all")
    parser.add_argument("--times", type=int, default=1, help="store so many copies, for the time")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--cache", type=Path, help="keep embeddings here")
    options = parser.parse_args()
    encoder = open_encoder(options.model, device="cpu")
    split = Split(options.captions, options.split, options.cache)
    rows = split.rows()
    said = [caption for row in rows for caption in row["captions"]]
    owners = np.repeat(np.arange(len(rows)), [len(row["captions"]) for row in rows])
    cached = partial(split.cached, encoder)
    images = cached("images", lambda: encode_images(encoder, split.pictures(encoder)))
    texts = cached("texts", lambda: encode_texts(encoder, said))
    if options.each:
        first = np.array([owners[at - options.each] != owner if at >= options.each else True
                          for at, owner in enumerate(owners)])  # fmt: skip
        texts, owners = texts[first], owners[first]
        said = [text for text, chosen in zip(said, first, strict=True) if chosen]
    if options.times > 1:
        # Permuted dimensions keep the cosines within a copy, and make copies strangers.
        dice, pictures = np.random.default_rng(1), len(images)
        orders = [dice.permutation(images.shape[1]) for _ in range(options.times)]
        images = np.concatenate([images[:, order] for order in orders])
        texts = np.concatenate([texts[:, order] for order in orders])
        owners = np.concatenate([owners + pictures * at for at in range(options.times)])
        said *= options.times
    partner = swap(owners, options.share)
    swapped = partner != np.arange(len(partner))
    given = owners[partner]  # the picture that each caption is stored with
    with (
        tempfile.TemporaryDirectory() as folder,
        Database(str(Path(folder) / "audit.db")) as database,
    ):
        collection = database.create("audit", encoder.fingerprint)
        ids = store(collection, images, texts, said, given)
        number = {id_: at for at, id_ in enumerate(ids)}
        calibrations = CalibrationCache(collection, lambda: encoder)
        calibration = PairCalibration.of_collection(calibrations, encoder)
        count = min(int(swapped.sum()), MAX_LISTED)
        began = time.perf_counter()
        found = audit(collection, calibration, limit=count)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        audit(collection, calibration, limit=50, below=0.2, out=Path(folder) / "bad.jsonl")
        filtering = time.perf_counter() - began
        probabilities = np.ones(len(texts))
        every = audit(collection, calibration, limit=0, below=1, out=Path(folder) / "all.jsonl")
        for line in (Path(folder) / "all.jsonl").read_text("utf-8").splitlines():
            pair = json.loads(line)
            key = text_id(Path(pair["image"]).stem, pair["caption"])
            probabilities[number[key]] = pair["probability"]
    print(
        f"{encoder.fingerprint.label}: {len(images):,} pictures, {len(texts):,} captions, "
        f"{swapped.sum():,} of them swapped"
    )
    listed = [number[pair.text_id] for pair in found.worst]
    cosines = np.einsum("nd,nd->n", texts, images[given])
    by_cosine = np.argsort(cosines, kind="stable")[:count]
    for name, chosen in (("audit", listed), ("cosine alone", by_cosine)):
        right = swapped[chosen].sum()
        print(
            f"  {name}: {len(chosen):,} least likely, precision {right / len(chosen):.1%}, "
            f"recall {right / swapped.sum():.1%}"
        )
    told = [(at, pair.swapped_with) for at, pair in zip(listed, found.worst, strict=True)]
    named = [(at, place.caption) for at, place in told if place is not None]
    right = sum(said[partner[at]] == caption for at, caption in named if swapped[at])
    both = sum(bool(swapped[at]) for at in listed)
    print(
        f"  partner named for {len(named):,} of {len(listed):,}, rightly for {right:,}: precision "
        f"{right / max(len(named), 1):.1%}; {right / max(both, 1):.1%} of the {both:,} swaps listed"
    )
    for below in (0.05, 0.1, 0.2, 0.3, 0.5):
        low = probabilities < below
        print(
            f"  --below {below}: leaves out {low.mean():.1%}: {low[swapped].mean():.1%} of the "
            f"swapped, {low[~swapped].mean():.1%} of the others"
        )
    print(f"  problems of words: {json.dumps(dict(found.problems))}")
    cut_words(said)
    assert every.pairs == len(texts)
    print(
        f"  {len(texts):,} pairs: {seconds:.1f} s with {count:,} explained, {filtering:.1f} s with "
        f"50 and a list below 0.2"
    )


if __name__ == "__main__":
    main()

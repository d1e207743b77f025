"""Measure whether relevance separates real queries from meaningless ones, and what it is worth.

Usage: python benchmarks/relevance.py CAPTIONS [--split dev] [--model starter] [--cache FOLDER]
           [--fit]

CAPTIONS is a JSONL file with image, captions and split, like Flickr8k's. Real queries are its
captions, its pictures, and the short questions of nonsense.py, which also makes the meaningless
ones. Prints the AUC of the best hit's value, real against meaningless, for relevance and for the
alternatives; then how often hits of each relevance are right. A hit is right if it belongs to the
query, or, for a short question, if its captions contain the words. With --fit, it prints the fits
of relevance_fit.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from captions import Split, encode_images, encode_texts
from nonsense import SHORT, nonsense_images, nonsense_texts
from relevance_fit import Direction, fit

from twinlens.search.models.base import Rows
from twinlens.search.models.load import open_encoder
from twinlens.search.query.calibration import (
    QUERY_SAMPLE,
    ROW_SAMPLE,
    SENTENCE_SPREAD,
    SENTENCES,
    Calibration,
    Modality,
)
from twinlens.search.query.embed import phrase
from twinlens.search.records import Target

Values = np.ndarray


def auc(real: Values, nonsense: Values) -> float:
    """How often a real query's value is above a nonsense one's (ties count half)."""
    below = np.searchsorted(np.sort(nonsense), real, side="left").sum()
    up_to = np.searchsorted(np.sort(nonsense), real, side="right").sum()
    return float((below + up_to) / 2 / (len(real) * len(nonsense)))


def candidates(
    modality: Modality,
    target: Target,
    gallery: Rows,
    asking: Rows,
    owned: Values,
    spread_factor: float = 1.0,
) -> dict[str, Callable[[Rows], Values]]:
    """Ways to judge a query by its best hit, each a function of rows of queries."""
    dice = np.random.default_rng(0)
    drawn = dice.permutation(len(gallery))[:ROW_SAMPLE]
    typical = dice.permutation(len(asking))[:QUERY_SAMPLE]
    sample = gallery[drawn]
    calibration = Calibration.of(
        modality,
        target,
        sample,
        asking[typical],
        len(gallery),
        related=owned[np.ix_(typical, drawn)] if len(owned) else None,
        spread_factor=spread_factor,
    )

    def best(queries: Rows) -> Values:
        cosines = queries @ gallery.T
        # A picture that asks for pictures must not find itself.
        return np.where(cosines > 0.999, -1, cosines).max(axis=1)

    def own(queries: Rows) -> Values:
        return queries @ sample.T

    def hit_side(queries: Rows) -> Values:
        against = asking[typical] @ gallery[(queries @ gallery.T).argmax(axis=1)].T
        return (best(queries) - against.mean(axis=0)) / against.std(axis=0)

    def query_side(queries: Rows) -> Values:
        return (best(queries) - own(queries).mean(axis=1)) / own(queries).std(axis=1)

    def tail(queries: Rows) -> Values:
        background = own(queries)
        bar = np.quantile(background, 0.9, axis=1)
        excess = np.where(background > bar[:, None], background - bar[:, None], 0).sum(axis=1)
        return (best(queries) - bar) / (excess / (background > bar[:, None]).sum(axis=1))

    def robust(queries: Rows) -> Values:
        middle = np.median(own(queries), axis=1)
        deviation = np.median(abs(own(queries) - middle[:, None]), axis=1)
        return (best(queries) - middle) / deviation

    def ours(queries: Rows) -> Values:
        tops = best(queries)
        return np.array(
            [calibration.relevance(q, [s])[0] for q, s in zip(queries, tops, strict=True)]
        )

    def close(queries: Rows) -> Values:
        tops = best(queries)
        found = [calibration.nothing_close(q, s) for q, s in zip(queries, tops, strict=True)]
        return ~np.array(found)

    return {
        "relevance (ours)": ours,
        "cosine": best,
        "z among the query's own strangers": query_side,
        "the same by median and MAD": robust,
        "exponential tail of the query's own strangers": tail,
        "z of the hit among typical queries": hit_side,
        "mean of both z": lambda q: (query_side(q) + hit_side(q)) / 2,
        "close": close,
    }


def report(
    title: str,
    judges: dict[str, Callable[[Rows], Values]],
    real: dict[str, Rows],
    nonsense: Rows,
    details: bool = True,
) -> None:
    """The AUCs, and how many of each kind of query are told that nothing is close."""
    print(f"\n{title}")
    for name, judge in judges.items():
        if name == "close" or not (details or "ours" in name):
            continue
        found = {kind: auc(judge(rows), judge(nonsense)) for kind, rows in real.items()}
        print(f"  AUC {name:48}" + "  ".join(f"{k} {v:.3f}" for k, v in found.items()))
    told = {kind: 1 - judges["close"](rows).mean() for kind, rows in real.items()}
    told["nonsense"] = 1 - judges["close"](nonsense).mean()
    print("  nothing close: " + ", ".join(f"{share:.1%} of {k}" for k, share in told.items()))


def worth(
    title: str, modality: Modality, target: Target, queries: Rows, gallery: Rows, right: Values,
    asking: Rows, owned: Values,
) -> None:  # fmt: skip
    """Of the ten best hits of each query: how many were right, by their relevance."""
    dice = np.random.default_rng(0)
    drawn, typical = (
        dice.permutation(len(gallery))[:ROW_SAMPLE],
        dice.permutation(len(asking))[:QUERY_SAMPLE],
    )
    calibration = Calibration.of(
        modality, target, gallery[drawn], asking[typical], len(gallery),
        related=owned[np.ix_(typical, drawn)],
    )  # fmt: skip
    said, was = [], []
    for row, answers in zip(queries, right, strict=True):
        scores = gallery @ row
        hits = np.argsort(-scores)[:10]
        said += calibration.relevance(row, scores[hits].tolist())
        was += answers[hits].tolist()
    relevance, correct = np.array(said), np.array(was)
    cells = []
    for low, high in ((0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01)):
        these = (relevance >= low) & (relevance < high)
        if these.any():
            share = f"{correct[these].mean():.2f}" if these.sum() >= 10 else "–"
            cells.append(f"{low:.2f}–{min(high, 1):.2f}: {share} ({these.sum():,})")
    print(f"  {title:34}" + "   ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--cache", type=Path, help="keep embeddings here")
    parser.add_argument("--fit", action="store_true", help="fit CURVES and FLOORS instead")
    options = parser.parse_args()
    encoder = open_encoder(options.model, device="cpu")
    split = Split(options.captions, options.split, options.cache)
    rows = split.rows()
    said = [caption for row in rows for caption in row["captions"]]
    owner = np.repeat(np.arange(len(rows)), [len(row["captions"]) for row in rows])
    cached = partial(split.cached, encoder)

    mad = [text for kind in nonsense_texts().values() for text in kind]
    stamp = hashlib.sha256(json.dumps([mad, SHORT, SENTENCES]).encode()).hexdigest()[:8]
    images = cached("images", lambda: encode_images(encoder, split.pictures(encoder)))
    texts = cached("texts", lambda: encode_texts(encoder, said))
    short = cached(
        f"short-{stamp}",
        lambda: encode_texts(encoder, [phrase(query, "images") for query, _ in SHORT]),
    )
    no_texts = cached(f"no-texts-{stamp}", lambda: encode_texts(encoder, mad))
    everyday = cached(f"everyday-{stamp}", lambda: encode_texts(encoder, list(SENTENCES)))
    no_images = cached(
        f"no-images-{stamp}",
        lambda: encode_images(encoder, (image for _, image in nonsense_images())),
    )
    owned = owner[:, None] == np.arange(len(rows))
    together = [" ".join(row["captions"]).lower() for row in rows]
    holds = np.array(
        [
            [all(re.search(rf"\b{word}", text) for word in words.split()) for text in together]
            for _, words in SHORT
        ]
    )
    if options.fit:
        said_lower = [text.lower() for text in said]
        seen, none = np.arange(len(rows)), np.empty((0, len(rows)), bool)
        asked = np.array(
            [
                [
                    all(re.search(rf"\b{word}", text) for word in words.split())
                    for text in said_lower
                ]
                for _, words in SHORT
            ]
        )
        known = holds.any(axis=0)  # pictures that a short question asks for
        own = owned.T | (holds.T.astype(np.float32) @ asked.astype(np.float32) > 0)
        typed = np.flatnonzero(asked.any(axis=0))[::5]
        both = asked.T[typed].astype(np.float32) @ asked.astype(np.float32) > 0
        same = both | (owner[typed, None] == owner[None])
        directions = [
            Direction("text", "images", short, holds, images, seen, texts, owner, no_texts),
            Direction(
                "image", "texts", images[known], own[known], texts, owner, images, seen, no_images
            ),
            Direction("text", "texts", texts[typed], same, texts, owner, texts, owner, no_texts),
            Direction("image", "images", images[:0], none, images, seen, images, seen, no_images),
        ]
        fit(directions, len(rows), options.split)
        return
    print(
        f"{encoder.fingerprint.label}: {len(images):,} pictures, {len(texts):,} captions, "
        f"{len(short)} short questions; nonsense: {len(no_texts)} texts, {len(no_images)} pictures"
    )
    some = slice(0, None, 5)
    real = {"captions": texts[some], "short": short}
    judges = candidates("text", "images", images, texts, owned)
    report(f"text → {len(images):,} pictures", judges, real, no_texts)
    start = 0
    for kind, queries in nonsense_texts().items():
        told = 1 - judges["close"](no_texts[start : start + len(queries)]).mean()
        print(f"    {kind}: nothing close for {told:.1%}")
        start += len(queries)
    judges = candidates("text", "images", images, everyday, np.empty(0), SENTENCE_SPREAD)
    report("the same without captions in the collection", judges, real, no_texts, False)
    lookup = candidates("image", "texts", texts, images, owned.T)
    report(f"picture → {len(texts):,} captions", lookup, {"pictures": images}, no_images)
    alike = candidates("image", "images", images, images, np.eye(len(rows), dtype=bool))
    report(f"picture → {len(images):,} pictures", alike, {"pictures": images}, no_images, False)
    for count in (250, 64, 10):
        part = np.sort(np.random.default_rng(count).permutation(len(rows))[:count])
        mine = np.isin(owner, part)
        judges = candidates("text", "images", images[part], texts[mine], owned[np.ix_(mine, part)])
        report(f"text → {count} pictures", judges, {"captions": texts[mine]}, no_texts, False)

    kennel = np.array([bool(re.search(r"\bdogs?\b", text)) for text in together])
    dogs = short[[bool(re.search("dog|pupp|grey|german", query)) for query, _ in SHORT]]
    print("\nHow much of a query's own mean counts: AUC")
    for weight in (0, 0.25, 0.5, 0.75, 1):
        leaning = [
            ("short questions", short, images, no_texts, texts),
            (f"dogs among {kennel.sum()} of dogs", dogs, images[kennel], no_texts, texts),
            ("pictures → captions", images, texts, no_images, images),
        ]
        cells = []
        for name, asked, gallery, mad_ones, typical in leaning:
            centre = float((typical[::9] @ gallery.T).mean())
            values = [
                (q @ gallery.T).max(1) - weight * ((q @ gallery.T).mean(1) - centre)
                for q in (asked, mad_ones)
            ]
            cells.append(f"{name} {auc(*values):.3f}")
        print(f"  {weight:<5}" + "   ".join(cells))

    print("\nHow many of the ten best hits were right, by their relevance (number of hits):")
    worth("short questions", "text", "images", short, images, holds, texts, owned)
    part = np.sort(np.random.default_rng(64).permutation(len(rows))[:64])
    mine = np.isin(owner, part)
    worth(
        "short questions, 64 pictures", "text", "images", short, images[part], holds[:, part],
        texts[mine], owned[np.ix_(mine, part)],
    )  # fmt: skip
    worth("captions (only their own picture)", "text", "images", texts[some], images,
          owned[some], texts, owned)  # fmt: skip
    worth("pictures (only their own captions)", "image", "texts", images, texts, owned.T,
          images, owned.T)  # fmt: skip


if __name__ == "__main__":
    main()

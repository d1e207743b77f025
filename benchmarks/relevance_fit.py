"""Fit what relevance is made of: CURVES to labelled hits, FLOORS to meaningless queries.

``python benchmarks/relevance.py CAPTIONS --fit`` prints both beside what calibration.py has. Hits
of short questions are right if their captions contain the words. A caption is right for a picture,
or for another caption, if both belong together, or if the words of one short question are in both.
Nobody labelled which pictures are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twinlens.search.models.base import Rows
from twinlens.search.query.calibration import (
    CURVES,
    FLOORS,
    QUERY_SAMPLE,
    ROW_SAMPLE,
    Calibration,
    Modality,
    logistic,
)
from twinlens.search.records import Target

Values = np.ndarray

#: The share of meaningless queries that should stay below the floor.
BELOW = {"text": 0.95, "image": 0.90}
#: Pictures of a collection.
SIZES = (10, 64, 250, 1_000)
#: The best hits of a query that are looked at.
TOP = 10
#: The bounds of relevance in the table.
BINS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.01)


@dataclass(frozen=True)
class Direction:
    """One direction of searching a collection.

    Attributes:
        modality, target: the direction.
        queries: real queries, rows of ``[n, dim]``; empty where nobody labelled their hits.
        right: bool ``[n, m]``: which rows of the gallery are right for each query.
        gallery: what is searched ``[m, dim]``.
        picture: the number of the picture that each row of the gallery belongs to ``[m]``.
        typical, typical_picture: rows that serve as typical queries, with their pictures.
        meaningless: queries that match nothing ``[k, dim]``.
    """

    modality: Modality
    target: Target
    queries: Rows
    right: Values
    gallery: Rows
    picture: Values
    typical: Rows
    typical_picture: Values
    meaningless: Rows

    def within(self, pictures: Values) -> tuple[Calibration, Rows, Values]:
        """The calibration of a collection of some pictures, its rows, and where they were."""
        kept = np.flatnonzero(np.isin(self.picture, pictures))
        asking = np.flatnonzero(np.isin(self.typical_picture, pictures))
        dice = np.random.default_rng(0)
        drawn, asked = dice.permutation(kept)[:ROW_SAMPLE], dice.permutation(asking)[:QUERY_SAMPLE]
        related = self.typical_picture[asked][:, None] == self.picture[drawn][None]
        calibration = Calibration.of(
            self.modality, self.target, self.gallery[drawn], self.typical[asked], len(kept),
            related=related,
        )  # fmt: skip
        return calibration, self.gallery[kept], kept

    def hits(self, pictures: Values) -> tuple[Calibration, Values, Values]:
        """z of the best hits of all queries among some pictures, and which were right."""
        calibration, rows, kept = self.within(pictures)
        z, was = [], []
        for query, right in zip(self.queries, self.right[:, kept], strict=True):
            scores = np.where((found := rows @ query) > 0.999, -1, found)  # not the query itself
            best = np.argsort(-scores)[:TOP]
            z.append(calibration.z_scores(query, scores[best]))
            was.append(right[best])
        return calibration, np.concatenate(z), np.concatenate(was)


def curve(z: Values, right: Values) -> tuple[float, float]:
    """``half`` and ``width`` by logistic regression, with Newton's method."""
    design, weights = np.stack([np.ones_like(z), z], axis=1), np.zeros(2)
    for _ in range(50):
        said = logistic(design @ weights)
        curvature = (design * (said * (1 - said))[:, None]).T @ design
        weights += np.linalg.solve(curvature, design.T @ (right - said))
    return float(-weights[0] / weights[1]), float(1 / weights[1])


def floor(one: Direction, pictures: int) -> tuple[float, float, list[tuple[int, float]]]:
    """``offset`` and ``slope`` by least squares, and the z they follow, by rows."""
    points = []
    for size in SIZES:
        some = np.random.default_rng(size).permutation(pictures)[:size]
        calibration, rows, _ = one.within(some)
        best = (one.meaningless @ rows.T).max(axis=1)
        z = [calibration.z_scores(q, [s])[0] for q, s in zip(one.meaningless, best, strict=True)]
        points.append((len(rows), float(np.quantile(z, BELOW[one.modality]))))
    growth = [math.sqrt(2 * math.log(count)) for count, _ in points]
    slope, offset = np.polyfit(growth, [z for _, z in points], 1)
    return float(offset), float(slope), points


def fit(directions: Sequence[Direction], pictures: int, split: str) -> None:
    """Print the fits, and how well one half of the pictures predicts the other."""
    print(f"Fitted on {pictures:,} pictures of the split {split or '(all)'}; in use in brackets")
    for one in directions:
        key = one.modality, one.target
        print(f"\n{one.modality} → {one.target}")
        if len(one.queries):
            for size in [n for n in SIZES if 10 < n <= pictures]:
                some = np.random.default_rng(size).permutation(pictures)[:size]
                half, width = curve(*one.hits(some)[1:])
                used = "({:.2f}, {:.2f})".format(*CURVES[key])
                print(f"  {size:>5,} pictures: half {half:.2f}, width {width:.2f} {used}")
            _halves(one, pictures)
        else:
            print("  half and width: no labels")
        offset, slope, points = floor(one, pictures)
        used = "({:.2f}, {:.2f})".format(*FLOORS[key])
        print(f"  floor: offset {offset:.2f}, slope {slope:.2f} {used}; z by rows: "
              + ", ".join(f"{count:,}: {z:.2f}" for count, z in points))  # fmt: skip


def _halves(one: Direction, pictures: int) -> None:
    """Fit on each half of the pictures; print the share of right hits in the other half."""
    order = np.random.default_rng(1).permutation(pictures)
    first, second = order[: pictures // 2], order[pictures // 2 :]
    said, was = [], []
    for fitted, other in ((first, second), (second, first)):
        half, width = curve(*one.hits(fitted)[1:])
        _, z, right = one.hits(other)
        said.append(logistic((z - half) / width))
        was.append(right)
    relevance, correct = np.concatenate(said), np.concatenate(was)
    cells = []
    for low, high in pairwise(BINS):
        these = (relevance >= low) & (relevance < high)
        if these.any():
            cells.append(
                f"{low:.2f}-{min(high, 1):.2f}: {correct[these].mean():.2f} ({these.sum():,})"
            )
    print("  fitted on one half, share right in the other: " + "  ".join(cells))

"""Name the regions of a map: what the pictures there show more often than those elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.describe import Labels
from twinlens.search.analysis.everyday import WORDS
from twinlens.search.analysis.projection import Points, Projection
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows

#: Regions of a map, at most; each has at least so many pictures on average.
MAX_REGIONS, MIN_PICTURES = 12, 12
#: Pictures nearest to the middle of a region that tell what it shows.
SAMPLE = 48
#: Rounds of k-means.
_ROUNDS = 30
_SEED = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a map.

    Attributes:
        name: what its pictures show: one of the labels.
        x, y: its middle, from -1 to 1.
        count: how many of the pictures on the map are nearest to it.
    """

    name: str
    x: float
    y: float
    count: int


def name_regions(
    collection: Collection,
    projection: Projection,
    encoder: Encoder,
    labels: Sequence[str] = WORDS,
) -> tuple[Region, ...]:
    """Divide a map into regions, and name each.

    Regions are found by k-means. A name is the label nearest to how the mean embedding of a region
    differs from the mean of all regions; no two regions share one.

    Args:
        collection: whose map it is.
        projection: the map.
        encoder: the collection's.
        labels: the names to choose from, at least two.

    Returns:
        Largest first; none for a map with few pictures.
    """
    number = min(MAX_REGIONS, len(projection.ids) // MIN_PICTURES, len(set(labels)))
    if number < 2:
        return ()
    centres, nearest = k_means(projection.points, number)
    middles = [
        _middle_ids(projection, centre, nearest == place) for place, centre in enumerate(centres)
    ]
    means = _means(collection, middles)
    names = _name(means, Labels(lambda: encoder, labels))
    counts = np.bincount(nearest, minlength=number)
    found = [
        Region(name, round(float(x), 4), round(float(y), 4), int(count))
        for name, (x, y), count in zip(names, centres, counts, strict=True)
        if count
    ]
    return tuple(sorted(found, key=lambda region: -region.count))


def k_means(points: Points, number: int) -> tuple[Points, npt.NDArray[np.intp]]:
    """Group points by Lloyd's algorithm, seeded by k-means++; the same each time.

    Returns:
        The centres, float32 ``[number, 2]``, and the nearest centre of each point.
    """
    random = np.random.default_rng(_SEED)
    centres = points[random.integers(len(points), size=1)]
    while len(centres) < number:
        far = _squared(points, centres).min(axis=1)
        total = float(far.sum())
        chance = far / total if total > 0 else None
        centres = np.concatenate([centres, points[random.choice(len(points), size=1, p=chance)]])
    for _ in range(_ROUNDS):
        nearest = _squared(points, centres).argmin(axis=1)
        moved = np.stack(
            [
                points[nearest == place].mean(axis=0) if (nearest == place).any() else centre
                for place, centre in enumerate(centres)
            ]
        )
        if np.allclose(moved, centres, atol=1e-4):
            break
        centres = moved
    return centres, _squared(points, centres).argmin(axis=1)


def _squared(points: Points, centres: Points) -> npt.NDArray[np.float64]:
    """Squared distances ``[points, centres]``."""
    apart = points[:, None, :].astype(np.float64) - centres[None, :, :]
    found: npt.NDArray[np.float64] = np.square(apart).sum(axis=2)
    return found


def _middle_ids(projection: Projection, centre: Points, inside: npt.NDArray[np.bool_]) -> list[str]:
    """The ids of the pictures of a region that are nearest to its middle."""
    (places,) = np.nonzero(inside)
    far = np.square(projection.points[places] - centre).sum(axis=1)
    return [projection.ids[place] for place in places[np.argsort(far, kind="stable")[:SAMPLE]]]


def _means(collection: Collection, groups: Sequence[list[str]]) -> Rows:
    """The mean embedding of each group of images, float32 ``[n, dim]``; zeros for an empty one."""
    rows = collection.get("images", [key for ids in groups for key in ids], ["id", "vector"])
    vectors = {row["id"]: row["vector"] for row in rows}
    means = np.zeros((len(groups), collection.fingerprint.dim), dtype=np.float32)
    for place, ids in enumerate(groups):
        found = [vectors[key] for key in ids if key in vectors]
        if found:
            means[place] = np.mean(np.array(found, dtype=np.float32), axis=0)
    return means


def _name(means: Rows, labels: Labels) -> list[str]:
    """A name for each mean; the region that a label tells apart best gets it."""
    different = means - means.mean(axis=0)
    different /= np.maximum(np.linalg.norm(different, axis=1, keepdims=True), 1e-9)
    offers = []
    for place, (texts, rows) in enumerate(labels.nearest(different, len(means) + MAX_REGIONS)):
        scores = (rows - rows.mean(axis=0)) @ different[place]
        offers += [(float(score), place, text) for text, score in zip(texts, scores, strict=True)]
    names: dict[int, str] = {}
    for _, place, text in sorted(offers, key=lambda offer: -offer[0]):
        if place not in names and text not in names.values():
            names[place] = text
    return [names.get(place, "") for place in range(len(means))]

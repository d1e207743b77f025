"""Name the regions of a map: what the pictures there show more often than those elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.describe import WORDS_FITTING, Labels, Match, with_prior
from twinlens.search.analysis.everyday import WORDS
from twinlens.search.analysis.projection import Points, Projection
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.query.calibration import Reals

#: Regions of a map, at most; each has at least so many pictures on average.
MAX_REGIONS, MIN_PICTURES = 12, 12
#: Pictures nearest to the middle of a region that tell what it shows.
SAMPLE = 48
#: A name is written at a picture that shows it with at least this probability.
MIN_PROBABILITY = 0.5
#: Of the pictures that show a name nearly as surely as the best one, the one in the middle has it.
NEARLY = 0.8
#: So many of a region's pictures show its name, at least, by the sum of their probabilities.
MIN_SHOWING = 1.0
#: Rounds of k-means.
_ROUNDS = 30
_SEED = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a map that has a name.

    Attributes:
        name: what its pictures show more often than others: one of the labels.
        id: a picture near its middle that shows this.
        x, y: that picture's place, from -1 to 1.
        count: how many of the pictures on the map are in this part.
    """

    name: str
    id: str
    x: float
    y: float
    count: int


def name_regions(
    collection: Collection,
    projection: Projection,
    encoder: Encoder,
    match: Match,
    labels: Sequence[str] = WORDS,
) -> tuple[Region, ...]:
    """Divide a map into regions, and name each at a picture that shows what the name says.

    Regions are found by k-means. A region's name is the label whose mean probability there, ``p``,
    stands out most from that on the whole map, ``q``, by ``p log(p / q)``; no two regions share
    one. A region with nothing that stands out, or without a picture that surely shows it, has none.

    Args:
        collection: whose map it is.
        projection: the map.
        encoder: the collection's.
        match: judges pairs of a label and a picture.
        labels: the names to choose from, at least two.

    Returns:
        Largest first; none for a map with few pictures.
    """
    number = min(MAX_REGIONS, len(projection.ids) // MIN_PICTURES, len(set(labels)))
    if number < 2:
        return ()
    centres, nearest = k_means(projection.points, number)
    middles = [
        _middle(projection, centre, nearest == place) for place, centre in enumerate(centres)
    ]
    vectors = _vectors(collection, [projection.ids[at] for at in np.concatenate(middles)])
    groups = [[at for at in middle.tolist() if projection.ids[at] in vectors] for middle in middles]
    # A region may have no pictures, or none that is still stored.
    places = [place for place, group in enumerate(groups) if group]
    if not places:
        return ()
    chosen = Labels(lambda: encoder, labels, WORDS_FITTING)
    shown = [
        _probabilities(
            np.stack([vectors[projection.ids[at]] for at in groups[place]]), chosen, match
        )
        for place in places
    ]
    found = []
    for which, label, at in choose(shown):
        place = places[which]
        point = groups[place][at]
        x, y = projection.points[point].tolist()
        name, count = chosen.labels[label], int((nearest == place).sum())
        found.append(Region(name, projection.ids[point], round(x, 4), round(y, 4), count))
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


def _squared(points: Points, centres: Points) -> Reals:
    """Squared distances ``[points, centres]``."""
    apart = points[:, None, :].astype(np.float64) - centres[None, :, :]
    found: Reals = np.square(apart).sum(axis=2)
    return found


def _middle(
    projection: Projection, centre: Points, inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.intp]:
    """The pictures of a region that are nearest to its middle, the nearest first."""
    (places,) = np.nonzero(inside)
    far = np.square(projection.points[places] - centre).sum(axis=1)
    return places[np.argsort(far, kind="stable")[:SAMPLE]]


def _vectors(collection: Collection, ids: list[str]) -> dict[str, Rows]:
    """The embeddings of those images that are still stored, float32 ``[dim]``."""
    rows = collection.get("images", ids, ["id", "vector"])
    return {row["id"]: np.array(row["vector"], dtype=np.float32) for row in rows}


def _probabilities(images: Rows, labels: Labels, match: Match) -> Reals:
    """How probable it is that images show labels: float64 ``[n, labels]``.

    Args:
        images: float32 unit rows ``[n, dim]``.
        labels: what they may show.
        match: judges pairs of a label and an image.
    """
    table = [match(np.broadcast_to(row, images.shape), images) for row in labels.rows]
    return with_prior(np.stack(table, axis=1), labels.prior)


def choose(groups: Sequence[Reals]) -> list[tuple[int, int, int]]:
    """The groups that get a label: their number, the label's, and the picture that has it.

    Args:
        groups: the probabilities of each, float64 ``[pictures, labels]``, of at least one picture.
    """
    everywhere = np.concatenate(groups).mean(axis=0)
    offers = []
    for place, shown in enumerate(groups):
        here = shown.mean(axis=0)
        # Nothing is said by what is nowhere.
        scores = here * np.log(np.maximum(here, 1e-9) / np.maximum(everywhere, 1e-9))
        enough = (shown.sum(axis=0) >= MIN_SHOWING) & (shown.max(axis=0) >= MIN_PROBABILITY)
        offers += [
            (float(scores[label]), place, int(label))
            for label in np.flatnonzero(enough & (scores > 0))
        ]
    chosen: dict[int, tuple[int, int, int]] = {}
    for _, place, label in sorted(offers, key=lambda offer: -offer[0]):
        if place not in chosen and all(label != other for _, other, _ in chosen.values()):
            likely = groups[place][:, label]
            sure = max(MIN_PROBABILITY, NEARLY * float(likely.max()))
            chosen[place] = place, label, int(np.argmax(likely >= sure))
    return list(chosen.values())

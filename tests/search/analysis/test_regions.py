"""Test the names of a map's regions."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.analysis.projection import project
from twinlens.search.analysis.regions import choose, k_means, name_regions
from twinlens.search.models.load import open_query_encoder

SAMPLES = Path(__file__).parents[3] / "samples"


def test_k_means_finds_separate_groups() -> None:
    random = np.random.default_rng(3)
    middles = np.array([[-0.8, -0.8], [0.8, -0.8], [0.0, 0.8]], dtype=np.float32)
    points = np.concatenate([one + random.normal(0, 0.03, (40, 2)) for one in middles])
    centres, nearest = k_means(points.astype(np.float32), 3)
    for start in (0, 40, 80):
        group = nearest[start : start + 40]
        assert len(set(group.tolist())) == 1
        np.testing.assert_allclose(centres[group[0]], middles[start // 40], atol=0.05)
    again, _ = k_means(points.astype(np.float32), 3)
    np.testing.assert_array_equal(centres, again)


def test_k_means_of_equal_points() -> None:
    centres, nearest = k_means(np.zeros((30, 2), dtype=np.float32), 4)
    assert centres.shape == (4, 2)
    assert set(nearest.tolist()) == {0}


def paint_many(folder: Path, *colours: str) -> None:
    """Make 16 pictures of each colour, below ``photos``."""
    (folder / "photos").mkdir()
    for colour in colours:
        for number in range(16):
            picture = Image.new("RGB", (20 + number, 20), COLOURS[colour])
            picture.save(folder / f"photos/{colour}{number}.png")


def test_regions_are_named_by_what_they_show(tmp_path: Path) -> None:
    paint_many(tmp_path, "red", "blue", "green")
    encoder = ColourEncoder()
    with twinlens.open(tmp_path / "x.db", model=encoder) as index:
        index.ingest(tmp_path / "photos")
        collection = index.engine.collection
        match = PairCalibration.of_collection(index.engine.calibrations, encoder).match
        whole = project(collection)
        found = name_regions(collection, whole, encoder, match, list(COLOURS))
        few = name_regions(collection, project(collection, limit=20), encoder, match, list(COLOURS))
        absent = ["orange", "purple", "yellow"]
        other = name_regions(collection, whole, encoder, match, absent)
        rows = chain.from_iterable(collection.scan("images", ["id", "path"]))
        pictures = {row["id"]: row["path"] for row in rows}
    names = [region.name for region in found]
    assert sorted(names) == ["blue", "green", "red"], "a region without pictures is none"
    assert sum(region.count for region in found) == 48
    for region in found:
        assert Path(pictures[region.id]).name.startswith(region.name)
        place = whole.points[whole.ids.index(region.id)]
        np.testing.assert_allclose([region.x, region.y], place, atol=1e-4)
    assert few == ()
    assert other == (), "what no picture shows names no region"


def test_pictures_deleted_after_the_map_was_made_are_left_out(tmp_path: Path) -> None:
    paint_many(tmp_path, "red", "blue")
    encoder = ColourEncoder()
    with twinlens.open(tmp_path / "x.db", model=encoder) as index:
        index.ingest(tmp_path / "photos")
        collection = index.engine.collection
        match = PairCalibration.of_collection(index.engine.calibrations, encoder).match
        whole = project(collection)
        rows = list(chain.from_iterable(collection.scan("images", ["id", "path"])))

        def names() -> list[str]:
            found = name_regions(collection, whole, encoder, match, list(COLOURS))
            return sorted(region.name for region in found)

        def delete(colour: str) -> None:
            gone = [row["id"] for row in rows if Path(row["path"]).name.startswith(colour)]
            collection.delete("images", gone)

        assert names() == ["blue", "red"]
        delete("blue")
        only_red = names()
        delete("red")
        assert names() == []
    # What is everywhere on the map stands out nowhere.
    assert only_red == []


def test_a_region_that_shows_nothing_in_common_has_no_name() -> None:
    surely = np.array([[0.9, 0.01], [0.95, 0.01], [0.6, 0.01]])
    mixed = np.array([[0.3, 0.2], [0.4, 0.2], [0.1, 0.2]])
    assert choose([surely, mixed]) == [(0, 0, 0)]
    assert choose([mixed, surely]) == [(1, 0, 0)]


def test_a_name_is_at_the_middlemost_picture_that_shows_it_well() -> None:
    shown = np.array([[0.1, 0.0], [0.85, 0.0], [0.99, 0.0]])
    elsewhere = np.zeros((9, 2))
    assert choose([shown, elsewhere]) == [(0, 0, 1)]


def test_regions_of_photographs_are_named_at_pictures_that_show_it(tmp_path: Path) -> None:
    captions = SAMPLES / "captions.jsonl"
    with twinlens.open(tmp_path / "x.db", model="starter") as index:
        index.ingest(SAMPLES / "photos", captions=captions)
        collection = index.engine.collection
        encoder = open_query_encoder(collection.fingerprint)
        assert encoder is not None
        match = PairCalibration.of_collection(index.engine.calibrations, encoder).match
        found = name_regions(collection, project(collection), encoder, match)
        said = {
            row["id"]: " ".join([*row["captions"], row["path"]]).lower()
            for row in chain.from_iterable(collection.scan("images", ["id", "captions", "path"]))
        }
    assert len(found) >= 3
    right = np.mean([region.name in said[region.id] for region in found])
    chance = np.mean([region.name in one for region in found for one in said.values()])
    assert right >= 0.6, [(region.name, said[region.id]) for region in found]
    assert right > 5 * chance

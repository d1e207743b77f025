"""Test the names of a map's regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.analysis.projection import project
from twinlens.search.analysis.regions import k_means, name_regions


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


def test_regions_are_named_by_what_they_show(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for colour in ("red", "blue", "green"):
        for number in range(16):
            Image.new("RGB", (20 + number, 20), COLOURS[colour]).save(
                tmp_path / f"photos/{colour}{number}.png"
            )
    encoder = ColourEncoder()
    with twinlens.open(tmp_path / "x.db", model=encoder) as index:
        index.ingest(tmp_path / "photos")
        collection = index.engine.collection
        found = name_regions(collection, project(collection), encoder, list(COLOURS))
        few = name_regions(collection, project(collection, limit=20), encoder, list(COLOURS))
    names = [region.name for region in found]
    assert sorted(names) == ["blue", "green", "red"], "a region without pictures is none"
    assert sum(region.count for region in found) == 48
    assert few == ()

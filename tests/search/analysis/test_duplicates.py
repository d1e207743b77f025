"""Exact duplicates, near-duplicates, and images that are neither."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import twinlens
from twinlens.cli import app
from twinlens.search.analysis import duplicates
from twinlens.search.analysis.duplicates import Group, connected
from twinlens.search.errors import FilterError, UsageError
from twinlens.search.models.base import Rows


def unit(rows: np.ndarray) -> Rows:
    found: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


@pytest.fixture
def several(photos: Path, paint: Callable[..., Path]) -> Path:
    """Eight colours; red in three sizes and twice again; blue twice."""
    paint("red", "photos/large.png", size=(400, 300))
    paint("red", "photos/small.png", size=(20, 15))
    shutil.copy(photos / "red.png", photos / "red-again.png")
    shutil.copy(photos / "blue.png", photos / "blue-again.png")
    return photos


@pytest.fixture
def stored(index: twinlens.Index, several: Path) -> twinlens.Index:
    index.ingest(several)
    return index


def names(group: Group) -> list[list[str]]:
    return [[Path(path).name for path in copy.paths] for copy in group.copies]


def test_the_largest_comes_first_and_equal_files_are_one_image(
    either: twinlens.Index, several: Path
) -> None:
    either.ingest(several)
    red, blue = either.duplicates()
    assert names(red) == [["large.png"], ["red-again.png", "red.png"], ["small.png"]]
    assert names(blue) == [["blue-again.png", "blue.png"]]
    assert (red.files, blue.files) == (4, 2)
    assert red.copies[0].similarity == pytest.approx(1)
    assert all(0.95 <= copy.similarity <= 1 for copy in red.copies)
    assert (red.copies[0].width, red.copies[0].height) == (400, 300)
    plain = red.to_dict()
    assert plain["pictures"][1]["paths"] == [str(path) for path in red.copies[1].paths]
    (small,) = either.duplicates(where='width < 100 and not path startswith "blue"')
    assert names(small) == [["red-again.png", "red.png"], ["small.png"]]


def test_deleted_paths_do_not_count(stored: twinlens.Index) -> None:
    blue = stored.duplicates()[1].copies[0]
    stored.delete(blue.paths[0])
    assert [names(group)[0] for group in stored.duplicates()] == [["large.png"]]


def test_what_is_deleted_meanwhile_makes_no_group_of_one_file(
    stored: twinlens.Index, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_and_connect(vectors: Rows, threshold: float) -> list[np.ndarray]:
        stored.delete(*(several / name for name in ("large.png", "small.png", "red-again.png")))
        stored.delete(several / "blue.png")
        return connected(vectors, threshold)

    monkeypatch.setattr(duplicates, "connected", delete_and_connect)
    assert stored.duplicates() == []


def test_a_filter_applies(stored: twinlens.Index) -> None:
    (red,) = stored.duplicates(where='path startswith "red" or path startswith "large"')
    assert names(red) == [["large.png"], ["red-again.png", "red.png"]]
    with pytest.raises(FilterError, match="no field nowhere"):
        stored.duplicates(where="nowhere == 1")


def test_a_lower_threshold_joins_more(stored: twinlens.Index) -> None:
    groups = stored.duplicates(0.001)
    assert max(len(group.copies) for group in groups) > 3
    assert stored.duplicates(np.float32(0.001)) == groups


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan"), "x", True])
def test_invalid_thresholds_are_rejected(stored: twinlens.Index, threshold: float) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        stored.duplicates(threshold)


def test_a_collection_without_duplicates_or_pictures(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    assert index.duplicates(0.99) == []
    index.delete(photos)
    assert index.duplicates() == []


def test_more_paths_than_an_image_row_holds(
    index: twinlens.Index, paint: Callable[..., Path], tmp_path: Path
) -> None:
    red = paint("red", "photos/0.png")
    for number in range(1, 80):
        shutil.copy(red, red.with_name(f"{number}.png"))
    index.ingest(red.parent)
    (group,) = index.duplicates()
    assert group.files == 80


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9, 1.0])
def test_groups_equal_those_of_a_brute_force_search(threshold: float) -> None:
    rng = np.random.default_rng(5)
    rows = unit(rng.normal(size=(60, 6)))
    rows = rows[rng.integers(60, size=100)]  # some are equal
    expected = list(range(100))
    for first in range(100):
        for second in range(100):
            if rows[first] @ rows[second] >= min(threshold, 1 - 1e-5):
                old, new = expected[first], expected[second]
                expected = [new if one == old else one for one in expected]
    groups = {tuple(np.flatnonzero(np.array(expected) == one)) for one in expected}
    assert {tuple(group) for group in connected(rows, threshold, block=(7, 11))} == groups
    assert len(groups) < 100


def test_a_chain_of_near_duplicates_is_one_group() -> None:
    angles = np.arange(10) * 0.2
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert [list(group) for group in connected(rows, 0.97)] == [list(range(10))]
    assert len(connected(rows, 0.99)) == 10


def test_the_command(stored: twinlens.Index, tmp_path: Path) -> None:
    stored.close()
    options = ["--db", str(tmp_path / "test.db")]
    done = CliRunner().invoke(app, ["duplicates", *options, "--json"])
    groups = [json.loads(line) for line in done.stdout.splitlines()]
    assert [group["files"] for group in groups] == [4, 2]
    assert groups[0]["pictures"][0]["relative_path"] == "large.png"
    shown = CliRunner().invoke(app, ["duplicates", *options]).stdout
    assert "400×300" in shown
    assert "2 groups of 6 files" in shown
    none = CliRunner().invoke(app, ["duplicates", *options, "--where", 'path endswith "k.png"'])
    assert none.stdout == "no duplicates\n"

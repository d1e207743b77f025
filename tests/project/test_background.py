"""The pictures that come with twinlens are free copies of the samples."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from support import ROOT

from twinlens.search.analysis.background import read_background

FOLDER = ROOT / "search" / "analysis" / "data" / "background"


def test_the_pictures_are_those_without_conditions() -> None:
    free = runpy.run_path(str(ROOT / "samples" / "background.py"))["free_photos"]()
    assert "things/rocket-01.jpg" in free  # public domain
    assert "animals/butterfly-01.jpg" not in free  # CC-BY-SA
    here = {path.name for path in (FOLDER / "pictures").iterdir()}
    assert here == {Path(name).name for name in free}


def test_their_captions_are_those_of_the_samples() -> None:
    lines = (ROOT / "samples" / "captions.jsonl").read_text("utf-8").splitlines()
    samples = {Path(row["image"]).name: row["captions"] for row in map(json.loads, lines)}
    lines = (FOLDER / "captions.jsonl").read_text("utf-8").splitlines()
    rows = list(map(json.loads, lines))
    assert {row["image"] for row in rows} == {path.name for path in (FOLDER / "pictures").iterdir()}
    assert all(row["captions"] == samples[row["image"]] for row in rows)


def test_the_package_stays_small() -> None:
    assert sum(map(len, read_background().images)) < 600_000

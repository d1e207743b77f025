"""Ingest with a model on several devices: the same collection as with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import twinlens


def ingested(folder: Path, model: Path, device: str) -> dict[str, np.ndarray]:
    """The vectors of pictures and captions, by id."""
    db = folder.parent / f"{len(device)}.db"
    with twinlens.open(db, model=str(model), device=device, precision="fp32") as index:
        report = index.ingest(folder)
        assert (report.images, report.texts, report.failed) == (70, 70, ())
        assert report.encode_seconds > 0
        collection = index.engine.collection
        return {
            row["id"]: np.asarray(row["vector"])
            for kind in ("images", "texts")
            for rows in collection.scan(kind, ["id", "vector"])
            for row in rows
        }


def test_several_devices_store_what_one_does(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    dice = np.random.default_rng(0)
    for number in range(70):
        pixels = dice.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {'very ' * (number % 9)} number {number}")
    one = ingested(folder, tiny_model, "cpu")
    three = ingested(folder, tiny_model, "cpu,cpu,cpu")
    assert one.keys() == three.keys()
    assert len(one) == 140
    for key, row in one.items():
        np.testing.assert_allclose(three[key], row, rtol=0, atol=1e-5)

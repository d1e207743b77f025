"""Relevance of hits: the calibration's formula, its cache, and results on small collections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import twinlens
from twinlens import cli as twinlens_cli
from twinlens.search.errors import UsageError
from twinlens.search.milvus.database import Database
from twinlens.search.query.calibration import (
    CURVES,
    MIN_QUERIES,
    ROW_SAMPLE,
    SENTENCES,
    Calibration,
    CalibrationCache,
    sample_rows,
)

DIM = 64


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def unrelated(seed: int, count: int = 400) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, DIM)))


def calibration(count: int = 1_000, **options: Any) -> Calibration:
    return Calibration.of("text", "images", unrelated(1), unrelated(2), count, **options)


def test_centre_and_spread_of_unrelated_pairs() -> None:
    # Random directions: mean 0, standard deviation 1 / sqrt(dim).
    made = calibration()
    assert made.centre == pytest.approx(0, abs=0.01)
    assert made.spread == pytest.approx(DIM**-0.5, rel=0.05)


def test_related_pairs_are_left_out() -> None:
    rows = unrelated(1, 20)
    alone = Calibration.of("text", "images", rows, rows, 20, related=np.eye(20, dtype=bool))
    mixed = Calibration.of("text", "images", rows, rows, 20)
    assert alone.spread < 0.8 * mixed.spread
    nobody = Calibration.of("image", "images", rows[:1], rows[:1], 1, related=np.ones((1, 1), bool))
    assert 0 < nobody.relevance(rows[0], [0.2])[0] < nobody.relevance(rows[0], [1.0])[0]


def test_relevance_is_half_at_half() -> None:
    made = calibration()
    half, width = CURVES["text", "images"]
    query = np.zeros(DIM, dtype=np.float32)  # no bias towards the sample
    middle = made.centre * (1 - 0.5 * 400 / 420) + half * made.spread
    one, two = made.relevance(query, [middle, middle + width * made.spread])
    assert one == pytest.approx(0.5)
    assert two == pytest.approx(1 / (1 + np.exp(-1)))


@settings(max_examples=50)
@given(
    st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=30),
    st.integers(1, 10**12),
    st.sampled_from(sorted(CURVES)),
    st.booleans(),
)
def test_relevance_rises_with_the_cosine(
    scores: list[float], count: int, direction: Any, sigmoid: bool
) -> None:
    made = Calibration.of(
        *direction, unrelated(1), unrelated(2), count, sigmoid=(100.0, -12.0) if sigmoid else None
    )
    found = made.relevance(unrelated(3)[0], sorted(scores))
    assert found == sorted(found)
    assert all(0 <= one <= 1 for one in found)


def test_a_query_close_to_everything_gets_lower_relevance() -> None:
    made = calibration()
    leaning = unit(made.sample.mean(axis=0, keepdims=True))[0]
    assert float((made.sample @ leaning).mean()) > 0.02
    assert made.relevance(leaning, [0.4])[0] < made.relevance(unrelated(3)[0], [0.4])[0]


def test_the_floor_rises_with_the_number_of_rows() -> None:
    # The largest of N random cosines, each time, against the floor for N rows.
    rng = np.random.default_rng(7)
    floors = []
    for count in (100, 10_000):
        made = calibration(count)
        floors.append(made.floor)
        queries = unit(rng.normal(size=(40, DIM)))
        # Meaningless queries spread less than typical ones: about 0.56 times as much.
        best = 0.56 * (queries @ unit(rng.normal(size=(count, DIM))).T).max(axis=1)
        told = [made.nothing_close(q, b) for q, b in zip(queries, best, strict=True)]
        assert np.mean(told) > 0.8
        assert not made.nothing_close(queries[0], 0.9)
    assert floors[0] < floors[1]


@pytest.mark.parametrize(("modality", "target"), CURVES)
def test_every_direction_has_its_floor(modality: Any, target: Any) -> None:
    # Offset and slope of FLOORS, worked out for 100 and 10,000 rows.
    expected = {
        ("text", "images"): (2.03, 2.73),
        ("image", "texts"): (2.24, 3.20),
        ("text", "texts"): (1.90, 2.73),
        ("image", "images"): (2.28, 3.22),
    }
    floors = [
        Calibration.of(modality, target, unrelated(1), unrelated(2), count).floor
        for count in (100, 10_000)
    ]
    assert floors == pytest.approx(expected[modality, target], abs=0.01)


def test_a_fused_query_is_compared_with_its_own_cosines() -> None:
    made = calibration(sigmoid=(100.0, -10.0))
    rows = made.sample
    query = unit(rows.mean(axis=0, keepdims=True))[0]  # close to everything
    fused = made.for_fused(query)
    cosines = rows @ query
    assert fused.centre == pytest.approx(cosines.mean())
    assert fused.spread == pytest.approx(cosines.std())
    assert fused.sigmoid is None
    assert fused.z_scores(query, cosines).mean() == pytest.approx(0, abs=1e-4)
    assert fused.z_scores(query, cosines).std() == pytest.approx(1, abs=1e-4)
    assert abs(made.centre - fused.centre) > made.spread / 4
    # In a small sample, the rows that the query looks for are a large part.
    few = unrelated(1, MIN_QUERIES - 1)
    small = Calibration.of("text", "images", few, unrelated(2), 31).for_fused(few[0])
    assert small.centre == pytest.approx((unrelated(2) @ few.T).mean(), abs=1e-6)


def test_scores_on_the_floor_are_not_relevant() -> None:
    query = np.zeros(DIM, dtype=np.float32)
    for count in (10, 1_000, 10**6, 10**9, 10**12):
        made = calibration(count)
        at_floor = made.centre * (1 - 0.5 * 400 / 420) + made.floor * made.spread
        assert made.relevance(query, [at_floor])[0] < 0.28


def test_the_sigmoid_of_a_model_counts() -> None:
    without, with_own = calibration(), calibration(sigmoid=(100.0, -20.0))
    query = unrelated(3)[0]
    scores = [0.1, 0.2, 0.3]
    own = [1 / (1 + np.exp(20 - 100 * score)) for score in scores]
    expected = np.maximum(own, without.relevance(query, scores))
    assert with_own.relevance(query, scores) == pytest.approx(expected.tolist())
    # It was trained on pairs of text and image, not of two images.
    alike = Calibration.of(
        "image", "images", unrelated(1), unrelated(2), 1_000, sigmoid=(100.0, -20.0)
    )
    assert alike.relevance(query, [0.3])[0] < 0.1


def test_hits_carry_relevance(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    hits = index.search("a red picture", limit=8)
    found = [hit.relevance for hit in hits]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.9 > 0.3 > found[-1]
    assert not hits.nothing_close
    assert hits[0].to_dict()["relevance"] == found[0]


def test_nothing_close(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    # The encoder knows colours and no other word.
    nothing = index.search("qwertz uiop")
    assert nothing.nothing_close
    assert nothing[0].relevance < 0.3
    assert not index.search("qwertz uiop", offset=1).nothing_close


def test_min_relevance_drops_hits(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    everything = index.search("red", limit=8)
    kept = index.search("red", limit=8, min_relevance=0.5)
    assert [hit.id for hit in kept] == [hit.id for hit in everything if hit.relevance >= 0.5]
    assert 0 < len(kept) < 8
    with pytest.raises(UsageError, match="must be at least 0 and at most 1"):
        index.search("red", min_relevance=5)


def test_images_find_images_and_texts(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    same = index.search(image=photos / "red.png")
    assert same[0].relevance > 0.99
    assert same[1].relevance < 0.9
    said = index.search(image=photos / "red.png", target="texts")
    assert said[0].text == "a red picture"
    assert said[0].relevance > 0.9
    row = np.zeros(16)
    row[0] = 1
    assert index.search(row)[0].relevance > 0.9


def test_one_picture_and_no_caption(index: twinlens.Index, paint: Callable[..., Path]) -> None:
    index.ingest(paint("red"))
    # One of the sentences mentions a red dress, of which this encoder sees only the red.
    assert index.search("red")[0].relevance > 0.5
    assert index.search("zzz").nothing_close
    assert index.search(image=paint("red"))[0].relevance > 0.99


def test_samples_are_cached_until_the_collection_grows(
    index: twinlens.Index, photos: Path, encoder: Any
) -> None:
    index.ingest(photos)
    calibrations = CalibrationCache(index.engine.collection, lambda: encoder)
    before = encoder.texts_seen
    first = calibrations.get("text", "images")
    assert first.count == len(first.sample) == 8
    assert encoder.texts_seen - before == len(SENTENCES)
    assert calibrations.get("text", "images") is first
    calibrations.max_age = 0.0
    assert calibrations.get("text", "images") is first
    for number in range(4):
        shade = photos / f"more{number}.png"
        shade.write_bytes((photos / "red.png").read_bytes() + bytes([number]))
    index.ingest(photos)
    again = calibrations.get("text", "images")
    assert again.count == len(again.sample) == 12
    assert encoder.texts_seen - before == len(SENTENCES)


def test_a_large_collection_is_sampled_at_random(tmp_path: Path, encoder: Any) -> None:
    rng = np.random.default_rng(0)
    with Database(str(tmp_path / "many.db")) as database:
        collection = database.create("many", encoder.fingerprint)
        rows = [
            {"id": rng.bytes(16).hex(), "vector": row, "text": "x", "image_id": "", "path": "",
             "relative_path": ""}
            for row in unit(rng.normal(size=(3 * ROW_SAMPLE, 16)))
        ]  # fmt: skip
        collection.upsert("texts", rows)
        sample = sample_rows(collection, "texts", collection.count("texts"))
        assert 0.9 * ROW_SAMPLE < len(sample.rows) <= ROW_SAMPLE
        assert len(np.unique(sample.rows, axis=0)) == len(sample.rows)
        # With so many texts, the built-in sentences are not used.
        asked = encoder.texts_seen
        made = CalibrationCache(collection, lambda: encoder).get("text", "texts")
        assert encoder.texts_seen == asked
        assert made.spread == pytest.approx(0.25, rel=0.1)


def test_the_command_prints_relevance(
    tmp_path: Path, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = twinlens.open
    monkeypatch.setattr(twinlens, "open", lambda db, name, **_: real(db, name, model=encoder))
    db = str(tmp_path / "cli.db")
    with real(db, model=encoder) as index:
        index.ingest(photos)
    run = CliRunner()
    found = run.invoke(twinlens_cli.app, ["search", "red", "--db", db]).output
    assert "nothing close" not in found
    assert "100%" in found
    nothing = run.invoke(twinlens_cli.app, ["search", "zzz", "--db", db]).output
    assert nothing.startswith("nothing close: the best hits are no nearer than chance")
    raw = run.invoke(twinlens_cli.app, ["search", "red", "--db", db, "--json", "-n", "1"]).output
    assert {"score", "relevance"} <= json.loads(raw).keys()


def test_there_are_enough_typical_queries() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES) >= MIN_QUERIES

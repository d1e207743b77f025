"""Queries of several parts are fused into one vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.search.errors import UsageError
from twinlens.search.query.engine import SearchEngine
from twinlens.search.query.fusion import fuse, spread
from twinlens.search.query.parts import MAX_PARTS, Id, Image, Not, Text, Vector, parse, signed


def unit_rows(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def engine(index: twinlens.Index, photos: Path) -> SearchEngine:
    """Images of one colour each, and three of two colours, half and half."""
    for one, other in (("red", "blue"), ("red", "green"), ("blue", "green")):
        both = Pillow.new("RGB", (40, 30), COLOURS[one])
        both.paste(COLOURS[other], (20, 0, 40, 30))
        both.save(photos / f"{one}-{other}.png")
    index.ingest(photos)
    return index.engine


def names(hits: list[twinlens.Hit]) -> list[str]:
    return [Path(hit.path).stem for hit in hits]


# ---- the formula


@given(st.integers(0, 1_000), st.lists(st.floats(-2, 2), min_size=1, max_size=4))
def test_the_fused_row_ranks_like_the_sum_of_standard_scores(
    seed: int, weights: list[float]
) -> None:
    rows, gallery = unit_rows(len(weights), 8, seed), unit_rows(50, 8, seed + 1)
    if not any(abs(weight) > 0.01 for weight in weights):
        return
    cosines = gallery @ rows.T
    standard = (cosines - cosines.mean(axis=0)) / cosines.std(axis=0)
    expected = standard @ np.array(weights)
    found = gallery @ fuse(rows, weights, spread(rows, gallery))
    # Equal up to scale and shift, which do not change the ranking.
    assert np.corrcoef(expected, found)[0, 1] == pytest.approx(1, abs=1e-4)


def test_texts_and_images_have_equal_weight_despite_different_spreads() -> None:
    # The image's cosines spread five times as wide as the text's.
    gallery = unit_rows(500, 4, 0)
    gallery[:, 0] *= 0.2
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    words, picture = np.eye(4, dtype=np.float32)[:2]
    row = fuse(np.stack([words, picture]), [1, 1], spread(np.stack([words, picture]), gallery))
    shares = (gallery * row).std(axis=0)
    assert shares[0] == pytest.approx(shares[1], rel=1e-4)


def test_a_small_collection_has_no_spread() -> None:
    assert spread(unit_rows(3, 4, 0), unit_rows(2, 4, 1)) == [1.0, 1.0, 1.0]


def test_the_weight_of_a_part_close_to_everything_is_bounded() -> None:
    same = np.tile(unit_rows(1, 4, 0), (20, 1))
    assert spread(unit_rows(1, 4, 1), same) == [pytest.approx(1e-3)]


def test_parts_that_cancel_out_are_rejected() -> None:
    row = unit_rows(1, 4, 0)[0]
    with pytest.raises(UsageError, match="nothing is left to search for"):
        fuse(np.stack([row, row]), [1, -1], [0.1, 0.1])


# ---- searching


def test_text_and_image_together(engine: SearchEngine, photos: Path) -> None:
    hits = engine.search(["red", Image(photos / "blue.png")], limit=3)
    assert set(names(hits)[:2]) == {"red", "blue"}
    assert hits[0].score >= hits[1].score
    assert -1 <= hits[-1].score <= hits[0].score <= 1


def test_the_score_of_a_fused_query_is_the_cosine_of_its_vector(
    engine: SearchEngine, encoder: ColourEncoder
) -> None:
    rows = encoder.texts(["a red one", "a blue one"])
    sample = np.array(
        [row["vector"] for row in engine.collection.query("images", 'id != ""', ["vector"], 100)],
        dtype=np.float32,
    )
    expected = fuse(rows, [1, 2], spread(rows, sample))
    hits = engine.search(["a red one", Text("a blue one", 2)], limit=20)
    by_vector = engine.search(Vector(expected), limit=20)
    assert [hit.id for hit in hits] == [hit.id for hit in by_vector]
    np.testing.assert_allclose([h.score for h in hits], [h.score for h in by_vector], atol=1e-5)


def test_not_moves_the_query_away(engine: SearchEngine) -> None:
    with_blue = names(engine.search(["red"], limit=20))
    without = names(engine.search(["red", Not("blue", 1)], limit=20))
    assert without[0] == "red"
    assert without[-1] == "blue"
    assert without.index("red-blue") > with_blue.index("red-blue")


def test_weights_change_the_ranking(engine: SearchEngine) -> None:
    assert names(engine.search([Text("red", 10), "blue"], limit=1)) == ["red"]
    assert names(engine.search(["red", Text("blue", 10)], limit=1)) == ["blue"]


def test_similar_to_a_stored_image_without_itself(engine: SearchEngine, photos: Path) -> None:
    (red,) = engine.search("red", limit=1)
    path = str(photos / "red.png")
    for name in (red.id, path, "red.png"):
        hits = engine.search(Id(name), limit=20)
        assert red.id not in [hit.id for hit in hits]
        assert len(hits) == 10
        assert [hit.id for hit in hits] == [
            hit.id for hit in engine.search(image=path, limit=20) if hit.id != red.id
        ]


def test_similar_to_a_stored_text(engine: SearchEngine) -> None:
    (text,) = engine.search("red", target="texts", limit=1)
    assert names(engine.search(Id(text.id), limit=1)) == ["red"]
    assert text.id not in [hit.id for hit in engine.search(Id(text.id), target="texts", limit=50)]


@pytest.mark.parametrize("name", ["0" * 32, "none.png", 'a"b\\', "no\0file", "http://a/b.png"])
def test_an_unknown_id_is_named(engine: SearchEngine, name: str) -> None:
    with pytest.raises(UsageError, match="nothing with the id or path"):
        engine.search(Id(name))


def test_likes_and_unlikes_move_the_query(engine: SearchEngine, photos: Path) -> None:
    plain = names(engine.search("red", limit=20))
    told = names(
        engine.search(
            "red", like=[str(photos / "green.png")], unlike=[str(photos / "blue.png")], limit=20
        )
    )
    assert told.index("red-green") < told.index("red-blue")
    assert told.index("red-green") <= plain.index("red-green")
    assert not {"green", "blue"} & set(told), "what was judged is not shown again"


def test_likes_alone_are_a_query(engine: SearchEngine, photos: Path) -> None:
    assert engine.search(like=[str(photos / "red.png")], limit=1)[0].path != str(photos / "red.png")


def test_a_filter_and_excluded_ids_combine(engine: SearchEngine) -> None:
    (red,) = engine.search("red", limit=1)
    hits = engine.search(Id(red.id), where='path startswith "red"', limit=20)
    assert set(names(hits)) == {"red-blue", "red-green"}


def test_a_fused_query_finds_something_close(engine: SearchEngine, photos: Path) -> None:
    hits = engine.search(["red", Image(photos / "red.png")], limit=11)
    assert names(hits)[0] == "red"
    relevances = [hit.relevance for hit in hits]
    assert relevances == sorted(relevances, reverse=True)
    assert relevances[0] > relevances[-1]


# ---- invalid queries


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ([], "give words or a picture"),
        ([Not("red")], "a query needs something to find"),
        (["red", 7], "not int"),
        (["red", ""], "the query is empty"),
        (["red"] * (MAX_PARTS + 1), f"at most {MAX_PARTS} parts"),
        (["red", ["blue"]], "not list"),
    ],
    ids=str,
)
def test_an_invalid_query_is_rejected(query: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(query)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), 1e9, "1", None, True])
def test_a_weight_must_be_a_positive_number(weight: object) -> None:
    for make in (
        lambda: Text("a", weight),  # type: ignore[arg-type]
        lambda: Image("a", weight),  # type: ignore[arg-type]
        lambda: Id("a", weight),  # type: ignore[arg-type]
        lambda: Not("a", weight),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match="a weight must be above 0"):
            make()


def test_not_takes_a_text_or_a_part() -> None:
    assert signed(Not("a", 0.5)) == (Text("a"), -0.5)
    assert signed(Not(Image("a.jpg", 2), 0.5)) == (Image("a.jpg", 2), -1.0)
    with pytest.raises(UsageError, match="not Not"):
        Not(Not("a"))  # type: ignore[arg-type]


def test_a_list_of_ids_is_not_one_id() -> None:
    with pytest.raises(UsageError, match="must be lists"):
        parse("red", like="abc")


# ---- batches


def test_a_batch_gives_the_same_hits_as_single_searches(
    engine: SearchEngine, encoder: ColourEncoder, photos: Path
) -> None:
    queries: list[object] = [
        "red",
        ["blue", Not("green")],
        Image(photos / "white.png"),
        Id("red.png"),
    ]
    alone = [engine.search(query, limit=4) for query in queries]
    together = engine.search_many(queries, limit=4)
    for one, many in zip(alone, together, strict=True):
        assert [hit.id for hit in many] == [hit.id for hit in one]
        np.testing.assert_allclose([h.score for h in many], [h.score for h in one], atol=1e-5)
        assert many.nothing_close == one.nothing_close


def test_a_batch_is_one_call_to_milvus(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    ask = engine.collection.client.search

    def counted(*args: object, **options: object) -> object:
        calls.append(options)
        return ask(*args, **options)

    monkeypatch.setattr(engine.collection.client, "search", counted)
    found = engine.search_many(list(COLOURS), limit=1)
    assert [Path(hits[0].path).stem for hits in found] == list(COLOURS)
    assert len(calls) == 1


def test_no_queries_find_nothing(engine: SearchEngine) -> None:
    assert engine.search_many([]) == []


def test_minimums_apply_to_a_batch(engine: SearchEngine) -> None:
    (hits,) = engine.search_many(["red"], limit=20, min_score=0.5)
    assert hits
    assert len(hits) < 11
    assert all(hit.score >= 0.5 for hit in hits)


def test_min_score_drops_hits(engine: SearchEngine) -> None:
    everything = engine.search("red", limit=20)
    hits = engine.search("red", limit=20, min_score=everything[3].score - 1e-6)
    assert [hit.id for hit in hits] == [hit.id for hit in everything[:4]]
    with pytest.raises(UsageError, match="min_score"):
        engine.search("red", min_score=2)

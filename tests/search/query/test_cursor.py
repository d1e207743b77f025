"""Pages stay correct while rows are inserted, near-duplicates merge, forged cursors fail."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.colours import ColourEncoder

import twinlens
from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.query.cursor import MAX_CURSOR, MAX_IDS, Cursor, merge_duplicates
from twinlens.search.query.engine import SearchEngine
from twinlens.search.query.hits import Hits
from twinlens.search.query.parts import Text, Vector
from twinlens.search.records import Row, image_id

DIM = 16
QUERY = Vector(np.eye(DIM)[0])


@pytest.fixture(scope="module", params=["lite", "server"])
def collection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collection]:
    """One collection for all tests: a server takes seconds to create one."""
    lite = str(tmp_path_factory.mktemp("pages") / "pages.db")
    home = lite if request.param == "lite" else request.getfixturevalue("server")
    name = f"pages_{uuid.uuid4().hex[:12]}"
    with Database(home) as database:
        try:
            yield database.create(name, ColourEncoder().fingerprint)
        finally:
            database.drop(name)


@pytest.fixture
def engine(collection: Collection) -> SearchEngine:
    """An engine on an empty collection."""
    rows = collection.query("images", 'id != ""', ["id"], 1_000)
    collection.delete("images", [row["id"] for row in rows])
    encoder = ColourEncoder()
    return SearchEngine(collection, lambda: encoder)


def row(name: str, score: float, turn: int = 1) -> Row:
    """A picture whose cosine with the query is ``score``; ``turn`` is the axis of the rest."""
    vector = np.zeros(DIM, dtype=np.float32)
    vector[0] = score
    vector[turn] = np.sqrt(max(0.0, 1 - score**2))
    return {
        "id": image_id(name.encode()), "vector": vector, "path": name, "relative_path": name,
        "paths": [name], "captions": [], "width": 1, "height": 1, "bytes": 1, "mtime": 0.0,
        "format": "PNG",
    }  # fmt: skip


def all_pages(engine: SearchEngine, limit: int, **asked: object) -> list[Hits]:
    pages = [engine.search(QUERY, limit=limit, **asked)]  # type: ignore[arg-type]
    while pages[-1].cursor:
        assert len(pages) < 100, "pages without end"
        pages.append(engine.search(limit=limit, cursor=pages[-1].cursor, **asked))  # type: ignore[arg-type]
    return pages


def paths(pages: list[Hits]) -> list[str]:
    return [hit.path for page in pages for hit in page]


def test_pages_add_up_to_the_whole(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n:02}", 0.9 - n / 50) for n in range(37)])
    pages = all_pages(engine, 10)
    assert paths(pages) == [f"{n:02}" for n in range(37)]
    assert [len(page) for page in pages] == [10, 10, 10, 7]


def test_ties_are_neither_repeated_nor_lost(engine: SearchEngine) -> None:
    same = [row(f"s{n}", 0.5, turn=1 + n % 10) for n in range(20)]
    engine.collection.upsert("images", [row("top", 0.9), *same, row("last", 0.1)])
    found = paths(all_pages(engine, 3))
    assert len(found) == len(set(found)) == 22
    assert (found[0], found[-1]) == ("top", "last")


def test_inserts_do_not_shift_pages(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n:02}", 0.9 - n / 50) for n in range(30)])
    first = engine.search(QUERY, limit=10)
    engine.collection.upsert("images", [row(f"above{n}", 0.95 + n / 1_000) for n in range(40)])
    engine.collection.upsert("images", [row("below", 0.9 - 10.5 / 50)])
    second = engine.search(limit=10, cursor=first.cursor)
    engine.collection.delete("images", [hit.id for hit in first])
    third = engine.search(limit=20, cursor=second.cursor)
    expected = [f"{n:02}" for n in range(30)]
    expected.insert(11, "below")
    assert paths([first, second, third]) == expected
    assert third.cursor == ""
    assert [hit.path for hit in engine.search(QUERY, limit=10, offset=10)] != paths([second])


def test_hits_of_a_page_are_complete(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n:02}", 0.9 - n / 50) for n in range(20)])
    whole = engine.search(QUERY, limit=20)
    pages = all_pages(engine, 7)
    for one, other in zip(whole, [hit for page in pages for hit in page], strict=True):
        assert one.to_dict() | {"score": 0, "relevance": 0} == other.to_dict() | {
            "score": 0,
            "relevance": 0,
        }
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.relevance == pytest.approx(other.relevance, abs=1e-3)


def test_pages_keep_to_the_filter(engine: SearchEngine) -> None:
    rows = [row(f"{n:02}", 0.9 - n / 50) | {"width": n % 2} for n in range(20)]
    engine.collection.upsert("images", rows)
    found = paths(all_pages(engine, 3, where="width == 1"))
    assert found == [f"{n:02}" for n in range(1, 20, 2)]


def test_pages_end_at_the_threshold(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n:02}", 0.9 - n / 50) for n in range(20)])
    pages = all_pages(engine, 4, min_score=0.75)
    assert paths(pages) == [f"{n:02}" for n in range(8)]


# ---- near-duplicates


def twins(count: int, copies: int) -> list[Row]:
    """``count`` images that differ, each with near-duplicates that score just below it."""
    return [
        row(f"{n}-{copy}", 0.5 - n / 100 - copy / 10_000, turn=1 + n)
        for n in range(count)
        for copy in range(copies)
    ]


def test_near_duplicates_are_merged_and_counted(engine: SearchEngine) -> None:
    engine.collection.upsert("images", twins(6, 8))
    hits = engine.search(QUERY, limit=5, collapse=0.95)
    assert [hit.path for hit in hits] == [f"{n}-0" for n in range(5)]
    assert [hit.duplicates for hit in hits] == [7] * 5
    assert [hit.duplicates for hit in engine.search(QUERY, limit=5)] == [0] * 5


def test_a_page_is_full_despite_merging(engine: SearchEngine) -> None:
    # The first hundred rows are near-duplicates.
    alike = [row(f"a{n}", 0.9 - n / 100_000) for n in range(100)]
    engine.collection.upsert(
        "images", [*alike, *(row(f"{n}", 0.3 - n / 100, 2 + n) for n in range(3))]
    )
    hits = engine.search(QUERY, limit=4, collapse=0.95)
    assert [hit.path for hit in hits] == ["a0", "0", "1", "2"]
    assert hits[0].duplicates == 99


def test_later_pages_do_not_repeat_merged_hits(engine: SearchEngine) -> None:
    engine.collection.upsert("images", twins(9, 5))
    # Below all others, yet a near-duplicate of a hit on page one.
    engine.collection.upsert("images", [row("late", 0.3, turn=1)])
    assert paths(all_pages(engine, 4, collapse=0.95)) == [f"{n}-0" for n in range(9)]


def test_an_offset_counts_merged_hits(engine: SearchEngine) -> None:
    engine.collection.upsert("images", twins(6, 4))
    hits = engine.search(QUERY, limit=2, offset=2, collapse=0.95)
    assert [hit.path for hit in hits] == ["2-0", "3-0"]


@pytest.mark.parametrize("cosine", [0.0, -1.0, 1.5, float("nan")])
def test_collapse_must_be_within_bounds(engine: SearchEngine, cosine: float) -> None:
    with pytest.raises(UsageError, match="collapse must be above 0 and at most 1"):
        engine.search(QUERY, collapse=cosine)


@given(st.integers(0, 500), st.integers(1, 8), st.floats(0.3, 0.99))
def test_kept_rows_are_no_duplicates_and_merged_ones_are_counted(
    seed: int, limit: int, cosine: float
) -> None:
    rows = np.random.default_rng(seed).normal(size=(30, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    merged = merge_duplicates(rows, limit, cosine, rows[:0])
    kept = rows[merged.kept]
    likeness = kept @ kept.T - 2 * np.eye(len(kept))
    assert likeness.max() <= cosine + 1e-6
    assert len(kept) <= limit
    assert sum(merged.duplicates) + len(kept) == merged.read
    assert merged.read == 30 or len(kept) == limit


# ---- untrusted cursors


PAGE = Cursor(
    np.eye(DIM, dtype=np.float32)[0], "text", False, "0" * 16, 10, 0.5, ("ab" * 16,), (), ()
)


HEAD = base64.urlsafe_b64decode(PAGE.encode()).partition(b"\n")[0]


def test_a_cursor_round_trips() -> None:
    back = Cursor.decode(PAGE.encode(), DIM)
    np.testing.assert_array_equal(back.row, PAGE.row)
    assert (back.depth, back.score, list(back.tied)) == (10, 0.5, ["ab" * 16])


def forged(**changes: object) -> str:
    data = base64.urlsafe_b64decode(PAGE.encode())
    head, _, tail = data.partition(b"\n")
    return base64.urlsafe_b64encode(
        json.dumps(json.loads(head) | changes).encode() + b"\n" + tail
    ).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "é",
        "AAAA",
        "=" * 8,
        PAGE.encode()[:-8],
        PAGE.encode() + "AAAA",
        "A" * (MAX_CURSOR + 1),
        base64.urlsafe_b64encode(b"[" * 50_000).decode(),
        base64.urlsafe_b64encode(b"null\n").decode(),
        forged(score="0.5"),
        forged(score=float("nan")),
        forged(score=1e400),
        forged(depth=-1),
        forged(depth=1.5),
        forged(depth=True),
        forged(modality="video"),
        forged(fused=1),
        forged(search=None),
        forged(tied=["x"]),
        forged(tied=['" or true']),
        forged(tied=None),
        forged(tied=["ab" * 16] * (MAX_IDS + 1)),
        forged(excluded=[7]),
        forged(more=1),
        forged(text="red"),
        forged(text=1),
        base64.urlsafe_b64encode(HEAD + b"\n").decode(),
        base64.urlsafe_b64encode(HEAD[:-1] + b',"text":" "}\n').decode(),
        base64.urlsafe_b64encode(HEAD[:-1] + b',"text":["a"]}\n').decode(),
    ],
    ids=lambda cursor: cursor[:12],
)
def test_a_forged_cursor_is_rejected(cursor: str) -> None:
    with pytest.raises(UsageError, match=r"not a cursor|another collection"):
        Cursor.decode(cursor, DIM)


def test_a_forged_vector_is_rejected() -> None:
    data = base64.urlsafe_b64decode(PAGE.encode())
    head = data.partition(b"\n")[0]
    for values in (np.full(DIM, np.nan), np.zeros(DIM), np.full(DIM, 9.0)):
        wrong = head + b"\n" + values.astype("<f4").tobytes()
        with pytest.raises(UsageError, match="not a cursor"):
            Cursor.decode(base64.urlsafe_b64encode(wrong).decode(), DIM)


@given(st.text(max_size=200))
def test_any_other_text_is_rejected(text: str) -> None:
    with pytest.raises(UsageError):
        Cursor.decode(text, DIM)


def test_a_depth_beyond_the_last_row_is_harmless(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n}", 0.9 - n / 50) for n in range(5)])
    first = engine.search(QUERY, limit=2)
    page = Cursor.decode(first.cursor, DIM)
    deep = Cursor(page.row, page.modality, page.fused, page.search, 10**12, page.score, page.tied)
    assert [hit.path for hit in engine.search(limit=9, cursor=deep.encode())] == ["2", "3", "4"]


def test_too_many_ties_end_the_pages() -> None:
    ids = tuple(f"{n:032x}" for n in range(MAX_IDS + 1))
    assert Cursor(PAGE.row, "text", False, "", 1, 0.5, ids).encode() == ""


def test_a_cursor_belongs_to_its_search(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n}", 0.9 - n / 50) for n in range(5)])
    cursor = engine.search(QUERY, limit=2).cursor
    for other in ({"where": "width == 1"}, {"target": "texts"}, {"collapse": 0.9}):
        with pytest.raises(UsageError, match="belongs to another search"):
            engine.search(cursor=cursor, **other)  # type: ignore[arg-type]
    for beside in ({"query": "red"}, {"offset": 2}, {"image": "a.jpg"}, {"like": ["a"]}):
        with pytest.raises(UsageError, match="contains its query"):
            engine.search(cursor=cursor, **beside)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="mode dense"):
        engine.search(cursor=cursor, mode="text")


def test_a_cursor_encodes_no_vector_and_no_text_twice(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n}", 0.9 - n / 50) for n in range(5)])
    encoder = engine._encoder()
    assert isinstance(encoder, ColourEncoder)
    for query in ("red", [QUERY, Text("red")]):
        cursor = engine.search(query, limit=2).cursor
        seen = encoder.texts_seen
        assert len(engine.search(cursor=cursor, limit=2)) == 2
        assert encoder.texts_seen == seen


@given(words=st.text("ab c\N{LATIN SMALL LETTER E WITH ACUTE}", min_size=1, max_size=40))
def test_the_cursor_of_a_text_is_short(words: str) -> None:
    cursor = replace(PAGE, row=None, text=f"{words}.")
    assert len(cursor.encode()) < 200 + 4 * len(words.encode())
    back = Cursor.decode(cursor.encode(), DIM)
    assert (back.text, back.row, back.excluded) == (f"{words}.", None, ())


def test_pages_of_a_text_continue_without_its_embedding(engine: SearchEngine) -> None:
    """Another process, or a server that was started again, has no cache."""
    engine.collection.upsert("images", [row(f"{n}", 0.9 - n / 50, turn=1 + n) for n in range(9)])
    whole = [hit.path for hit in engine.search("red", limit=9)]
    found, cursor = [], ""
    while not found or cursor:
        other = SearchEngine(engine.collection, ColourEncoder)
        page = other.search(cursor=cursor, limit=2) if found else other.search("red", limit=2)
        assert len(page.cursor) < 400
        found += [hit.path for hit in page]
        cursor = page.cursor
    assert found == whole


def test_a_long_text_is_carried_as_its_vector(engine: SearchEngine) -> None:
    engine.collection.upsert("images", [row(f"{n}", 0.9 - n / 50) for n in range(5)])
    cursor = Cursor.decode(engine.search("red " * 400, limit=2).cursor, DIM)
    assert cursor.text == ""
    assert cursor.row is not None


def test_query_items_are_excluded_on_every_page(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    (red,) = index.search("red", limit=1)
    page = index.search(twinlens.Id(red.id), limit=3)
    found = [hit.id for hit in page]
    while page.cursor:
        page = index.search(cursor=page.cursor, limit=3)
        found += [hit.id for hit in page]
    assert len(found) == len(set(found)) == 7
    assert red.id not in found

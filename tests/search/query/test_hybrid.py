"""Full-text and hybrid search in captions, file names and metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import twinlens
from twinlens.search.errors import UnsupportedError, UsageError
from twinlens.search.records import MAX_WORDS_BYTES, words_of


@pytest.fixture
def named(index: twinlens.Index, paint: Callable[..., Path]) -> twinlens.Index:
    """Images with words in captions and names that their colours do not show."""
    for colour, name, says in (
        ("red", "photos/IMG_2041.png", "the harbour of Valparaíso"),
        ("green", "photos/trips/ZermattGlacier.png", "a green picture"),
        ("blue", "photos/plain.png", "a red picture, says the caption"),
        ("white", "photos/other.png", ""),
    ):
        paint(colour, name).with_suffix(".txt").write_text(says)
    index.ingest(paint("black", "photos/black.png").parent)
    return index


def names(hits: list[twinlens.Hit]) -> list[str]:
    return [Path(hit.path).name for hit in hits]


@pytest.mark.parametrize(
    ("words", "finds"),
    [
        ("harbour", "IMG_2041.png"),
        ("HARBOUR", "IMG_2041.png"),
        ("2041", "IMG_2041.png"),
        ("glacier", "ZermattGlacier.png"),
        ("zermatt", "ZermattGlacier.png"),
        ("trips", "ZermattGlacier.png"),
        ('"caption" AND (says', "plain.png"),
    ],
)
def test_words_match_captions_names_and_metadata(
    named: twinlens.Index, words: str, finds: str
) -> None:
    assert names(named.search(words, mode="text")) == [finds]


def test_unknown_words_match_nothing(named: twinlens.Index) -> None:
    assert named.search("submarine", mode="text") == []


def test_hybrid_combines_both_rankings(named: twinlens.Index) -> None:
    by_meaning = names(named.search("red harbour", limit=1))
    assert by_meaning == ["IMG_2041.png"]
    hits = named.search("red", mode="hybrid")
    assert set(names(hits)[:2]) == {"IMG_2041.png", "plain.png"}, "red by its colour, and by words"
    assert len(hits) == 5
    assert names(named.search("a glacier", mode="hybrid", limit=1)) == ["ZermattGlacier.png"]


@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_scores_are_cosines_in_every_mode(named: twinlens.Index, mode: str) -> None:
    dense = {hit.id: hit.score for hit in named.search("red caption")}
    hits = named.search("red caption", mode=mode)
    assert hits
    for hit in hits:
        assert hit.score == pytest.approx(dense[hit.id], abs=1e-5)
        assert not {"vector", "words", "sparse"} & hit.metadata.keys()


def test_full_text_search_pages_by_offset(named: twinlens.Index) -> None:
    whole = names(named.search("red picture", mode="hybrid", limit=5))
    pages = [named.search("red picture", mode="hybrid", limit=2, offset=n) for n in (0, 2, 4)]
    assert [name for page in pages for name in names(page)] == whole
    assert [page.cursor for page in pages] == ["", "", ""]


def test_filters_apply_to_full_text_search(named: twinlens.Index) -> None:
    where = 'path startswith "plain"'
    assert names(named.search("picture", mode="text", where=where)) == ["plain.png"]
    assert names(named.search("picture", mode="hybrid", where=where)) == ["plain.png"]


def test_texts_match_by_their_words(named: twinlens.Index) -> None:
    (hit,) = named.search("harbour", target="texts", mode="text")
    assert hit.text == "the harbour of Valparaíso"


def test_changed_captions_and_paths_match(named: twinlens.Index, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "IMG_2041.txt").write_text("a lighthouse")
    (photos / "other.png").rename(photos / "seagull.png")
    named.ingest(photos, prune=True)
    assert named.search("harbour", mode="text") == []
    assert names(named.search("lighthouse", mode="text")) == ["IMG_2041.png"]
    assert names(named.search("seagull", mode="text")) == ["seagull.png"]
    assert named.search("other", mode="text") == []


def test_metadata_matches_words(index: twinlens.Index, paint: Callable[..., Path]) -> None:
    picture = paint("red")
    table = picture.parent.parent / "captions.csv"
    table.write_text("image,caption,photographer\nphotos/red.png,a picture,Ansel Weston\n")
    index.ingest(table)
    assert names(index.search("weston", mode="text")) == ["red.png"]


def test_near_duplicates_merge_in_every_mode(named: twinlens.Index) -> None:
    for mode in ("text", "hybrid"):
        hits = named.search("picture", mode=mode, collapse=0.99)
        assert names(hits) == names(named.search("picture", mode=mode))
        assert [hit.duplicates for hit in hits] == [0] * len(hits)


def test_text_mode_with_other_parts(named: twinlens.Index) -> None:
    hits = named.search(["harbour", twinlens.Not("blue")], mode="text")
    assert names(hits) == ["IMG_2041.png"]


def test_text_mode_needs_words(named: twinlens.Index, paint: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="mode hybrid needs a query with words"):
        named.search(image=paint("red"), mode="hybrid")
    with pytest.raises(UsageError, match="mode must be dense, hybrid or text"):
        named.search("red", mode="sparse")


def test_a_backend_without_full_text_search_says_so(
    either: twinlens.Index, paint: Callable[..., Path]
) -> None:
    either.ingest(paint("red"))
    hybrid = either.engine.collection.capabilities.hybrid
    for mode in ("text", "hybrid"):
        if hybrid:
            assert names(either.search("red", mode=mode)) == ["red.png"]
            continue
        with pytest.raises(UnsupportedError, match="has no full-text search: use mode dense"):
            either.search("red", mode=mode)
    assert names(either.search("red")) == ["red.png"]


# ---- searched words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("IMG_2041.jpg", "IMG 2041"),
        ("trips/SunsetBeach.jpg", "trips Sunset Beach"),
        ("a/b-c d.tar.gz", "a b c d tar"),
        ("Größe/Ærø2.png", "Größe Ærø 2"),
        ("東京タワー.jpg", "東京タワー"),
        ("noextension", "noextension"),
        ("", ""),
    ],
)
def test_the_words_of_a_path(path: str, words: str) -> None:
    assert words_of({"relative_path": path}) == words


def test_the_words_of_a_row() -> None:
    row = {
        "id": "ab", "path": "/home/me/x.jpg", "relative_path": "x.jpg", "paths": ["/home/me/x.jpg"],
        "captions": ["a dog", "a hound"], "camera": "Leica", "year": 2020, "format": "JPEG",
        "vector": [1.0], "words": "old",
    }  # fmt: skip
    assert words_of(row) == "a dog a hound x Leica"
    assert words_of({"text": "a dog", "relative_path": "", "path": ""}) == "a dog"


def test_the_words_of_a_row_are_bounded() -> None:
    words = words_of({"text": "é" * 60_000})
    assert len(words.encode()) <= MAX_WORDS_BYTES
    assert words == "é" * (MAX_WORDS_BYTES // 2)

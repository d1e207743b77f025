"""Full-text and hybrid search in captions, file names and metadata."""

from __future__ import annotations

import unicodedata
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


@pytest.mark.parametrize("mode", ["text", "hybrid"])
@pytest.mark.parametrize(
    ("query", "finds"),
    [
        ("IMG_2041", "IMG_2041.png"),
        ("img_2041.png", "IMG_2041.png"),
        ("IMG 2041", "IMG_2041.png"),
        ("2041", "IMG_2041.png"),
        ("IMG-2041.jpg", "IMG_2041.png"),
        ("photos/IMG_2041.png", "IMG_2041.png"),
        ("ZermattGlacier", "ZermattGlacier.png"),
        ("zermattglacier", "ZermattGlacier.png"),
        ("zermatt-glacier", "ZermattGlacier.png"),
        ("Zermatt glacier", "ZermattGlacier.png"),
        ("blue-hour", "blue-hour.png"),
        ("BlueHour", "blue-hour.png"),
        (unicodedata.normalize("NFD", "Größe"), "Größe.png"),
    ],
)
def test_a_name_finds_its_file_first(
    index: twinlens.Index, paint: Callable[..., Path], mode: str, query: str, finds: str
) -> None:
    for colour, name, says in (
        ("red", "IMG_2041.png", ""),
        ("green", "IMG_2040.png", "2041 of them, says the caption of IMG_2040"),
        ("black", "IMG_20411.png", "img img img"),
        ("white", "2041-05/IMG_0001.png", "a glacier, a glacier, at the blue hour"),
        ("blue", "trips/ZermattGlacier.png", ""),
        ("yellow", "blue-hour.png", ""),
        ("orange", "Größe.png", "")
    ):  # fmt: skip
        paint(colour, f"photos/{name}").with_suffix(".txt").write_text(says)
    index.ingest(paint("purple", "photos/other.png").parent)
    hits = index.search(query, mode=mode, min_relevance=0.999)
    assert names(hits)[0] == finds
    assert hits[0].by_words
    assert not hits.nothing_close
    assert names(index.search(query, mode=mode, collapse=0.9999))[0] == finds
    shown = names(index.search(query, mode=mode, limit=4))
    pages = [index.search(query, mode=mode, limit=1, offset=n) for n in range(len(shown))]
    assert [name for page in pages for name in names(page)] == shown


def test_a_name_is_found_that_only_a_copy_has(
    index: twinlens.Index, paint: Callable[..., Path]
) -> None:
    folder = paint("red", "photos/a.png").parent
    paint("red", "photos/z/IMG_7.png")
    index.ingest(folder)
    (hit,) = index.search("IMG_7", mode="text")
    assert [Path(path).name for path in hit.paths] == ["a.png", "IMG_7.png"]


def test_numbers_in_captions_and_metadata_are_words(
    index: twinlens.Index, paint: Callable[..., Path]
) -> None:
    table = paint("red").parent.parent / "captions.csv"
    table.write_text("image,caption,lens\nphotos/red.png,scan of IMG_2041,DSC-RX100M3\n")
    index.ingest(table)
    for query in ("2041", "img_2041", "RX100", "rx100m3"):
        assert names(index.search(query, mode="text")) == ["red.png"], query


def test_a_collection_with_words_of_an_earlier_version_is_searched_by_names(
    named: twinlens.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = named.engine.collection
    before = {"IMG_2041.png": "IMG 2041", "ZermattGlacier.png": "trips Zermatt Glacier"}
    monkeypatch.setattr(
        "twinlens.search.milvus.collection.words_of",
        lambda row: before.get(Path(row["path"]).name, "picture"),
    )
    for rows in collection.scan("images", ["*", "vector"]):
        collection.upsert("images", rows)
    for query, finds in (("IMG_2041", "IMG_2041.png"), ("ZermattGlacier", "ZermattGlacier.png")):
        for mode in ("text", "hybrid"):
            assert names(named.search(query, mode=mode))[0] == finds


def test_hits_by_words_are_not_judged_by_their_meaning(named: twinlens.Index) -> None:
    hits = named.search("harbour", mode="hybrid", min_relevance=0.999)
    assert [(Path(hit.path).name, hit.by_words) for hit in hits][:1] == [("IMG_2041.png", True)]
    assert all(hit.by_words or hit.relevance >= 0.999 for hit in hits)
    assert [hit.by_words for hit in named.search("harbour of dragons", mode="text")] == [True]
    assert not any(hit.by_words for hit in named.search("harbour"))
    assert not any(hit.by_words for hit in named.search("harbour dragons", mode="hybrid"))


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
        ("IMG_2041.jpg", "IMG_2041 IMG 2041"),
        ("trips/SunsetBeach.jpg", "trips SunsetBeach Sunset Beach"),
        ("a/b-c d.tar.gz", "a b c d tar"),
        ("2024.05/no extension", "2024 05 no extension"),
        ("Größe/Ærø2.png", "Größe Ærø2 Ærø 2"),
        (unicodedata.normalize("NFD", "Größe.png"), "Größe"),
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
    row["paths"].append("/home/me/two.jpg")
    assert words_of(row) == "a dog a hound x two Leica"
    assert words_of({"text": "a dog", "relative_path": "", "path": ""}) == "a dog"


def test_the_words_of_a_row_are_bounded() -> None:
    words = words_of({"text": "é" * 60_000})
    assert len(words.encode()) <= MAX_WORDS_BYTES
    assert words == "é" * (MAX_WORDS_BYTES // 2)

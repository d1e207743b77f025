"""The ledger's verdict on every path: new, changed, unchanged, failed before, missing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import twinlens
from twinlens.ingest.ledger import (
    TOMBSTONE,
    Ledger,
    LedgerEntry,
    failed_row,
    file_row,
    tombstone_row,
)
from twinlens.ingest.sample import Failure, Sample
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import MAX_PATH_BYTES, MAX_SHOWN_BYTES


def sample(uri: str = "/photos/a.png", **fields: object) -> Sample:
    given: dict[str, object] = {"root": "/photos", "relative": "a.png", "load": lambda: b"",
                                "size": 10, "mtime_ns": 20}  # fmt: skip
    return Sample(uri=uri, **(given | fields))  # type: ignore[arg-type]


@pytest.fixture
def collection(index: twinlens.Index, paint: Callable[..., Path]) -> Collection:
    """A collection with an empty ledger, and one picture."""
    path = paint("red", "other/seed.png")
    index.ingest(path)
    stored = index.engine.collection
    row = next(stored.scan("images", ["*", "vector"]))[0]
    index.delete(path)
    # The picture of the rows that tests add.
    stored.upsert("images", [{**row, "id": "1" * 32}])
    return stored


def test_without_a_collection_everything_is_new() -> None:
    ledger = Ledger(None)
    assert ledger.judge(sample()) == ("new", None)
    assert not ledger.has_image("1")


def test_a_path_is_judged_once() -> None:
    ledger = Ledger(None)
    assert ledger.judge(sample())[0] == "new"
    assert ledger.judge(sample())[0] == "seen"


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ({}, "unchanged"),
        ({"size": 11}, "changed"),
        ({"mtime_ns": 19}, "changed"),
        ({"captions": ("other",)}, "captions changed"),
        ({"captions": ("one", "two")}, "captions changed"),
        ({"metadata": {"year": 2021}}, "captions changed"),
        ({"captions": ("other",), "size": 11}, "changed"),
        ({"root": "/elsewhere", "relative": "b.png"}, "unchanged"),
    ],
)
def test_the_verdict_depends_on_what_differs(
    collection: Collection, now: dict[str, object], verdict: str
) -> None:
    before = sample(captions=("one",), metadata={"year": 2020})
    collection.upsert("files", [file_row(before, "1" * 32, [])])
    found, known = Ledger(collection).judge(replace(before, **now))
    assert found == verdict
    assert known == LedgerEntry(before.uri, "1" * 32, 10, 20, before.digest, "ok")


def test_a_source_without_captions_removes_none_unless_it_prunes(
    collection: Collection,
) -> None:
    before = sample(captions=("one",))
    collection.upsert("files", [file_row(before, "1" * 32, [])])
    silent = replace(before, captions=())
    assert Ledger(collection).judge(silent)[0] == "unchanged"
    assert Ledger(collection, prune=True).judge(silent)[0] == "captions changed"


def test_a_failed_file_is_skipped_until_it_changes(collection: Collection) -> None:
    collection.upsert("files", [failed_row(Failure("/photos/a.png", "broken"), sample())])
    ledger = Ledger(collection)
    assert ledger.judge(sample())[0] == "failed before"
    assert Ledger(collection).judge(sample(size=11))[0] == "changed"
    assert Ledger(collection).judge(sample(mtime_ns=21))[0] == "changed"
    assert not ledger.has_image("")


def test_an_image_is_claimed_once(collection: Collection) -> None:
    collection.upsert("files", [file_row(sample(), "1" * 32, [])])
    ledger = Ledger(collection)
    assert ledger.has_image("1" * 32)
    assert not ledger.claim("1" * 32)
    assert ledger.claim("2" * 32)
    assert ledger.has_image("2" * 32)
    assert not ledger.claim("2" * 32)


def gone(ledger: Ledger, *roots: str) -> list[str]:
    ledger.find_missing(roots)
    return [uri for batch in ledger.missing(2) for uri in batch]


def test_unseen_paths_that_do_not_exist_are_missing(
    collection: Collection, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    root = str(tmp_path / "photos")
    there = str(paint("red", "photos/there.png"))
    paths = [f"{root}/{name}" for name in ("a.png", "b/c.png", "d.png")]
    others = [f"{root}2/a.png", f"{tmp_path}/a.png", "/photos/a.png"]
    rows = [
        file_row(sample(uri, root="", relative=""), "1", []) for uri in [there, *paths, *others]
    ]
    collection.upsert("files", rows)
    ledger = Ledger(collection)
    ledger.judge(sample(paths[2]))
    assert gone(ledger, root) == paths[:2]
    assert ledger.is_missing(paths[0])
    assert not ledger.is_missing(there)


def test_nothing_below_a_seen_folder_is_missing(collection: Collection) -> None:
    rows = [file_row(sample(uri), "1", []) for uri in ("/photos/a/b.png", "/photos/c.png",
                                                       "/photos/z.tar!d.png")]  # fmt: skip
    collection.upsert("files", rows)
    ledger = Ledger(collection)
    ledger.mark_seen("/photos/a")
    ledger.mark_seen("/photos/z.tar")
    assert gone(ledger, "/photos") == ["/photos/c.png"]


def test_a_tombstone_remembers_the_replaced_image(collection: Collection) -> None:
    known = LedgerEntry("/photos/" + "é" * 2_040, "1" * 32, 1, 1, "", "ok")
    row = tombstone_row(known)
    assert row["path"].startswith(f"{TOMBSTONE}{'1' * 32} /photos/")
    assert len(row["path"].encode()) <= MAX_PATH_BYTES
    collection.upsert("files", [row])
    ledger = Ledger(collection)
    assert ledger.has_image("1" * 32)
    assert gone(ledger, "", "/photos") == []


def test_a_reason_is_cut_to_the_maximum_length(collection: Collection) -> None:
    row = failed_row(Failure("/photos/a.png", "ö" * 5_000), None)
    assert len(row["reason"].encode()) <= MAX_SHOWN_BYTES
    collection.upsert("files", [row])
    assert collection.count("files") == 1


def test_a_digest_distinguishes_captions_from_metadata() -> None:
    one = sample(captions=("a", "b"))
    assert one.digest == sample(captions=("a", "b")).digest
    digests = {one.digest, sample(captions=("b", "a")).digest, sample(captions=("a b",)).digest,
               sample(metadata={"a": "b"}).digest, sample().digest}  # fmt: skip
    assert len(digests) == 5


def test_a_ledger_closes_its_table() -> None:
    with Ledger(None) as ledger:
        ledger.judge(sample())
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        ledger.judge(sample())


def test_every_run_closes_its_ledger(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Ledger] = []
    closed: list[Ledger] = []
    init, close = Ledger.__init__, Ledger.close

    def opening(ledger: Ledger, *args: Any, **options: Any) -> None:
        opened.append(ledger)
        init(ledger, *args, **options)

    def closing(ledger: Ledger) -> None:
        closed.append(ledger)
        close(ledger)

    monkeypatch.setattr(Ledger, "__init__", opening)
    monkeypatch.setattr(Ledger, "close", closing)
    index.preview(photos)
    index.ingest(photos)
    index.intake().judge([])
    assert len(opened) == 3
    assert closed == opened

"""A ledger that names pictures which are not stored is not believed, and not for ever."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import twinlens
from twinlens.ingest.upload import Upload


def forget(index: twinlens.Index, *names: str) -> None:
    """Delete rows of pictures behind the ledger's back."""
    collection = index.engine.collection
    for rows in collection.scan("images", ["id", "path"]):
        gone = [row["id"] for row in rows if not names or Path(row["path"]).stem in names]
        collection.client.delete(
            collection.physical("images"), filter=collection.scope.where_ids("images", gone)
        )


def names(index: twinlens.Index) -> set[str]:
    index._session.reset_engine()
    pages = index.engine.collection.scan("images", ["path"], strong=True)
    return {Path(row["path"]).stem for rows in pages for row in rows}


@pytest.mark.parametrize("which", [("red", "blue"), ()], ids=["some", "all"])
def test_the_next_ingest_reads_what_is_lost_again(
    either: twinlens.Index,
    photos: Path,
    which: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    either.ingest(photos)
    whole = names(either)
    forget(either, *which)
    assert either.preview(photos).new == (len(which) or len(whole))
    with caplog.at_level(logging.WARNING, "twinlens"):
        report = either.ingest(photos)
    assert report.images == (len(which) or len(whole))
    assert report.unchanged == len(whole) - report.images
    assert not report.failed
    assert names(either) == whole
    assert f"of {report.images} paths in the ledger are not stored" in caplog.text
    assert either.ingest(photos).unchanged == len(whole)


def test_copies_of_a_lost_picture_are_read_once(
    index: twinlens.Index, paint: Callable[..., Path], tmp_path: Path
) -> None:
    paint("red", "photos/a.png")
    paint("red", "photos/b.png")
    index.ingest(tmp_path / "photos")
    forget(index)
    report = index.ingest(tmp_path / "photos")
    assert (report.images, report.duplicates) == (1, 1)
    (row,) = index.search("red", limit=5)
    assert len(row.paths) == 2


def test_an_upload_without_bytes_is_asked_for_them_again(
    index: twinlens.Index, paint: Callable[..., Path]
) -> None:
    data = paint("red").read_bytes()
    item = Upload("/red.png", size=len(data), mtime_ns=5)
    receiver = index.intake()
    receiver.put([Upload("/red.png", size=len(data), mtime_ns=5, data=data)])
    assert receiver.judge([item])[0].status == "unchanged"
    forget(index)
    assert receiver.judge([item])[0].status == "new"
    assert receiver.put([item]).wanted == (0,)
    stored = receiver.put([Upload("/red.png", size=len(data), mtime_ns=5, data=data)])
    assert [one.status for one in stored.items] == ["stored"]


def test_info_and_the_first_search_say_what_is_lost(
    index: twinlens.Index, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index.ingest(photos)
    assert index.info().lost == 0
    forget(index, "red")
    assert index.info().lost == 1
    index.search("red")
    assert not caplog.records  # this process wrote it: it has compared them already
    again = twinlens.Index(index._database, index.collection, model=index._model)
    again.search("red")
    again.search("blue")
    (record,) = caplog.records
    assert re.search(r"1 picture is in the ledger but not stored: ingest", record.getMessage())


def test_tenants_are_counted_together(
    tmp_path: Path, encoder: object, paint: Callable[..., Path]
) -> None:
    path = paint("red")
    with twinlens.open(tmp_path / "t.db", model=encoder, tenant="anna") as anna:  # type: ignore[arg-type]
        anna.ingest(path)
        whole = twinlens.Index(anna._database, anna.collection, model=anna._model)
        whole.for_tenant("otto").ingest(path)
        assert whole.info().lost == 0
        collection = anna.engine.collection
        for row in next(collection.scan("images", ["id"])):
            collection.client.delete(
                collection.physical("images"),
                filter=collection.scope.where_ids("images", [row["id"]]),
            )
        assert whole.info().lost == 1
        assert whole.for_tenant("otto").ingest(path).images == 0
        assert anna.ingest(path).images == 1

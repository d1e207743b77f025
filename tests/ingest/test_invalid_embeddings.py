"""A model gives numbers that are not finite: its item fails, and everything else is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.colours import ColourEncoder

import twinlens
from twinlens.search.errors import ModelError
from twinlens.search.models.base import Pixels, Rows

Paint = Callable[..., Path]


class Overflowing(ColourEncoder):
    """Overflows for black pictures, and for texts that are called so, until it is repaired."""

    broken = True

    def images(self, pixels: Pixels) -> Rows:
        rows = super().images(pixels)
        if self.broken:
            rows[pixels.reshape(len(pixels), -1).max(axis=1) < 20] = np.nan
        return rows

    def texts(self, texts: Sequence[str]) -> Rows:
        rows = super().texts(texts)
        if self.broken:
            rows[["overflow" in text for text in texts], 3] = np.inf
        return rows


@pytest.fixture
def overflowing() -> Overflowing:
    return Overflowing()


@pytest.fixture
def opened(tmp_path: Path, overflowing: Overflowing) -> Iterator[twinlens.Index]:
    with twinlens.open(tmp_path / "test.db", model=overflowing) as index:
        yield index


def names(index: twinlens.Index) -> list[str]:
    return sorted(Path(hit.path).name for hit in index.search("red", limit=20))


def test_a_picture_without_a_valid_embedding_fails_alone(
    opened: twinlens.Index, photos: Path, overflowing: Overflowing
) -> None:
    (photos / "again.png").write_bytes((photos / "black.png").read_bytes())
    report = opened.ingest(photos)
    assert (report.images, report.failed_count, report.texts) == (7, 2, 7)
    assert [Path(one.uri).name for one in report.failed] == ["again.png", "black.png"]
    assert "no valid embedding for it" in report.failed[0].reason
    assert len(names(opened)) == 7
    overflowing.broken = False  # transient: without ``retry_failed``
    report = opened.ingest(photos)
    assert (report.images, report.duplicates, report.failed_count) == (1, 1, 0)
    assert len(names(opened)) == 8
    assert opened.info().texts == 8


def test_a_caption_without_a_valid_embedding_fails_its_picture(
    opened: twinlens.Index, photos: Path, overflowing: Overflowing
) -> None:
    (photos / "black.png").unlink()
    (photos / "red.txt").write_text("red\nan overflow\n")
    (photos / "texts.jsonl").write_text('{"text": "overflow"}\n{"text": "green"}\n')
    report = opened.ingest(photos, photos / "texts.jsonl", texts_alone=True)
    assert (report.images, report.failed_count, report.texts) == (6, 2, 7)
    assert all("of its captions" in one.reason for one in report.failed)
    assert len(opened.search("red", target="texts", limit=20)) == 7
    overflowing.broken = False
    report = opened.ingest(photos, photos / "texts.jsonl", texts_alone=True)
    assert (report.images, report.texts, report.failed_count) == (1, 3, 0)


def test_what_is_stored_of_the_path_stays(
    opened: twinlens.Index, photos: Path, paint: Paint
) -> None:
    (photos / "black.png").unlink()
    opened.ingest(photos)
    before = names(opened)
    paint("black", "photos/green.png")
    (photos / "blue.txt").write_text("an overflow")
    report = opened.ingest(photos)
    assert (report.failed_count, report.removed, report.images, report.texts) == (2, 0, 0, 0)
    assert names(opened) == before
    paint("green", "photos/green.png", size=(41, 31))
    (photos / "blue.txt").write_text("a blue thing")
    report = opened.ingest(photos)
    assert (report.failed_count, report.removed, report.images) == (0, 1, 1)
    assert names(opened) == before
    assert len(opened.search("blue", target="texts", limit=20)) == 7


def test_a_reindex_leaves_out_pictures_and_refuses_texts(
    tmp_path: Path, photos: Path, encoder: ColourEncoder
) -> None:
    with twinlens.open(tmp_path / "test.db", model=encoder) as index:
        index.ingest(photos)
        other = Overflowing("other")
        report = index.reindex(other)
        assert (report.switched, report.images, report.failed_count) == (False, 7, 1)
        assert "no valid embedding" in report.failed[0].reason
        (photos / "red.txt").write_text("an overflow")
        index.ingest(photos)
        with pytest.raises(ModelError, match="no valid embedding for the text 'an overflow'"):
            index.reindex(other)
        assert len(names(index)) == 8


def test_a_query_without_a_valid_embedding_is_an_error(
    opened: twinlens.Index, photos: Path
) -> None:
    opened.ingest(photos)
    with pytest.raises(ModelError, match="no valid embedding for the query"):
        opened.search("an overflow")

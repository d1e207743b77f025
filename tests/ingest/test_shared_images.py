"""Two runs that store the same new pictures at the same time keep what each knows of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.ingest.reconcile import reconcile_shared
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Pixels, Rows


class MeetingEncoder(ColourEncoder):
    """Encodes the first pictures of two runs only once both have looked what is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(2, timeout=60)

    def images(self, pixels: Pixels) -> Rows:
        if not self.meeting.broken and self.images_seen < 2 * len(COLOURS):
            self.meeting.wait()
        return super().images(pixels)


@pytest.fixture(params=["lite", "server"])
def meeting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[twinlens.Index]:
    name = f"t_{uuid.uuid4().hex}"
    lite = request.param == "lite"
    where = tmp_path / "test.db" if lite else request.getfixturevalue("server")
    with twinlens.open(where, collection=name, model=MeetingEncoder()) as index:
        yield index
        if not lite:
            index.drop()


def test_both_paths_and_captions_are_kept(
    meeting: twinlens.Index, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    for folder in ("first", "second"):
        for colour in COLOURS:
            picture = paint(colour, f"{folder}/{colour}.png")
            picture.with_suffix(".txt").write_text(f"{colour} of the {folder}")
    folders = [tmp_path / "first", tmp_path / "second"]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(meeting.ingest, folders))
    assert [report.images for report in reports] == [len(COLOURS)] * 2  # neither knew of the other
    hits = meeting.search("red", limit=20)
    assert len(hits) == len(COLOURS)
    for hit in hits:
        colour = Path(hit.path).stem
        assert list(hit.paths) == [str(folder / f"{colour}.png") for folder in folders]
        assert list(hit.captions) == [f"{colour} of the first", f"{colour} of the second"]


def test_only_outdated_rows_are_written(
    index: twinlens.Index, photos: Path, paint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = paint("red", "photos/copy.png")
    index.ingest(photos)
    collection = index._require_collection()
    ids = {hit.id: {"taken_by": "me"} for hit in index.search("red", limit=20)}
    (red,) = [hit.id for hit in index.search("red", limit=20) if str(copy) in hit.paths]
    written: list[str] = []
    upsert = Collection.upsert

    def noting(self: Collection, kind: Any, rows: list[Mapping[str, Any]]) -> None:
        written.extend(row["id"] for row in rows)
        upsert(self, kind, rows)

    monkeypatch.setattr(Collection, "upsert", noting)
    reconcile_shared(collection, ids, batch=3)
    assert written == []
    (row,) = collection.get("images", [red])
    upsert(collection, "images", [row | {"paths": [str(copy)]}])
    reconcile_shared(collection, ids, batch=3)
    assert set(written) >= {red}
    (row,) = collection.get("images", [red])
    assert list(row["paths"]) == [str(copy), str(photos / "red.png")]
    assert row["taken_by"] == "me"

"""Ingest: what is stored, what is not repeated, failures, and resuming after an interruption."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder
from support.rows import comparable

import twinlens
from twinlens.ingest import pipeline, sinks, writer
from twinlens.ingest.report import IngestInterrupted
from twinlens.ingest.rows import PendingItem
from twinlens.ingest.sample import MAX_TIME_NS, Failure, Item, Sample
from twinlens.ingest.sources.folder import walk
from twinlens.search.errors import ImageError, StoreError, StoreUnreachableError
from twinlens.search.milvus.collection import Collection

Paint = Callable[..., Path]


def contents(index: twinlens.Index) -> dict[str, list[dict[str, Any]]]:
    """Every row of all three collections."""
    collection = index.engine.collection
    return {
        kind: sorted(
            (comparable(row) for rows in collection.scan(kind, ["*"]) for row in rows),  # type: ignore[arg-type]
            key=lambda row: str(row.get("id", row["path"])),
        )
        for kind in ("images", "texts", "files")
    }


def captions_of(index: twinlens.Index, path: Path) -> tuple[str, ...]:
    """The captions of a picture in search results."""
    hits = index.search(image=path, limit=100)
    return next(hit.captions for hit in hits if hit.path == str(path))


def texts(index: twinlens.Index) -> list[str]:
    return sorted(row["text"] for row in contents(index)["texts"])


def touch(path: Path) -> None:
    """Change a file's time, independent of the clock's resolution."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def shades(folder: Path, count: int) -> Path:
    """Many different pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        shade = (number % 256, number // 256, 77)
        Image.new("RGB", (9, 9), shade).save(folder / f"{number:04}.png")
    return folder


class Interrupting:
    """A progress bar that interrupts the run after some items."""

    def __init__(self, after: int) -> None:
        self.left = after

    def update(self, n: float = 1) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def set_postfix_str(self, s: str, refresh: bool = True) -> None:
        pass


# ---- a second run


def test_a_second_run_does_nothing(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    first = index.ingest(photos)
    assert (first.images, first.texts, first.unchanged) == (8, 8, 0)
    before = contents(index)
    second = index.ingest(photos)
    assert (second.images, second.texts, second.unchanged) == (0, 0, 8)
    assert (encoder.images_seen, encoder.texts_seen) == (8, 8)
    assert contents(index) == before


def test_only_new_files_are_encoded(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "new.png")
    report = index.ingest(photos)
    assert (report.images, report.unchanged) == (1, 8)
    assert encoder.images_seen == 9


def test_a_touched_file_is_read_but_not_encoded(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    touch(photos / "red.png")
    report = index.ingest(photos)
    assert (report.images, report.unchanged) == (0, 8)
    assert encoder.images_seen == 8
    # The new time is stored, so that the file is not read again.
    (photos / "red.png").chmod(0o600)
    assert index.ingest(photos).unchanged == 8


def test_a_renamed_file_keeps_its_vector(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    (photos / "red.png").rename(photos / "crimson.png")
    (photos / "red.txt").rename(photos / "crimson.txt")
    report = index.ingest(photos)
    assert (report.images, report.texts, report.duplicates) == (0, 0, 1)
    assert (report.removed, report.missing) == (0, 0)
    assert (encoder.images_seen, encoder.texts_seen) == (8, 8)
    (hit,) = index.search("red", limit=1)
    assert hit.path == str(photos / "crimson.png")
    assert hit.metadata["relative_path"] == "crimson.png"
    assert hit.captions == ("a red picture",)
    (text,) = index.search("red", limit=1, target="texts")
    assert text.path == str(photos / "crimson.png")
    assert index.info().files == 8


def test_a_moved_folder_keeps_its_vectors(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos.parent / "photos")
    new = photos.rename(photos.parent / "pictures")
    index.ingest(new)
    assert (encoder.images_seen, encoder.texts_seen) == (8, 8)
    assert index.search("red", limit=1)[0].path == str(photos / "red.png")
    # The old folder was not listed; only an ingest of its parent finds that it is missing.
    report = index.ingest(photos.parent)
    assert report.unchanged == 8
    assert index.search("red", limit=1)[0].path == str(new / "red.png")
    assert index.info().files == 8


def test_the_same_picture_is_stored_once_with_all_its_paths(
    index: twinlens.Index, paint: Paint, encoder: ColourEncoder
) -> None:
    paths = [paint("red", f"photos/{name}.png") for name in "abc"]
    paths[0].with_suffix(".txt").write_text("one")
    paths[2].with_suffix(".txt").write_text("two")
    report = index.ingest(paths[0].parent)
    assert (report.images, report.duplicates) == (1, 2)
    assert encoder.images_seen == 1
    (row,) = contents(index)["images"]
    assert row["paths"] == [str(path) for path in paths]
    assert captions_of(index, paths[0]) == ("one", "two")
    assert index.info().files == 3


def test_a_changed_file_is_encoded_anew(
    index: twinlens.Index, paint: Paint, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "red.png")
    touch(photos / "red.png")
    report = index.ingest(photos)
    assert (report.images, report.removed) == (1, 1)
    assert encoder.images_seen == 9
    assert index.info().images == 8
    # The sidecar still says that it is red.
    assert captions_of(index, photos / "red.png") == ("a red picture",)
    assert texts(index).count("a red picture") == 1


def test_files_that_swap_their_contents(
    index: twinlens.Index, paint: Paint, encoder: ColourEncoder
) -> None:
    red, blue = paint("red", "photos/a.png"), paint("blue", "photos/b.png")
    index.ingest(red.parent)
    red.rename(red.with_name("c.png"))
    blue.rename(red)
    red.with_name("c.png").rename(blue)
    touch(red)
    touch(blue)
    report = index.ingest(red.parent)
    assert report.removed == 0
    assert encoder.images_seen == 2
    assert index.search("red", limit=1)[0].path == str(blue)
    assert index.search("blue", limit=1)[0].path == str(red)
    assert index.info().images == index.info().files == 2


# ---- captions


def test_a_changed_caption_is_encoded_without_the_picture(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    (photos / "red.txt").write_text("a crimson picture\n")
    report = index.ingest(photos)
    assert (report.images, report.texts, report.updated) == (0, 1, 1)
    assert encoder.images_seen == 8
    assert captions_of(index, photos / "red.png") == ("a crimson picture",)
    assert "a red picture" not in texts(index)


def test_a_caption_added_later(index: twinlens.Index, paint: Paint, encoder: ColourEncoder) -> None:
    path = paint("red")
    index.ingest(path.parent)
    path.with_suffix(".txt").write_text("a red thing")
    assert index.ingest(path.parent).updated == 1
    assert (encoder.images_seen, encoder.texts_seen) == (1, 1)
    assert captions_of(index, path) == ("a red thing",)


def test_captions_keep_their_order(index: twinlens.Index, paint: Paint) -> None:
    path = paint("red")
    path.with_suffix(".txt").write_text("one\ntwo\nthree")
    index.ingest(path)
    assert captions_of(index, path) == ("one", "two", "three")
    path.with_suffix(".txt").write_text("three\nfour\none")
    index.ingest(path)
    assert captions_of(index, path) == ("three", "four", "one")


def test_two_caption_files_describe_one_picture(
    index: twinlens.Index, paint: Paint, tmp_path: Path
) -> None:
    path = paint("red")
    for name in ("one", "two"):
        rows = {"image": "red.png", "caption": name, name: name.upper()}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(rows))
    index.ingest(path.parent, tmp_path / "two.jsonl", captions=tmp_path / "one.jsonl")
    (hit,) = index.search("red")
    assert sorted(hit.captions) == ["one", "two"]
    assert (hit.metadata["one"], hit.metadata["two"]) == ("ONE", "TWO")


def test_a_picture_with_very_many_captions(index: twinlens.Index, paint: Paint) -> None:
    path = paint("red")
    path.with_suffix(".txt").write_text("\n".join(f"caption {i}" for i in range(5_000)))
    report = index.ingest(path)
    assert report.texts == 4_096
    (hit,) = index.search("red")
    assert hit.captions[:2] == ("caption 0", "caption 1")
    assert len(hit.captions) == 64
    assert index.ingest(path).unchanged == 1


def test_a_very_long_caption(index: twinlens.Index, paint: Paint) -> None:
    path = paint("red")
    path.with_suffix(".txt").write_text("é" * 40_000)
    assert index.ingest(path).failed == ()
    (text,) = index.search("red", target="texts")
    assert text.text == "é" * 32_500
    assert captions_of(index, path) == ("é" * 1_000,)


def test_texts_without_an_image_are_found(index: twinlens.Index, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "something red"}\n{"text": "something blue", "year": 2020}\n')
    report = index.ingest(path)
    assert (report.images, report.texts) == (0, 2)
    hits = index.search("blue", target="texts")
    assert [hit.text for hit in hits] == ["something blue", "something red"]
    assert (hits[0].path, hits[0].image_id, hits[0].metadata["year"]) == ("", "", 2020)
    assert index.search("red") == []
    assert index.ingest(path).texts == 0


# ---- metadata columns


AWKWARD = {
    "id": 7,
    "vector": "x",
    "text": "beside",
    "path": 3,
    "captions_": 4,
    "$meta": 1,
    "größe": 2.5,
    "1st": True,
    "big": 2**70,
    "negative": -(2**63),
    "nested": {"a": [1]},
    "list": [1, 2],
    "null": None,
    "nan": float("nan"),
    "inf": float("-inf"),
    "quote\"d 'n \\": "q",
    "k" * 300: 1,
    "empty": "",
    "count": 2,
    "long": "é" * 5_000,
}


def test_columns_of_any_name_and_value_are_stored(
    index: twinlens.Index, paint: Paint, tmp_path: Path
) -> None:
    paint("red", "a.png")
    path = tmp_path / "c.jsonl"
    row = {"image": "a.png", "caption": "a red thing"} | AWKWARD
    path.write_text(json.dumps(row) + "\n" + json.dumps({"caption": "alone"} | AWKWARD))
    report = index.ingest(path, caption_column="caption")
    assert report.failed == ()
    (hit,) = index.search("red")
    assert hit.metadata["id_"] == 7
    assert hit.metadata["vector_"] == "x"
    assert hit.metadata["_1st"] is True
    assert hit.metadata["big"] == str(2**70)
    assert hit.captions == ("a red thing",)
    assert not {"null", "nan", "inf", "empty"} & hit.metadata.keys()
    assert json.loads(json.dumps(hit.to_dict(), allow_nan=False))["metadata"]["count"] == 2
    assert index.ingest(path, caption_column="caption").unchanged >= 1


@pytest.mark.parametrize("column", ["id", "vector", "text", "width", "score", "sparse"])
def test_a_csv_column_named_like_a_built_in_one(
    index: twinlens.Index, paint: Paint, tmp_path: Path, column: str
) -> None:
    paint("red", "a.png")
    (tmp_path / "c.csv").write_text(f"image,caption,{column}\na.png,a red thing,7\n")
    index.ingest(tmp_path / "c.csv")
    (hit,) = index.search("red")
    assert 7 in (hit.metadata.get(column), hit.metadata.get(f"{column}_"))
    assert hit.captions == ("a red thing",)
    assert hit.metadata["width"] == 40


def test_changed_columns_are_updated(
    index: twinlens.Index, paint: Paint, tmp_path: Path, encoder: ColourEncoder
) -> None:
    paint("red", "a.png")
    path = tmp_path / "c.jsonl"
    for year in (2020, 2021):
        path.write_text(json.dumps({"image": "a.png", "caption": "red", "year": year}))
        index.ingest(path)
        (hit,) = index.search("red")
        (text,) = index.search("red", target="texts")
        assert hit.metadata["year"] == text.metadata["year"] == year
    assert encoder.images_seen == 1


# ---- failures


def test_a_broken_picture_is_recorded_with_its_reason(index: twinlens.Index, photos: Path) -> None:
    broken = photos / "broken.jpg"
    broken.write_bytes(b"no picture at all")
    report = index.ingest(photos)
    assert report.images == 8
    (failure,) = report.failed
    assert failure.uri == str(broken)
    assert failure.reason
    assert report.failed_count == index.info().failed == 1


def test_a_broken_picture_is_not_retried_until_it_changes(
    index: twinlens.Index, photos: Path
) -> None:
    broken = photos / "broken.png"
    broken.write_bytes(b"no picture at all")
    index.ingest(photos)
    second = index.ingest(photos)
    assert (second.failed, second.failed_before, second.unchanged) == ((), 1, 8)
    asked = index.ingest(photos, retry_failed=True)
    assert (asked.failed_count, asked.failed_before) == (1, 0)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(broken)
    mended = index.ingest(photos)
    assert (mended.images, mended.failed_before) == (1, 0)
    assert index.info().failed == 0


def test_a_picture_that_becomes_broken_is_no_longer_found(
    index: twinlens.Index, photos: Path
) -> None:
    index.ingest(photos)
    (photos / "red.png").write_bytes(b"broken now")
    report = index.ingest(photos)
    assert (report.failed_count, report.removed) == (1, 1)
    info = index.info()
    assert (info.images, info.texts, info.files, info.failed) == (7, 7, 8, 1)


def test_a_disk_error_is_retried_by_the_next_run(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "red.png")
    touch(photos / "red.png")

    def unreadable(path: Path) -> Callable[[], bytes]:
        def read() -> bytes:
            raise OSError(5, "Input/output error")

        return read

    with monkeypatch.context() as patch:
        patch.setattr("twinlens.ingest.sources.folder.reader", unreadable)
        report = index.ingest(photos)
    (failure,) = report.failed
    assert failure == Failure(
        str(photos / "red.png"), "cannot be read: Input/output error", str(photos), transient=True
    )
    # What was stored of it is kept until it can be read again.
    assert index.search("red", limit=1)[0].captions == ("a red picture",)
    assert index.info().failed == 0
    assert index.ingest(photos).images == 1


def test_failures_are_counted_beyond_those_listed(
    index: twinlens.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.ingest.report.MAX_FAILURES", 3)
    shades(tmp_path / "photos", 1)
    for number in range(5):
        (tmp_path / "photos" / f"broken{number}.png").write_bytes(b"%d" % number)
    report = index.ingest(tmp_path / "photos")
    assert (len(report.failed), report.failed_count, report.images) == (3, 5, 1)


def test_an_encoder_that_fails_ends_the_run(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(pixels: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(encoder, "images", out_of_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            index.ingest(photos)
    assert index.ingest(photos).images == 8


def test_every_item_is_in_the_report_file(
    index: twinlens.Index, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    shutil.copy(photos / "red.png", photos / "zzz.png")
    index.ingest(photos, report=tmp_path / "report.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    statuses = {Path(row["uri"]).name: row["status"] for row in rows}
    assert len(rows) == 10
    assert statuses["red.png"] == "stored"
    assert statuses["zzz.png"] == "duplicate"
    assert statuses["broken.png"] == "failed"
    assert all(row["reason"] for row in rows if row["status"] == "failed")


def test_progress_is_updated_with_every_item(index: twinlens.Index, photos: Path) -> None:
    class Counting(Interrupting):
        pass

    (photos / "broken.png").write_bytes(b"no picture")
    for _ in range(2):
        progress = Counting(1_000)
        index.ingest(photos, progress=progress)
        assert progress.left == 1_000 - 9


# ---- chunks and overlapping sources


def test_more_than_a_chunk(
    index: twinlens.Index, tmp_path: Path, encoder: ColourEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = shades(tmp_path / "photos", 2 * sinks.CHUNK + 90)
    report = index.ingest(photos)
    assert report.images == encoder.images_seen == 602
    assert index.ingest(photos).unchanged == 602
    (photos / "0300.png").rename(photos / "moved.png")
    second = index.ingest(photos)
    assert (second.unchanged, second.duplicates) == (601, 1)
    assert index.info().images == index.info().files == 602


class Interrupted(ColourEncoder):
    """Somebody presses Ctrl-C when a batch with the given number is encoded."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.left = batch

    def images(self, pixels: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().images(pixels)


def test_an_interrupted_run_keeps_what_it_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = shades(tmp_path / "photos", 40)
    encoder = Interrupted(6)
    seen = []
    monkeypatch.setattr(pipeline, "CHUNK_SECONDS", 1e9)
    monkeypatch.setattr(pipeline, "FIRST_CHUNK", 16)
    with twinlens.open(tmp_path / "x.db", model=encoder) as index:
        with pytest.raises(IngestInterrupted) as stopped:
            index.ingest(photos, report=seen.append)
        done = stopped.value.report.images
        assert done == len(seen) == pipeline.FIRST_CHUNK
        assert done < encoder.images_seen < 40
        assert index.info().images == index.info().files == done
        again = index.ingest(photos)
        assert (again.images, again.unchanged) == (40 - done, done)
    with twinlens.open(tmp_path / "whole.db", model=ColourEncoder()) as whole:
        whole.ingest(photos)
    assert rows_of(tmp_path / "x.db") == rows_of(tmp_path / "whole.db")


def test_a_slow_source_holds_nothing_back(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is decoded is stored while the source is listed, however few new items it has."""
    monkeypatch.setattr(pipeline, "CHUNK_SECONDS", 0.02)
    statuses: list[str] = []
    stored_in_time = False

    def slow(*_: object, **__: object) -> Iterator[Item]:
        nonlocal stored_in_time
        yield from walk(photos)
        for number in range(200):  # fewer than are submitted ahead
            if statuses.count("stored") == 8:
                break
            time.sleep(0.1)
            yield Failure(f"{number}", "the source is slow")
        stored_in_time = statuses.count("stored") == 8

    monkeypatch.setattr("twinlens.ingest.run.open_items", slow)
    report = index.ingest(photos, report=lambda row: statuses.append(row.status))
    assert stored_in_time
    assert report.images == 8


def test_a_chunk_ends_when_it_is_worth_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: now)
    monkeypatch.setattr(pipeline, "FIRST_CHUNK", 16)
    pace, chunk = pipeline.Pace(), sinks.Chunk()

    def fill(count: int) -> sinks.Chunk:
        chunk.failed[:] = []
        chunk.new[:] = [PendingItem(Sample(str(n), "", "", None), None) for n in range(count)]
        return chunk

    def end(count: int, seconds: float) -> None:
        pace.end(count, seconds)
        pace.begin()

    assert (pace.is_due(fill(15)), pace.is_due(fill(16))) == (False, True)
    end(16, 4.0)  # four a second: eight in two seconds
    assert (pace.is_due(fill(7)), pace.is_due(fill(8))) == (False, True)
    end(8, 0.001)  # grows step by step, as the first batch may be an exception
    assert (pace.is_due(fill(15)), pace.is_due(fill(16))) == (False, True)
    end(1, 60.0)
    assert pace.is_due(fill(1)), "however slow, there is at least one"
    end(1, 0.0)
    assert not pace.is_due(fill(1))
    now += pipeline.CHUNK_SECONDS
    assert pace.is_due(fill(1)), "reading takes long"
    assert not pace.is_due(sinks.Chunk())


def test_contents_do_not_depend_on_when_chunks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = shades(tmp_path / "photos", 30)
    for path in sorted(photos.iterdir())[:20]:
        shutil.copy(path, path.with_name(f"z{path.name}"))
        path.with_suffix(".txt").write_text(f"first {path.stem}")
        path.with_name(f"z{path.stem}.txt").write_text(f"second {path.stem}")
    reports = []
    for name, seconds, first in (("one", 0.0, 1), ("few", 1e-6, 3), ("all", 1e9, 10**9)):
        monkeypatch.setattr(pipeline, "CHUNK_SECONDS", seconds)
        monkeypatch.setattr(pipeline, "FIRST_CHUNK", first)
        with twinlens.open(tmp_path / f"{name}.db", model=ColourEncoder()) as index:
            reports.append(replace(index.ingest(photos), seconds=0, encode_seconds=0))
    assert reports[0] == reports[1] == reports[2]
    assert rows_of(tmp_path / "one.db") == rows_of(tmp_path / "all.db")
    assert rows_of(tmp_path / "few.db") == rows_of(tmp_path / "all.db")


def rows_of(db: Path) -> dict[str, list[Any]]:
    """Every row of all three collections, without what a run writes of its own time."""
    with twinlens.open(db, model=ColourEncoder()) as index:
        collection = index.engine.collection
        return {
            kind: sorted(
                (comparable(row) for rows in collection.scan(kind, ["*"]) for row in rows), key=str
            )
            for kind in ("images", "texts", "files")  # type: ignore[misc]
        }


def test_duplicates_across_chunks(
    index: twinlens.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "CHUNK", 4)
    photos = shades(tmp_path / "photos", 10)
    for path in sorted(photos.iterdir()):
        shutil.copy(path, path.with_name(f"z{path.name}"))
        path.with_suffix(".txt").write_text(f"first {path.stem}")
        path.with_name(f"z{path.stem}.txt").write_text(f"second {path.stem}")
    report = index.ingest(photos)
    assert (report.images, report.duplicates, report.texts) == (10, 10, 20)
    for path in photos.glob("0*.png"):
        assert captions_of(index, path) == (f"first {path.stem}", f"second {path.stem}")
    assert index.ingest(photos).unchanged == 20


def test_captions_of_many_pictures(
    index: twinlens.Index, tmp_path: Path, encoder: ColourEncoder
) -> None:
    photos = shades(tmp_path / "photos", 300)
    rows = [{"image": f"{i:04}.png", "captions": [f"a {i}", f"b {i}", "same"]} for i in range(300)]
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    report = index.ingest(photos, captions=path)
    assert (report.images, report.texts) == (300, 900)
    assert index.ingest(photos, captions=path).unchanged == 300
    assert encoder.texts_seen == 900
    assert index.info().texts == 900


def test_roots_that_overlap(index: twinlens.Index, paint: Paint, encoder: ColourEncoder) -> None:
    inner = paint("red", "photos/inner/a.png")
    paint("blue", "photos/b.png")
    outer = inner.parent.parent
    report = index.ingest(outer, inner.parent, inner, outer)
    assert report.images == report.items == encoder.images_seen == 2
    assert index.info().files == 2
    again = index.ingest(inner.parent, outer)
    assert again.unchanged == 2
    inner.unlink()
    assert index.ingest(inner.parent, outer, prune=True).removed == 1


def test_a_picture_in_a_folder_and_in_a_caption_file_is_one(
    index: twinlens.Index, paint: Paint, tmp_path: Path
) -> None:
    path = paint("red")
    captions = tmp_path / "c.csv"
    captions.write_text("image,caption\n./photos/red.png,a red thing\n")
    report = index.ingest(path.parent, captions)
    assert (report.images, report.texts, report.duplicates) == (1, 1, 0)
    assert captions_of(index, path) == ("a red thing",)


def test_a_caption_file_may_name_a_picture_in_two_ways(
    index: twinlens.Index, paint: Paint, tmp_path: Path
) -> None:
    path = paint("red")
    captions = tmp_path / "c.csv"
    captions.write_text("image,caption\nphotos/red.png,one\n./photos/red.png,two\n")
    report = index.ingest(captions)
    assert (report.images, report.texts) == (1, 2)
    assert captions_of(index, path) == ("one", "two")


def test_captions_ingested_after_their_folder(
    index: twinlens.Index, paint: Paint, tmp_path: Path, encoder: ColourEncoder
) -> None:
    path = paint("red")
    index.ingest(path.parent)
    captions = tmp_path / "c.csv"
    captions.write_text("image,caption\nred.png,a red thing\n")
    report = index.ingest(path.parent, captions=captions)
    assert (report.images, report.texts, report.updated) == (0, 1, 1)
    # The folder has no captions, and removes none.
    assert index.ingest(path.parent).unchanged == 1
    assert encoder.images_seen == 1
    assert captions_of(index, path) == ("a red thing",)


# ---- interruptions


@pytest.mark.parametrize("after", [1, 5, 13, 29])
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(sinks, "CHUNK", 4)
    photos = shades(tmp_path / "photos", 28)
    for path in sorted(photos.iterdir()):
        path.with_suffix(".txt").write_text(f"caption of {path.stem}\nshared")
    (photos / "broken.png").write_bytes(b"no picture")
    shutil.copy(photos / "0001.png", photos / "again.png")
    with twinlens.open(tmp_path / "whole.db", model=ColourEncoder()) as whole:
        whole.ingest(photos)
        wanted = contents(whole)
    encoder = ColourEncoder()
    with twinlens.open(tmp_path / "broken.db", model=encoder) as index:
        with pytest.raises(KeyboardInterrupt):
            index.ingest(photos, progress=Interrupting(after))
        index.ingest(photos)
        assert contents(index) == wanted
    # What was written before is not encoded again.
    assert encoder.images_seen <= 28 + 5 * 4 + 4


def test_writes_are_retried_while_milvus_is_away(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.001)
    fail = iter([True, False, True, True])
    upsert = Collection.upsert

    def flaky(self: Collection, *args: Any) -> None:
        if next(fail, False):
            raise StoreUnreachableError("Milvus went away")
        upsert(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "upsert", flaky)
        report = index.ingest(photos)
    assert (report.images, report.texts) == (8, 8)
    assert index.info().files == 8


def test_a_milvus_that_stays_away_ends_the_run_without_loss(
    index: twinlens.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sinks, "CHUNK", 4)
    monkeypatch.setattr(writer, "PATIENCE", 0.01)
    photos = shades(tmp_path / "photos", 24)
    upsert, calls = Collection.upsert, 0

    def dying(self: Collection, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise StoreUnreachableError("Milvus went away")
        upsert(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "upsert", dying)
        with pytest.raises(StoreError, match="went away"):
            index.ingest(photos)
    kept = index.info().images
    assert 0 < kept < 24
    report = index.ingest(photos)
    assert report.images <= 24 - kept + 4
    assert index.info().images == index.info().files == 24


def test_a_reader_that_raises_is_a_failure(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinlens.ingest.sources import folder

    original = folder.file_sample

    def choosy(path: str, *others: Any) -> Any:
        sample = original(path, *others)
        if not path.endswith("red.png"):
            return sample

        def load() -> bytes:
            raise ImageError("I do not like it")

        return replace(sample, load=load)  # type: ignore[type-var]

    monkeypatch.setattr(folder, "file_sample", choosy)
    report = index.ingest(photos)
    assert [failure.reason for failure in report.failed] == ["I do not like it"]
    assert report.images == len(COLOURS) - 1


@pytest.mark.parametrize("seconds", [9_300_000_000, -86_400])
def test_a_time_that_milvus_cannot_store_stops_nothing(
    photos: Path, index: twinlens.Index, seconds: int
) -> None:
    """A camera whose clock says 2264, or a file from before 1970."""
    odd = photos / "red.png"
    os.utime(odd, (seconds, seconds))
    assert index.ingest(photos).images == len(COLOURS)
    assert index.ingest(photos).unchanged == len(COLOURS)
    hit = index.search("red", limit=1)[0]
    assert hit.path == str(odd)
    assert hit.metadata["mtime"] == (pytest.approx(MAX_TIME_NS / 1e9) if seconds > 0 else 0)

"""Uploading to a receiver: the rows must be those of a local ingest."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder
from support.rows import comparable

import twinlens
from twinlens.ingest import writer
from twinlens.ingest.options import open_items
from twinlens.ingest.receiver import Receiver
from twinlens.ingest.report import IngestReport
from twinlens.ingest.sources.paths import name_of
from twinlens.ingest.upload import Removed, TooLargeError, Upload, Uploaded, UploadedItem
from twinlens.remote import ingest as remote
from twinlens.remote.ingest import RemoteIngest, preview
from twinlens.search.errors import StoreError, StoreUnreachableError, UnsupportedError, UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.query.stored import list_images, list_paths
from twinlens.search.records import image_id

Paint = Callable[..., Path]


class Here:
    """A receiver in place of an upload client: what a server does, without HTTP."""

    def __init__(self, index: twinlens.Index, most: int = 256) -> None:
        self.index = index
        self.receiver: Receiver = index.intake()
        self.most = most
        self.bytes_taken = 0
        self._lock = threading.Lock()

    def put(self, items: Sequence[Upload], **options: Any) -> Uploaded:
        if len(items) > self.most:
            raise TooLargeError(f"more than {self.most}")
        with self._lock:
            self.bytes_taken += sum(len(item.data or b"") for item in items)
            return self.receiver.put(items, **options)

    def judge(self, items: Sequence[Upload]) -> list[UploadedItem]:
        with self._lock:
            return self.receiver.judge(items)

    def paths(self, root: str) -> Iterator[list[str]]:
        after = ""
        while self.index._session.collection is not None:
            page = list_paths(self.index.engine.collection, root, after)
            if not page:
                return
            yield page
            after = page[-1]

    def remove_missing(self, paths: Sequence[str], *, prune: bool = False) -> Removed:
        with self._lock:
            return self.receiver.remove_missing(paths, prune=prune)


def upload_all(
    index: twinlens.Index,
    *paths: Path,
    captions: Path | None = None,
    most: int = 256,
    part_bytes: int = remote.PART_BYTES,
    **options: bool,
) -> IngestReport:
    """Upload a corpus to the receiver of an index."""
    run = RemoteIngest(Here(index, most), part_bytes=part_bytes, **options)  # type: ignore[arg-type]
    return run.run(open_items(paths, captions=captions), [name_of(path) for path in paths])


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


def counts(report: IngestReport) -> dict[str, object]:
    """A report without times, with failures sorted."""
    skipped = ("seconds", "encode_seconds", "failed")
    plain = {name: getattr(report, name) for name in report.__dataclass_fields__}
    return {name: value for name, value in plain.items() if name not in skipped} | {
        "failed": sorted((failure.uri, failure.reason) for failure in report.failed)
    }


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[twinlens.Index]:
    """Another empty collection, for the local ingest."""
    with twinlens.open(tmp_path / "plain.db", model=ColourEncoder()) as opened:
        yield opened


@pytest.fixture
def corpus_folder(tmp_path: Path, photos: Path) -> Path:
    """Pictures with captions, metadata and EXIF, a duplicate, a broken one, and a deep folder."""
    shutil.copy(photos / "red.png", photos / "again.png")
    (photos / "broken.png").write_bytes(b"no picture")
    (photos / "blue.json").write_text(json.dumps({"caption": "the sea", "year": 2021}))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.new("RGB", (9, 9), (1, 2, 3)).save(photos / "shot.jpg", exif=exif)
    deep = photos / "deep" / "er"
    deep.mkdir(parents=True)
    Image.new("RGB", (9, 9), (9, 200, 77)).save(deep / "x.png")
    return photos


# ---- the same rows


@pytest.mark.parametrize(("chunk", "part_bytes"), [(256, 16 << 20), (3, 1)])
def test_the_rows_are_those_of_a_local_ingest(
    index: twinlens.Index,
    plain: twinlens.Index,
    corpus_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    part_bytes: int,
) -> None:
    monkeypatch.setattr(remote, "CHUNK", chunk)
    there = upload_all(index, corpus_folder, part_bytes=part_bytes)
    here = plain.ingest(corpus_folder)
    assert counts(there) == counts(here)
    assert here.images == 10
    assert here.failed_count == 1
    assert contents(index) == contents(plain)


def test_copies_of_a_picture_are_stored_in_order(
    index: twinlens.Index,
    plain: twinlens.Index,
    corpus_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same rows, also where the part with the first copy is the slowest."""

    class Slow(Here):
        overtaken = threading.Event()
        order: list[str]

        def put(self, items: Sequence[Upload], **options: Any) -> Uploaded:
            sent = [Path(item.uri).name for item in items if item.data is not None]
            if sent == ["again.png"]:
                self.overtaken.wait(timeout=0.5)
            elif sent == ["red.png"]:
                self.overtaken.set()
            self.order += sent
            return super().put(items, **options)

    monkeypatch.setattr(remote, "CHUNK", 3)
    (corpus_folder / "red.json").write_text(json.dumps({"year": 2020}))
    (corpus_folder / "again.json").write_text(json.dumps({"year": 2021}))
    plain.ingest(corpus_folder)
    slow = Slow(index)
    slow.order = []
    items = open_items([corpus_folder])
    RemoteIngest(slow, part_bytes=1).run(items, [name_of(corpus_folder)])  # type: ignore[arg-type]
    assert contents(index) == contents(plain)
    places = [slow.order.index(name) for name in ("again.png", "black.png", "red.png")]
    assert places[0] < places[2], "the copy waits for the first"
    assert places[1] < places[0], "others do not"


def test_captions_of_a_file_and_texts_without_an_image(
    index: twinlens.Index, plain: twinlens.Index, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "c.jsonl"
    lines: list[dict[str, object]] = [
        {"image": "photos/red.png", "caption": "fire", "year": 2020, "when": 1.5},
        {"image": "photos/missing.png", "caption": "nowhere"},
        {"caption": "a sentence alone"},
        {"image": "photos/red.png", "caption": "embers"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    there = upload_all(index, path)
    here = plain.ingest(path)
    assert counts(there) == counts(here)
    assert here.texts > 0
    assert contents(index) == contents(plain)


CHANGES: dict[str, Callable[[Path], object]] = {
    "renamed": lambda photos: (photos / "red.png").rename(photos / "crimson.png"),
    "swapped": lambda photos: swap(photos / "red.png", photos / "blue.png"),
    "other bytes": lambda photos: Image.new("RGB", (9, 9), (5, 6, 7)).save(photos / "red.png"),
    "other caption": lambda photos: (photos / "red.txt").write_text("crimson\nscarlet\n"),
    "no caption": lambda photos: (photos / "red.txt").unlink(),
    "gone": lambda photos: (photos / "red.png").unlink(),
    "broken": lambda photos: (photos / "red.png").write_bytes(b"nothing any more"),
    "copied": lambda photos: shutil.copy(photos / "red.png", photos / "a.png"),
    "moved over": lambda photos: (photos / "red.png").rename(photos / "blue.png"),
    "nothing": lambda photos: None,
}


def swap(one: Path, two: Path) -> None:
    """Swap the contents of two files, and change their times."""
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    for path in (one, two):
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize(
    ("change", "prune"),
    [*((change, False) for change in CHANGES), ("gone", True), ("moved over", True),
     ("no caption", True)],
)  # fmt: skip
def test_changes_lead_to_the_same_rows(
    index: twinlens.Index,
    plain: twinlens.Index,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    prune: bool,
) -> None:
    monkeypatch.setattr(remote, "CHUNK", 3)
    upload_all(index, photos)
    plain.ingest(photos)
    CHANGES[change](photos)
    assert counts(upload_all(index, photos, prune=prune)) == counts(
        plain.ingest(photos, prune=prune)
    )
    assert contents(index) == contents(plain)
    # A second run finds nothing to do.
    again = upload_all(index, photos, prune=prune)
    assert (again.images, again.texts, again.updated, again.removed) == (0, 0, 0, 0)
    assert contents(index) == contents(plain)


def test_a_renamed_file_is_not_encoded_again(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CHUNK", 2)
    upload_all(index, photos)
    (photos / "white.png").rename(photos / "aaa.png")
    (photos / "black.png").rename(photos / "zzz.png")
    Image.new("RGB", (9, 9), (5, 6, 7)).save(photos / "black.png")
    report = upload_all(index, photos)
    assert (report.images, report.duplicates) == (1, 2)
    assert encoder.images_seen == 9


def test_only_requested_bytes_are_read(index: twinlens.Index, photos: Path) -> None:
    upload_all(index, photos)
    (photos / "red.txt").write_text("crimson\n")
    Image.new("RGB", (9, 9), (5, 6, 7)).save(photos / "new.png")
    here = Here(index)
    report = RemoteIngest(here).run(open_items([photos]), [str(photos)])
    assert (report.images, report.updated, report.unchanged) == (1, 1, 7)
    assert here.bytes_taken == (photos / "new.png").stat().st_size


def test_failed_items_are_not_retried_by_default(index: twinlens.Index, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    assert upload_all(index, photos).failed_count == 1
    again = upload_all(index, photos)
    assert (again.failed_count, again.failed_before) == (0, 1)
    assert upload_all(index, photos, retry_failed=True).failed_count == 1


def test_a_request_that_is_too_large_is_halved(
    index: twinlens.Index, plain: twinlens.Index, photos: Path
) -> None:
    report = upload_all(index, photos, most=2)
    assert report.images == 8
    plain.ingest(photos)
    assert contents(index) == contents(plain)


def test_a_single_item_that_is_too_large_is_a_failure(index: twinlens.Index, photos: Path) -> None:
    class Small(Here):
        def put(self, items: Sequence[Upload], **options: Any) -> Uploaded:
            if sum(len(item.data or b"") for item in items) > 1_000:
                raise TooLargeError("a body has at most 1,000 bytes here")
            return super().put(items, **options)

    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "large.png")
    report = RemoteIngest(Small(index)).run(open_items([photos]), [str(photos)])
    assert report.images == 8
    (failure,) = report.failed
    assert failure.uri == str(photos / "large.png")
    assert "at most 1,000 bytes" in failure.reason


# ---- interruptions


class BrokenOffError(Exception):
    """Ends a run in the middle."""


@pytest.mark.parametrize("step", range(1, 12, 2))
def test_an_interrupted_run_can_be_repeated(
    index: twinlens.Index,
    plain: twinlens.Index,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    monkeypatch.setattr(remote, "CHUNK", 4)
    upload_all(index, photos)
    plain.ingest(photos)
    CHANGES["swapped"](photos)
    (photos / "green.txt").write_text("grass\n")
    Image.new("RGB", (9, 9), (5, 6, 7)).save(photos / "black.png")
    Image.new("RGB", (9, 9), (7, 6, 5)).save(photos / "new.png")
    plain.ingest(photos)
    left = step

    def failing(kept: Callable[..., None]) -> Callable[..., None]:
        def write(collection: Collection, kind: str, rows: Any) -> None:
            nonlocal left
            if collection.name == index.engine.collection.name and rows:
                left -= 1
                if left == 0:
                    raise BrokenOffError
            kept(collection, kind, rows)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "upsert", failing(Collection.upsert))
        patch.setattr(Collection, "delete", failing(Collection.delete))
        try:
            upload_all(index, photos)
        except BrokenOffError:
            assert left <= 0
    upload_all(index, photos)
    assert contents(index) == contents(plain)


def test_an_outage_raises_and_keeps_what_was_stored(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_all(index, photos)
    Image.new("RGB", (9, 9), (5, 6, 7)).save(photos / "new.png")
    monkeypatch.setattr(writer, "PATIENCE", 0.0)

    def away(*_: object) -> None:
        raise StoreUnreachableError("Milvus went away")

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "upsert", away)
        with pytest.raises(StoreUnreachableError):
            upload_all(index, photos)
    assert upload_all(index, photos).images == 1


# ---- the receiver alone


def upload(path: Path, *, data: bool = True, **fields: Any) -> Upload:
    bytes_ = path.read_bytes()
    given: dict[str, Any] = {"root": str(path.parent), "size": len(bytes_), "mtime_ns": 1}
    return Upload(str(path), **(given | fields), data=bytes_ if data else None)


def test_what_metadata_loses_is_told(index: twinlens.Index, paint: Paint) -> None:
    metadata = {"tags": ["sea", "dog"], "lens": {"mm": 24}, "boxes": [{"x": 1}], "标题": "春"}
    done = index.intake().put([upload(paint("red"), metadata=metadata)])
    [row] = done.items
    assert (row.status, row.reason) == (
        "stored",
        "the field boxes is a list of objects and is not kept",
    )
    found = index.search("red")[0].metadata
    assert (found["tags"], found["lens_mm"], found["标题"]) == ("sea, dog", 24, "春")


def test_no_collection_is_created_without_an_item_to_store(
    index: twinlens.Index, paint: Paint, encoder: ColourEncoder
) -> None:
    asked = index.intake().put([upload(paint("red"), data=False)])
    assert asked == Uploaded(wanted=(0,))
    assert index.intake().put([]) == Uploaded()
    assert index.intake().remove(["/x"]) == index.intake().remove_missing(["/x"]) == Removed()
    with pytest.raises(twinlens.CollectionNotFoundError):
        index.info()
    broken = index.intake().put([upload(paint("red"), data=False), upload(paint("blue"))])
    assert (broken.wanted, [row.status for row in broken.items]) == ((0,), ["stored"])
    assert index.info().images == 1


def test_the_cost_of_a_request_does_not_grow_with_the_collection(
    index: twinlens.Index, photos: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_all(index, photos)
    rows_read = 0
    scan, get = Collection.scan, Collection.get

    def counted_scan(*args: Any, **options: Any) -> Iterator[list[dict[str, Any]]]:
        nonlocal rows_read
        for rows in scan(*args, **options):
            rows_read += len(rows)
            yield rows

    def counted_get(*args: Any, **options: Any) -> list[dict[str, Any]]:
        nonlocal rows_read
        rows = get(*args, **options)
        rows_read += len(rows)
        return rows

    monkeypatch.setattr(Collection, "scan", counted_scan)
    monkeypatch.setattr(Collection, "get", counted_get)
    Image.new("RGB", (9, 9), (5, 6, 7)).save(photos / "new.png")
    index.intake().put([upload(photos / "new.png")])
    assert rows_read == 1  # its own ledger row, which nobody else has written meanwhile


def test_a_replaced_picture_is_deleted_unless_more_requests_follow(
    index: twinlens.Index, paint: Paint
) -> None:
    path = paint("red")
    old = image_id(path.read_bytes())
    intake = index.intake()
    intake.put([upload(path)])
    Image.new("RGB", (9, 9), COLOURS["blue"]).save(path)
    assert intake.put([upload(path, mtime_ns=2)]).deleted == {old}
    middle = image_id(path.read_bytes())
    Image.new("RGB", (9, 9), COLOURS["green"]).save(path)
    assert not intake.put([upload(path, mtime_ns=3)], more=True).deleted
    assert index.info().images == 2
    assert intake.put([]).deleted == {middle}
    assert (index.info().images, index.info().files) == (1, 1)


def test_pictures_are_removed_by_id_with_their_texts(index: twinlens.Index, photos: Path) -> None:
    upload_all(index, photos)
    red = image_id((photos / "red.png").read_bytes())
    done = index.intake().remove(ids=[red, "0" * 32])
    assert (done.images, done.count) == ({red}, 1)
    assert (index.info().images, index.info().texts, index.info().files) == (7, 7, 7)
    caption = index.search("blue", target="texts", limit=1)[0].id
    with pytest.raises(UsageError, match="is a caption of the image"):
        index.intake().remove(ids=[caption])
    assert index.intake().remove([str(photos)]).count == 7


def test_texts_without_an_image_are_removed_by_id(index: twinlens.Index, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    upload_all(index, path)
    one = next(hit.id for hit in index.search("one", target="texts") if hit.text == "one")
    assert index.intake().remove(ids=[one]).count == 1
    assert [hit.text for hit in index.search("one", target="texts")] == ["two"]
    assert index.info().files == 1


@pytest.mark.parametrize("name", ["", "\x01was 0 /a.png", "a\0b", "/" + "é" * 2_100, "\x01"])
def test_an_invalid_name_is_refused(index: twinlens.Index, paint: Paint, name: str) -> None:
    with pytest.raises(UsageError):
        index.intake().put([Upload(name, data=paint("red").read_bytes())])


def test_captions_and_metadata_are_cleaned(index: twinlens.Index, paint: Paint) -> None:
    data = paint("red").read_bytes()
    said = {"year": 2020, "id": "mine", "nested": {"a": 1}, "long": "x" * 5_000}
    index.intake().put(
        [Upload("/a.png", data=data, captions=("one\ntwo", " ", "one two"), metadata=said)]
    )
    (hit,) = index.search("red")
    assert hit.captions == ("one two",)
    assert (hit.metadata["year"], hit.metadata["id_"]) == (2020, "mine")
    assert "nested" not in hit.metadata
    assert len(hit.metadata["long"]) == 2_000
    assert hit.metadata["relative_path"] == "a.png"


def test_embeddings_cannot_be_uploaded(index: twinlens.Index, paint: Paint) -> None:
    sample = next(iter(open_items([paint("red")])))
    assert not isinstance(sample, remote.Failure)
    vector = np.ones(16, dtype=np.float32) / 4
    with pytest.raises(UnsupportedError, match="where the database is"):
        RemoteIngest(Here(index)).run([remote.replace(sample, vector=vector)])


def test_a_preview_is_that_of_a_local_ingest(
    index: twinlens.Index, plain: twinlens.Index, corpus_folder: Path
) -> None:
    def both() -> None:
        paths = [corpus_folder]
        there = preview(Here(index), open_items(paths), [str(corpus_folder)])
        assert there == plain.preview(*paths)

    both()
    upload_all(index, corpus_folder)
    plain.ingest(corpus_folder)
    both()
    CHANGES["renamed"](corpus_folder)
    CHANGES["other bytes"](corpus_folder)
    (corpus_folder / "blue.json").write_text('{"caption": "the ocean"}')
    both()


def test_a_folder_that_cannot_be_read_is_not_missing(index: twinlens.Index, photos: Path) -> None:
    upload_all(index, photos)
    failure = remote.Failure(str(photos), "the folder cannot be read", str(photos), transient=True)
    for path in photos.iterdir():
        path.rename(photos.parent / path.name)
    report = RemoteIngest(Here(index), prune=True).run([failure], [str(photos)])
    assert (report.removed, report.missing, report.failed_count) == (0, 0, 1)
    assert index.info().images == 8


# ---- listing stored paths and pictures


def test_stored_paths_are_listed_below_a_root_in_order(
    index: twinlens.Index, paint: Paint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, colour in enumerate(COLOURS):
        paint(colour, f"one/{number}.png")
    paint("red", "one2/other.png")
    index.ingest(tmp_path)
    collection = index.engine.collection
    found: list[str] = []
    while page := list_paths(collection, str(tmp_path / "one"), (found or [""])[-1], limit=2):
        assert len(page) <= 2
        found += page
    assert found == [str(tmp_path / "one" / f"{number}.png") for number in range(8)]
    assert list_paths(collection, str(tmp_path / "nowhere")) == []
    assert len(list_paths(collection, str(tmp_path), limit=2)) == 2


def test_stored_pictures_are_listed_by_a_filter_in_order(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.search.query.stored.PAGE", 3)
    index.ingest(photos)
    collection = index.engine.collection
    found: list[str] = []
    while page := list_images(collection, 'path != ""', found[-1] if found else ""):
        found += [row["id"] for row in page]
    assert found == sorted(image_id(path.read_bytes()) for path in photos.glob("*.png"))
    assert list_images(collection, 'path == "nowhere"') == []


def test_a_collection_that_is_being_reindexed_refuses_writes(
    index: twinlens.Index, photos: Path, paint: Paint
) -> None:
    upload_all(index, photos)
    index.engine.collection.set_state(frozen=True)
    with pytest.raises(StoreError, match="reindexed"):
        upload_all(index, photos)
    with pytest.raises(StoreError, match="reindexed"):
        index.intake().remove([str(photos)])

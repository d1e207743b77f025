"""Missing files: kept unless pruned, removed where they moved, deleted on demand."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.colours import COLOURS, ColourEncoder

import twinlens
from twinlens.ingest import prune
from twinlens.search.errors import StoreUnreachableError
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import Row

Paint = Callable[..., Path]


def found(index: twinlens.Index, target: str = "images") -> list[str]:
    """The names of all pictures, or all texts, that a search finds."""
    hits = index.search("red", target=target, limit=100)
    return sorted(hit.text or Path(hit.path).name for hit in hits)


def test_a_missing_picture_is_kept(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    (photos / "red.png").unlink()
    report = index.ingest(photos)
    assert (report.missing, report.removed, report.unchanged) == (1, 0, 7)
    assert "red.png" in found(index)
    assert index.ingest(photos).missing == 1


def test_a_missing_picture_is_pruned_with_its_texts(
    index: twinlens.Index, photos: Path, encoder: ColourEncoder
) -> None:
    index.ingest(photos)
    (photos / "red.png").unlink()
    report = index.ingest(photos, prune=True)
    assert (report.missing, report.removed) == (0, 1)
    assert "red.png" not in found(index)
    assert "a red picture" not in found(index, "texts")
    assert encoder.images_seen == 8
    info = index.info()
    assert (info.images, info.texts, info.files) == (7, 7, 7)


def test_an_emptied_folder_can_be_pruned(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    for path in photos.iterdir():
        path.unlink()
    assert index.ingest(photos).missing == 8
    assert index.ingest(photos, prune=True).removed == 8
    assert index.info().images == 0


def test_an_unmounted_disk_deletes_nothing(index: twinlens.Index, photos: Path) -> None:
    index.ingest(photos)
    photos.rename(photos.with_name("away"))
    with pytest.raises(twinlens.UsageError, match="there is no"):
        index.ingest(photos, prune=True)
    assert index.info().images == 8


def test_other_folders_are_left_alone(index: twinlens.Index, paint: Paint) -> None:
    one, two = paint("red", "one/a.png"), paint("blue", "one2/b.png")
    index.ingest(one.parent, two.parent)
    one.unlink()
    two.unlink()
    paint("green", "one/c.png")
    assert index.ingest(one.parent, prune=True).removed == 1
    assert found(index) == ["b.png", "c.png"]


def test_a_picture_with_another_path_stays(index: twinlens.Index, paint: Paint) -> None:
    one = paint("red", "photos/one.png")
    two = paint("red", "photos/two.png")
    index.ingest(one.parent)
    one.unlink()
    assert index.ingest(one.parent, prune=True).removed == 0
    (hit,) = index.search("red")
    assert hit.path == str(two)


def test_a_broken_link_is_not_missing(index: twinlens.Index, photos: Path) -> None:
    link = photos / "link.png"
    link.symlink_to(photos.parent / "target.png")
    shutil.copy(photos / "red.png", photos.parent / "target.png")
    index.ingest(photos)
    (photos.parent / "target.png").unlink()
    report = index.ingest(photos, prune=True)
    assert report.removed == 0
    assert [failure.uri for failure in report.failed] == [str(link)]


def test_texts_without_an_image_are_pruned_with_their_lines(
    index: twinlens.Index, tmp_path: Path
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    assert index.ingest(path).texts == 2
    path.write_text('{"text": "two"}\n')
    report = index.ingest(path)
    assert (report.texts, report.missing) == (0, 1)
    assert found(index, "texts") == ["one", "two"]
    index.ingest(path, prune=True)
    assert found(index, "texts") == ["two"]
    assert index.info().files == 1


def test_a_caption_deleted_from_its_file_is_removed(
    index: twinlens.Index, paint: Paint, tmp_path: Path
) -> None:
    paint("red", "a.png")
    path = tmp_path / "c.csv"
    path.write_text("image,caption\na.png,one\na.png,two\n")
    index.ingest(path)
    path.write_text("image,caption\na.png,two\n")
    assert index.ingest(path).updated == 1
    assert found(index, "texts") == ["two"]
    assert index.search("red")[0].captions == ("two",)


# ---- delete


@pytest.mark.parametrize(
    "folder", ["50%_off", "it's", 'a"b', "back\\slash", "ünï 犬", "[a]*?", "a\nb", "_", "%"]
)
def test_deleting_a_folder_deletes_no_other(
    index: twinlens.Index, paint: Paint, tmp_path: Path, folder: str
) -> None:
    paint("red", f"{folder}/a.png").with_suffix(".txt").write_text("it's red")
    paint("green", f"{folder}/deep/b.png")
    paint("blue", "500xoff/c.png")
    paint("black", f"{folder}x/d.png")
    paint("white", "x/e.png")
    index.ingest(tmp_path)
    assert index.delete(tmp_path / folder) == 2
    assert found(index) == ["c.png", "d.png", "e.png"]
    assert index.info().texts == 0
    assert index.delete(tmp_path / folder) == 0


def test_deleting_one_path_of_a_picture_keeps_it(index: twinlens.Index, paint: Paint) -> None:
    one = paint("red", "photos/one.png")
    two = paint("red", "photos/two.png")
    index.ingest(one.parent)
    assert index.delete(one) == 0
    (hit,) = index.search("red")
    assert hit.path == str(two)
    assert index.info().files == 1
    assert index.delete(two) == 1
    assert index.info().images == 0


def test_deleted_pictures_come_back_with_the_next_ingest(
    index: twinlens.Index, photos: Path
) -> None:
    index.ingest(photos)
    assert index.delete(photos) == 8
    assert index.info().files == 0
    assert index.ingest(photos).images == 8


def test_deleting_counts_pictures_not_failures(index: twinlens.Index, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    index.ingest(photos)
    assert index.delete(photos) == 8
    assert index.info().files == 0


def test_deleting_a_caption_file_deletes_its_texts(
    index: twinlens.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n{"text": ["two", "three"]}\n')
    index.ingest(tmp_path / "c.jsonl")
    monkeypatch.chdir(tmp_path)
    assert index.delete("c.jsonl") == 2
    assert (index.info().texts, index.info().files) == (0, 0)


def test_relative_paths_with_dots(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    index.ingest("../photos")
    assert index.ingest(photos).unchanged == 8
    assert index.delete("../photos/red.png", "./blue.png") == 2
    os.unlink("green.png")
    assert index.ingest(".", prune=True).removed == 1


def test_replaced_pictures_are_deleted_in_batches(
    either: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    either.ingest(photos)
    pages: list[int] = []
    delete = prune._delete

    def counting(collection: Collection, rows: Sequence[Row], *, bequeath: bool) -> frozenset[str]:
        pages.append(len(rows))
        return delete(collection, rows, bequeath=bequeath)

    monkeypatch.setattr(prune, "_BATCH", 2)
    monkeypatch.setattr(prune, "_delete", counting)
    for number, path in enumerate(sorted(photos.glob("*.png"))[:7]):
        Image.new("RGB", (50 + number, 50), COLOURS["red"]).save(path)
    report = either.ingest(photos)
    assert (report.images, report.removed) == (7, 7)
    assert (sum(pages), max(pages)) == (7, 2)
    info = either.info()
    assert (info.images, info.files) == (8, 8)


def test_pictures_pruned_before_an_outage_are_counted(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    for name in ("red", "green", "blue", "white"):
        (photos / f"{name}.png").unlink()
    remove, pages = prune.remove_missing, []

    def away_once(*args: Any, **options: Any) -> Any:
        pages.append(1)
        if len(pages) == 2:
            raise StoreUnreachableError("nobody answers")
        return remove(*args, **options)

    monkeypatch.setattr(prune, "_BATCH", 2)
    monkeypatch.setattr(prune, "remove_missing", away_once)
    assert index.ingest(photos, prune=True).removed == 4
    assert len(pages) == 3
    assert index.info().images == len(COLOURS) - 4


def test_a_disk_error_does_not_prune(
    index: twinlens.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.ingest(photos)
    (photos / "red.png").unlink()
    plain = os.lstat

    def failing(path: str) -> os.stat_result:
        if str(path).endswith("red.png"):
            raise OSError(errno.EIO, "Input/output error")
        return plain(path)

    with monkeypatch.context() as patched:
        patched.setattr("twinlens.ingest.ledger.os.lstat", failing)
        assert index.ingest(photos, prune=True).removed == 0
    assert index.ingest(photos, prune=True).removed == 1

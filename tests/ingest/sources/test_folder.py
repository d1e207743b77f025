"""Folder trees: what is taken, what is passed over, and what is a failure with a reason."""

from __future__ import annotations

import errno
import os
import socket
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources import FileFilter, open_sources
from twinlens.ingest.sources.folder import MAX_DEPTH, count, file_sample, reader, walk
from twinlens.search.errors import ImageError, UsageError

Paint = Callable[..., Path]


def relatives(items: list[Item]) -> list[str]:
    assert all(isinstance(item, Sample) for item in items), items
    return [item.relative for item in items if isinstance(item, Sample)]


def test_pictures_come_in_name_order_from_the_whole_tree(tmp_path: Path, paint: Paint) -> None:
    for name in ("b/2.png", "b/1.png", "a/z/deep.png", "c.png", "B.PNG", "a.png"):
        paint("red", f"photos/{name}")
    found = list(walk(tmp_path / "photos"))
    wanted = ["B.PNG", "a/z/deep.png", "a.png", "b/1.png", "b/2.png", "c.png"]
    assert relatives(found) == wanted
    assert [item.uri for item in found] == [str(tmp_path / "photos" / name) for name in wanted]


def test_a_sample_says_what_the_file_is(tmp_path: Path, paint: Paint) -> None:
    path = paint("red", "photos/a/b.png")
    (sample,) = walk(tmp_path / "photos")
    assert isinstance(sample, Sample)
    assert sample.root == str(tmp_path / "photos")
    assert (sample.size, sample.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert sample.load is not None
    assert sample.load() == path.read_bytes()
    assert sample.silent


def test_other_files_are_passed_over(tmp_path: Path, paint: Paint) -> None:
    paint("red", "photos/a.png")
    for name in ("notes.md", "film.mp4", "README", "a.png.part", "archive.7z"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    assert relatives(list(walk(tmp_path / "photos"))) == ["a.png"]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path, paint: Paint) -> None:
    for name in ("a.png", ".b.png", ".hidden/c.png", "._a.png", "x/.git/d.png"):
        paint("red", f"photos/{name}")
    assert relatives(list(walk(tmp_path / "photos"))) == ["a.png"]


def test_a_hidden_folder_can_be_named(tmp_path: Path, paint: Paint) -> None:
    paint("red", ".hidden/a.png")
    assert relatives(list(walk(tmp_path / ".hidden"))) == ["a.png"]


def test_a_loop_of_links_ends(tmp_path: Path, paint: Paint) -> None:
    paint("red", "photos/a/b.png")
    (tmp_path / "photos" / "a" / "loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "itself").symlink_to("itself")
    assert relatives(list(walk(tmp_path / "photos"))) == ["a/b.png"]


def test_linked_folders_are_followed_once(tmp_path: Path, paint: Paint) -> None:
    paint("red", "elsewhere/a.png")
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "elsewhere")
    assert relatives(list(walk(tmp_path / "photos"))) == ["one/a.png"]


def test_a_link_to_nothing_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("nowhere.png")
    (failure,) = walk(tmp_path)
    assert isinstance(failure, Failure)
    assert failure.uri == str(tmp_path / "a.png")
    assert failure.reason.startswith("cannot be read: No such file")
    assert failure.transient


@pytest.mark.parametrize("name", ["ünï.png", "犬.png", "🐕.png", "a b'c\"d%_#!.png", "a\nb.png"])
def test_names_of_all_kinds(tmp_path: Path, paint: Paint, name: str) -> None:
    path = paint("red", f"photos/{name}")
    (sample,) = walk(tmp_path / "photos")
    assert isinstance(sample, Sample)
    assert (sample.uri, sample.relative) == (str(path), name)


def test_a_name_that_is_not_utf8_is_a_failure(tmp_path: Path, paint: Paint) -> None:
    photo = paint("red", "photos/a.png")
    os.rename(photo, os.path.join(os.fsencode(photo.parent), b"caf\xe9.png"))
    paint("red", "photos/b.png")
    sample, failure = walk(tmp_path / "photos")
    assert isinstance(failure, Failure)
    assert failure.uri == str(tmp_path / "photos" / "caf\\xe9.png")
    assert failure.reason == "its name is not valid UTF-8: rename it"
    assert isinstance(sample, Sample)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_failure(tmp_path: Path, paint: Paint) -> None:
    paint("red", "photos/closed/a.png")
    paint("red", "photos/open/b.png")
    closed = tmp_path / "photos" / "closed"
    closed.chmod(0)
    try:
        failure, sample = walk(tmp_path / "photos")
    finally:
        closed.chmod(0o700)
    assert failure == Failure(
        str(closed), "the folder cannot be read: Permission denied", str(tmp_path / "photos"), True
    )
    assert isinstance(sample, Sample)


def test_a_folder_that_vanishes_is_a_failure(tmp_path: Path) -> None:
    (failure,) = walk(tmp_path / "gone")
    assert isinstance(failure, Failure)
    assert failure.reason == "the folder cannot be read: No such file or directory"
    assert failure.transient


def test_a_picture_by_itself(tmp_path: Path, paint: Paint) -> None:
    path = paint("red", "photos/a.png")
    (sample,) = walk(path)
    assert isinstance(sample, Sample)
    assert (sample.root, sample.relative) == (str(tmp_path / "photos"), "a.png")


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ((), (), ["a.jpg", "b.png", "sub/c.png", "sub/tmp/d.png"]),
        (("*.png",), (), ["b.png", "sub/c.png", "sub/tmp/d.png"]),
        (("sub/*",), (), ["sub/c.png", "sub/tmp/d.png"]),
        ((), ("*.png",), ["a.jpg"]),
        ((), ("*/tmp/*",), ["a.jpg", "b.png", "sub/c.png"]),
        (("*.png", "a.*"), ("c.png",), ["a.jpg", "b.png", "sub/tmp/d.png"]),
        (("nothing",), (), []),
        (("[ab].*",), (), ["a.jpg", "b.png"]),
        # A slash at the end: folders, by their path or their name, with all below them.
        ((), ("sub/",), ["a.jpg", "b.png"]),
        ((), ("tmp/",), ["a.jpg", "b.png", "sub/c.png"]),
        ((), ("sub/tmp/", "b/"), ["a.jpg", "b.png", "sub/c.png"]),
        (("s*/",), ("t?p/",), ["sub/c.png"]),
        ((), ("/", "a.jpg/"), ["a.jpg", "b.png", "sub/c.png", "sub/tmp/d.png"]),
    ],
)
def test_globs_say_what_to_take(
    tmp_path: Path,
    paint: Paint,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    taken: list[str],
) -> None:
    for name in ("a.jpg", "b.png", "sub/c.png", "sub/tmp/d.png"):
        paint("red", f"photos/{name}")
    found = list(walk(tmp_path / "photos", FileFilter(include, exclude)))
    assert sorted(relatives(found)) == taken


def test_captions_stand_beside_a_picture(tmp_path: Path, paint: Paint) -> None:
    """Both conventions: ``photo.txt``, and ``photo.png.txt`` where there is no other."""
    paint("red", "photos/a.png").with_suffix(".txt").write_text("a red thing\n\n  again \n")
    paint("red", "photos/b.png").with_suffix(".png.txt").write_text("another")
    paint("red", "photos/c.png").with_suffix(".txt").write_text("first")
    (tmp_path / "photos" / "c.png.txt").write_text("second")
    paint("red", "photos/d.png").with_suffix(".txt").write_text("  \n")
    said = {item.relative: item.captions for item in walk(tmp_path / "photos")
            if isinstance(item, Sample)}  # fmt: skip
    assert said == {
        "a.png": ("a red thing", "again"),
        "b.png": ("another",),
        "c.png": ("first",),
        "d.png": (),
    }


def test_a_sidecar_in_a_code_page_is_told_and_not_guessed(paint: Paint) -> None:
    path = paint("red")
    path.with_suffix(".txt").write_bytes("un café à Zürich".encode("cp1252"))
    sample = file_sample(path, path.parent)
    assert isinstance(sample, Sample)
    assert sample.captions == ()
    assert sample.notes == ("its sidecar red.txt is neither UTF-8 nor UTF-16: save it as UTF-8",)


def test_a_sidecar_that_is_no_caption_costs_no_picture(paint: Paint) -> None:
    path = paint("red")
    path.with_suffix(".txt").write_text("x" * (2 << 20))
    sample = file_sample(path, path.parent)
    assert isinstance(sample, Sample)
    assert sample.notes == ("its sidecar red.txt is larger than 1 MB and is not used as a caption",)


def test_a_folder_with_the_name_of_a_sidecar_costs_no_picture(paint: Paint) -> None:
    path = paint("red")
    path.with_suffix(".txt").mkdir()
    path.with_suffix(".json").mkdir()
    sample = file_sample(path, path.parent)
    assert isinstance(sample, Sample)
    assert (sample.captions, sample.notes) == ((), ())


def test_a_sidecar_without_permission_costs_no_picture(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paint("red")
    path.with_suffix(".txt").write_text("a dog")

    def denied(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)  # root may read everything
    sample = file_sample(path, path.parent)
    monkeypatch.undo()
    assert isinstance(sample, Sample)
    assert sample.notes == ("its sidecar red.txt cannot be read: no permission",)


def test_a_sidecar_on_a_failing_disk_is_tried_again(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paint("red")
    path.with_suffix(".txt").write_text("a dog")

    def broken(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("builtins.open", broken)
    failure = file_sample(path, path.parent)
    monkeypatch.undo()
    assert isinstance(failure, Failure)
    assert failure.transient


@pytest.mark.parametrize("stem", ["a" * 251, "b" * 248, "語" * 83, "c" * 240])
def test_names_as_long_as_a_file_system_allows(tmp_path: Path, paint: Paint, stem: str) -> None:
    os.replace(paint("red"), tmp_path / f"{stem}.png")
    for path in (tmp_path, tmp_path / f"{stem}.png"):
        (sample,) = walk(path)
        assert isinstance(sample, Sample)
        assert (sample.relative, sample.notes) == (f"{stem}.png", ())


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_sidecar_in_another_unicode_form_is_found(
    tmp_path: Path, paint: Paint, form: str
) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    path = paint("red", f"photos/{unicodedata.normalize(other, 'Café.png')}")
    path.with_name(unicodedata.normalize(form, "Café.txt")).write_text("two cups")
    for where in (path.parent, path):
        (sample,) = walk(where)
        assert isinstance(sample, Sample)
        assert sample.captions == ("two cups",)


def test_an_endless_file_is_not_read_to_its_end(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.search.images.originals.MAX_BYTES", 10)
    with pytest.raises(ImageError, match="larger than"):
        reader(paint("red"))()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_fifos_sockets_and_devices_are_not_opened(tmp_path: Path, paint: Paint) -> None:
    photos = paint("red", "photos/red.png").parent
    beside = ("red.txt", "red.json", "x.csv", "x.jsonl", "x.parquet", "x.npy", "x.tar", "x.zip")
    for name in ("a.jpg", *beside):
        os.mkfifo(photos / name)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(photos / "b.jpg"))
    (photos / "c.jpg").symlink_to("/dev/zero")
    found: dict[str, str] = {}

    def read() -> None:
        for item in open_sources([photos]):
            assert isinstance(item, Sample), item
            assert item.load is not None
            try:
                item.load()
                found[item.relative] = ""
            except ImageError as error:
                found[item.relative] = str(error)

    # In a thread, since opening a FIFO would wait forever.
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(30)
    refused = "is not a regular file"
    assert found == {"a.jpg": refused, "b.jpg": refused, "c.jpg": refused, "red.png": ""}


def test_a_file_that_grows_while_it_is_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.png"
    path.write_bytes(b"first")
    real = os.fstat

    def fstat(handle: int) -> os.stat_result:
        status = real(handle)
        with path.open("ab") as file:
            file.write(b" and second")
        return status

    monkeypatch.setattr("twinlens.search.images.originals.os.fstat", fstat)
    data = reader(path)()
    monkeypatch.undo()
    assert data == path.read_bytes() != b"first"


def test_a_folder_that_was_copied_into_itself_ends(tmp_path: Path, paint: Paint) -> None:
    red = paint("red", "photos/red.png")
    deepest = red.parent.joinpath(*["a"] * (MAX_DEPTH + 1))
    deepest.mkdir(parents=True)
    for folder in (deepest, deepest.parent):
        (folder / "captions.csv").write_text("image,caption\nred.png,one\n")
        (folder / "red.png").write_bytes(red.read_bytes())
    told: list[str] = []
    items = open_sources([red.parent], warn=lambda uri, _: told.append(uri))
    found = [
        (item.uri, item.reason if isinstance(item, Failure) else item.captions) for item in items
    ]
    reason = f"the folder cannot be read: it is more than {MAX_DEPTH} folders deep"
    assert found == [
        (str(deepest), reason),
        (str(deepest.parent / "red.png"), ("one",)),
        (str(red), ()),
    ]
    assert told == [str(deepest.parent / "captions.csv")]
    assert count(red.parent) == 2


def test_counting_ahead_agrees_with_walking(tmp_path: Path, paint: Paint) -> None:
    for name in ("a.png", "b/c.png", ".d.png"):
        paint("red", f"photos/{name}")
    (tmp_path / "photos" / "e.txt").write_text("")
    assert count(tmp_path / "photos") == len(list(walk(tmp_path / "photos"))) == 2


def test_what_does_not_exist_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*/nowhere"):
        open_sources([tmp_path, tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="nothing to ingest"):
        open_sources([])


def test_a_folder_has_one_name_however_it_is_reached(
    tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = paint("red", "photos/a.png")
    monkeypatch.chdir(photo.parent)
    for way in (".", "../photos", f"{tmp_path}/photos/", "./../photos/a.png", photo.parent):
        (sample,) = open_sources([way])
        assert sample.uri == str(photo)
        assert isinstance(sample, Sample)
        assert sample.root == str(photo.parent)

"""Folder trees of pictures, with ``.txt`` sidecars for captions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ingest.sample import Failure, Item, Sample
from search.errors import ImageError
from search.images import MAX_BYTES, is_image_name
from search.records import MAX_CAPTIONS, clean_text

#: A sidecar longer than this is not a caption.
MAX_SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which files of a tree to take: globs matched against the path below the root and the name."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, relative: str) -> bool:
        name = relative.rpartition("/")[2]

        def matches(globs: Sequence[str]) -> bool:
            return any(fnmatch(relative, glob) or fnmatch(name, glob) for glob in globs)

        return (not self.include or matches(self.include)) and not matches(self.exclude)


EVERY_FILE = FileFilter()


def walk(root: Path, files: FileFilter = EVERY_FILE) -> Iterator[Item]:
    """Every picture below ``root`` in name order; hidden files and folders are passed over.

    Symbolic links are followed, each folder once, so that a loop ends.
    """
    root = root.absolute()
    if root.is_file():
        yield file_sample(root, root.parent)
        return
    yield from _walk(root, root, files, set())


def count(root: Path) -> int:
    """How many pictures there are below ``root``, roughly: what ``walk`` filters out counts too."""
    return sum(
        is_image_name(name) and not name.startswith(".")
        for _, _, names in os.walk(root)
        for name in names
    )


def file_sample(path: Path, root: Path) -> Item:
    """One picture file as a sample, with the captions of its sidecar."""
    try:
        uri = os.fspath(path)
        uri.encode()
        status = path.stat()
        captions = sidecar(path)
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return Failure(readable, "its name is not valid UTF-8: rename it", str(root))
    except OSError as error:
        return Failure(str(path), f"cannot be read: {error.strerror}", str(root), transient=True)
    except ValueError as error:
        return Failure(str(path), str(error), str(root))
    return Sample(
        uri=uri,
        root=str(root),
        relative=path.relative_to(root).as_posix(),
        load=reader(path),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        captions=captions,
    )


def reader(path: Path) -> Callable[[], bytes]:
    """Reads the file when called, no earlier."""

    def read() -> bytes:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ImageError(f"larger than {MAX_BYTES >> 20} MB")
        return data

    return read


def sidecar(path: Path) -> tuple[str, ...]:
    """The captions beside a picture: ``photo.txt`` or ``photo.jpg.txt``, one on each line."""
    for beside in (path.with_suffix(".txt"), path.with_name(path.name + ".txt")):
        try:
            if beside.stat().st_size > MAX_SIDECAR_BYTES:
                raise ValueError(f"its sidecar {beside.name} is larger than 1 MB")
            text = beside.read_text("utf-8-sig", errors="replace")
        except FileNotFoundError:
            continue
        captions = dict.fromkeys(filter(None, map(clean_text, text.splitlines())))
        return tuple(captions)[:MAX_CAPTIONS]
    return ()


def _walk(
    root: Path, folder: Path, files: FileFilter, visited: set[tuple[int, int]]
) -> Iterator[Item]:
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in visited:
            return
        visited.add(identity)
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        reason = f"the folder cannot be read: {error.strerror}"
        yield Failure(str(folder), reason, str(root), transient=True)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        if entry.is_dir():
            yield from _walk(root, path, files, visited)
        elif is_image_name(entry.name) and files.takes(path.relative_to(root).as_posix()):
            yield file_sample(path, root)

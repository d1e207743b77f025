"""Walk a folder tree for images with their sidecars, and for archives and tables of images."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from twinlens.ingest.sample import (
    Failure,
    Item,
    Sample,
    Warn,
    failure_of,
    ignore_notices,
)
from twinlens.ingest.sources.passed_over import is_passed_over, tell_undecodable
from twinlens.ingest.sources.sidecar_names import Siblings
from twinlens.ingest.sources.sidecars import read_sidecars
from twinlens.search.images.formats import is_image_name
from twinlens.search.images.originals import read_file
from twinlens.search.milvus.lite.folder import is_database

#: Folders within folders that are entered. Copies of a folder into itself go on without end.
MAX_DEPTH = 200
#: Opens a file or folder that holds images, found below a root; None if it is not one.
Opener = Callable[[Path, Path], Iterator[Item] | None]


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which files of a folder to take: globs matched against the relative path and the name.

    A glob that ends in a slash matches everything below a folder of that path or name.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, relative: str) -> bool:
        if not (self.include or self.exclude):
            return True

        def matches(globs: Sequence[str]) -> bool:
            return any(_matches(relative, glob) for glob in globs)

        return (not self.include or matches(self.include)) and not matches(self.exclude)

    def keeps(self, relative: str) -> bool:
        """Whether ``exclude`` does not match a file that is no picture."""
        return replace(self, include=()).takes(relative)


EVERY_FILE = FileFilter()


def _matches(relative: str, glob: str) -> bool:
    folder, name = posixpath.split(relative)
    if not glob.endswith("/"):
        return fnmatch(relative, glob) or fnmatch(name, glob)
    wanted = glob.rstrip("/")
    while folder:
        above, name = posixpath.split(folder)
        if fnmatch(folder, wanted) or fnmatch(name, wanted):
            return True
        if above == folder:  # the root, of a member of an archive
            return False
        folder = above
    return False


def _no_container(path: Path, root: Path) -> None:
    return None


def walk(
    root: Path,
    files: FileFilter = EVERY_FILE,
    container: Opener = _no_container,
    warn: Warn = ignore_notices,
) -> Iterator[Item]:
    """Yield every image below ``root`` in name order; skip hidden files and folders.

    Folders that file servers make for thumbnails or deleted files are skipped, too, and told. So
    are Milvus Lite databases, which contain no pictures.

    Follows symbolic links, but enters each folder only once, so that a loop ends. A folder that is
    more than ``MAX_DEPTH`` folders deep is a failure.

    Args:
        root: a folder, or one image file.
        files: which files to take.
        container: called with every folder and every file that is not an image.
        warn: told of what is passed over.
    """
    root = root.absolute()
    if root.is_file():
        yield file_sample(root, root.parent)
        return
    yield from _walk(root, root, files, container, warn, set())


def count(root: Path) -> int:
    """Estimate how many images ``walk`` yields: files that it filters out are counted too."""
    total = 0
    for folder, folders, names in os.walk(root):
        if is_database(folder) or is_too_deep(folder, root):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not is_passed_over(name)]
        total += sum(is_image_name(name) and not name.startswith(".") for name in names)
    return total


def is_too_deep(folder: str | Path, root: Path) -> bool:
    """Whether a folder is more than ``MAX_DEPTH`` folders below a root."""
    return os.fspath(folder).count(os.sep) - os.fspath(root).count(os.sep) > MAX_DEPTH


def file_sample(path: str | Path, root: str | Path, siblings: Siblings | None = None) -> Item:
    """Return an image file as a sample, with the captions of its sidecars.

    Args:
        path: the image file.
        root: the ingested folder that it is in.
        siblings: the names in its own folder, if they are listed already.
    """
    path, root = os.fspath(path), os.fspath(root)
    try:
        path.encode()
        status = os.stat(path)
        beside = read_sidecars(path, siblings)
    except UnicodeEncodeError:
        readable = os.fsencode(path).decode("utf-8", "backslashreplace")
        return Failure(readable, "its name is not valid UTF-8: rename it", root)
    except OSError as error:
        return failure_of(error, path, root)
    return Sample(
        uri=path,
        root=root,
        relative=_below(path, root),
        load=reader(path),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        captions=beside.captions,
        metadata=beside.metadata,
        notes=beside.notes,
    )


def _below(path: str, root: str) -> str:
    """The part of a path below its root, with slashes."""
    return path[len(root.rstrip(os.sep)) + 1 :].replace(os.sep, "/")


def reader(path: str | Path) -> Callable[[], bytes]:
    """Return a function that reads the file; it can be called in another process."""
    return partial(read_file, os.fspath(path))


def _walk(
    root: Path,
    folder: Path,
    files: FileFilter,
    container: Opener,
    warn: Warn,
    visited: set[tuple[int, int]],
) -> Iterator[Item]:
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in visited or is_database(folder):
            return
        visited.add(identity)
        if is_too_deep(folder, root):
            raise OSError(None, f"it is more than {MAX_DEPTH} folders deep")
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        reason = f"the folder cannot be read: {error.strerror}"
        yield Failure(str(folder), reason, str(root), transient=True)
        return
    siblings = Siblings(entry.name for entry in entries)
    base = os.fspath(root)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = os.path.join(folder, entry.name)
        is_folder = _is_folder(entry)
        if is_folder and is_passed_over(entry.name):
            warn(str(root), f"folders called {entry.name} are passed over: name one to read it")
            continue
        if not is_folder and not files.takes(_below(path, base)):
            continue
        if not is_folder and is_image_name(entry.name):
            yield file_sample(path, base, siblings)
        elif not is_folder and not _is_file(entry):  # opening a FIFO would block
            continue
        elif (held := container(Path(path), root)) is not None:
            yield from held
        elif is_folder:
            yield from _walk(root, Path(path), files, container, warn, visited)
        else:
            tell_undecodable([entry.name], str(root), warn)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False

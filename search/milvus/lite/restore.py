"""List, delete and restore the backups in a folder; see ``backup``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from twinlens.search.errors import StoreError, UsageError
from twinlens.search.milvus.lite.copier import CopyProgress, FileCopier

MANIFEST = "twinlens-backup.json"
DATABASE = "database.db"
VERSION = 1


def backups(folder: Path) -> list[Path]:
    """The complete backups in a folder, oldest first."""
    try:
        found = [entry for entry in folder.iterdir() if (entry / MANIFEST).is_file()]
    except OSError:
        return []
    return sorted(one for one in found if not one.name.startswith("."))


def newest(folder: Path) -> Path | None:
    """The newest complete backup in a folder."""
    found = backups(folder)
    return found[-1] if found else None


def remove_old(folder: Path, keep: int) -> int:
    """Delete all but the newest backups; return how many were deleted."""
    old = backups(folder)[:-keep]
    for one in old:
        # Without its manifest it is no backup any more, should this be interrupted.
        (one / MANIFEST).unlink()
        shutil.rmtree(one, ignore_errors=True)
    return len(old)


def restore(
    folder: Path, path: Path, *, force: bool = False, progress: CopyProgress = lambda count: None
) -> Path:
    """Copy a backup back, after checking all its files.

    Args:
        folder: one backup, or the folder of several: then the newest.
        path: where the database is to be.
        force: replace a database that is there. The caller keeps others from opening it.
        progress: called with the number of bytes that were copied.

    Returns:
        The backup that was restored.

    Raises:
        UsageError: there is no backup, or there is a database already.
        StoreError: the backup is damaged, or the database cannot be written; nothing changed.
    """
    backup = folder if (folder / MANIFEST).is_file() else newest(folder)
    if backup is None:
        raise UsageError(f"there is no backup in {folder}: `twinlens backup {folder}` makes one")
    if path.exists() and not force and any(path.iterdir()):
        raise UsageError(f"{path} exists: add --force to replace it, or name another --db")
    files = list(_files_in(backup))
    partial = path.with_name(f".{path.name}.{os.getpid()}.restoring")
    old = path.with_name(f".{path.name}.{os.getpid()}.replaced")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        copier = FileCopier(backup / DATABASE, partial, None, progress)
        for name, expected in files:
            copier.data_file(backup / DATABASE / name)
            if copier.files[name] != expected:
                raise StoreError(f"{backup / DATABASE / name} is damaged: restore another backup")
        if path.exists():
            os.rename(path, old)
        os.rename(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        if old.exists() and not path.exists():
            os.rename(old, path)
        where = error.filename or path
        raise StoreError(
            f"{backup} cannot be restored to {path}: {where}: {error.strerror or error}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return backup


def _files_in(backup: Path) -> Iterator[tuple[str, list[Any]]]:
    """The names of a backup's files, with their sizes and checksums."""
    damaged = StoreError(f"{backup / MANIFEST} is damaged: restore another backup")
    try:
        manifest = json.loads((backup / MANIFEST).read_bytes())
        version, files = manifest["twinlens_backup"], manifest["files"]
        listed = [(str(name), [int(one[0]), str(one[1])]) for name, one in files.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if version != VERSION:
        raise StoreError(f"{backup} was written by another version of twinlens ({version!r})")
    for name, expected in listed:
        place = Path(name)
        source = backup / DATABASE / place
        if place.is_absolute() or ".." in place.parts or source.is_symlink():
            raise damaged
        if not source.is_file() or source.stat().st_size != expected[0]:
            raise StoreError(f"{source} is missing or damaged: restore another backup")
        yield name, expected


def sync_folder(folder: Path) -> None:
    """Make a renaming in a folder last, also if the machine crashes."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""Copy a Milvus Lite database consistently while another process writes to it.

    FOLDER/20261129-021500/twinlens-backup.json   the files, with their sizes and checksums
    FOLDER/20261129-021500/database.db/           the database, which can be opened as it is

Data files never change, so they are copied first, or linked from the backup before. Then everything
that changes is copied at one moment: aliases, schemas, manifests and logs. If any of it changed
meanwhile, it is copied again. What is copied is what a process that is killed at that moment leaves
behind, which Milvus Lite and the next ingest continue from. If there is no such moment, the ledger
is copied before the pictures that it names. A backup appears when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinlens.search.errors import StoreError
from twinlens.search.milvus.lite.checksums import Checksums, DamagedRecordError, write_whole
from twinlens.search.milvus.lite.copier import CopyProgress, FileCopier
from twinlens.search.milvus.lite.failures import is_whole_array
from twinlens.search.milvus.lite.folder import LiteFolder, Stamp, UnknownFormatError, stamp_of
from twinlens.search.milvus.lite.recorder import files_of
from twinlens.search.milvus.lite.restore import DATABASE, MANIFEST, VERSION, newest, sync_folder
from twinlens.search.processes import is_running

#: How often to look for a moment without writes, and in all; and the seconds to wait in between.
QUIET_TRIES = 20
TRIES = 60
PAUSE = 0.05
_PARTIAL = ".partial-"


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A complete backup.

    Attributes:
        folder: of the backup.
        files: how many files it has.
        bytes: their size.
        copied: how many bytes were copied; the others are shared with the backup before.
        collections: the collections of Milvus Lite.
    """

    folder: Path
    files: int
    bytes: int
    copied: int
    collections: tuple[str, ...]


def back_up(
    path: Path,
    folder: Path,
    verify: Callable[[Path], object],
    progress: CopyProgress = lambda count: None,
) -> BackedUp:
    """Back up a database into a new folder below ``folder``.

    Args:
        path: of the database.
        folder: of all backups; it is created.
        verify: called with the copy before it counts as a backup; raises if it is not sound.
        progress: called with the number of bytes that were copied or linked.

    Raises:
        StoreError: the database is damaged, or the folder cannot be written, or is full: then there
            is no new backup.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_partial(folder)
        before = newest(folder)
        partial = folder / f"{_PARTIAL}{os.getpid()}"
        try:
            copier = FileCopier(
                path, partial / DATABASE, before / DATABASE if before else None, progress
            )
            names = _copy_database(LiteFolder(path), copier)
            _copy_records(Checksums(path), copier)
            verify(partial / DATABASE)
            manifest = {
                "twinlens_backup": VERSION,
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "database": str(path),
                "files": copier.files,
            }
            write_whole(partial / MANIFEST, json.dumps(manifest, indent=1).encode())
            final = _free_name(folder)
            os.rename(partial, final)
            sync_folder(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        where = error.filename or folder
        raise StoreError(f"{where}: {error.strerror or error}: there is no new backup") from error
    total = sum(size for size, _ in copier.files.values())
    return BackedUp(final, len(copier.files), total, copier.copied, tuple(names))


def size_of(path: Path) -> int:
    """How many bytes a backup of a database has to read, about."""
    folder = LiteFolder(path)
    total = 0
    for name in folder.collections():
        with suppress(OSError, UnknownFormatError):
            total += sum(one.stat().st_size for one in files_of(folder, name))
    return total


def _copy_database(folder: LiteFolder, copier: FileCopier) -> list[str]:
    """Copy everything at one moment; return the names of the collections."""
    for number in range(TRIES):
        before = _state(folder)
        names = folder.collections()
        missing = [name for name in names if not _copy_data(folder, name, copier)]
        wanted = None if missing else _copy_changing(folder, names, copier)
        quiet = _state(folder) == before
        # Data files that were written meanwhile are copied in the next round.
        if (
            wanted is not None
            and (quiet or number >= QUIET_TRIES)
            and folder.collections() == names
        ):
            break
        time.sleep(PAUSE * min(number, 10))
    else:
        raise StoreError(f"{folder.path} changes too often: back it up when less is written to it")
    for name in [name for name in copier.files if name not in wanted]:
        copier.drop(name)  # merged into another file, or dropped, after an earlier round
    copier.finish_logs()
    return names


def _copy_data(folder: LiteFolder, name: str, copier: FileCopier) -> bool:
    """Copy the data files of a collection; whether all were there."""
    try:
        paths = files_of(folder, name)
    except UnknownFormatError as error:
        raise StoreError(
            f"{name} in {folder.path} has another format than the one that is known here: copy "
            "the folder while nobody has it open"
        ) from error
    try:
        for path in paths:
            if path.suffix == ".idx" and not is_whole_array(path):
                return False  # being written
            copier.data_file(path)
    except FileNotFoundError:
        return False
    return True


def _copy_changing(folder: LiteFolder, names: list[str], copier: FileCopier) -> set[str] | None:
    """Copy all metadata and logs.

    Returns:
        The names of all files of the copy; None if a collection changed meanwhile, or if one of its
        data files was not copied yet.
    """
    wanted: set[str] = set()
    try:
        # The ledger first: what it names is written before it.
        for name in sorted(names, key=lambda name: "_files_g" not in name):
            root = folder.folder_of(name)
            stamp = stamp_of(root / "manifest.json")
            data = files_of(folder, name)
            changing = [root / "schema.json", *([root / "manifest.json"] if stamp else [])]
            for path in changing:
                copier.metadata(path)
            logs = folder.log_files(name)
            for path in logs:
                copier.log(path)
            if stamp_of(root / "manifest.json") != stamp:
                return None
            paths = [*data, *changing, *logs]
            wanted |= {path.relative_to(folder.path).as_posix() for path in paths}
        if (folder.path / "aliases.json").exists():
            copier.metadata(folder.path / "aliases.json")
            wanted.add("aliases.json")
    except FileNotFoundError:  # flushed, or dropped
        return None
    return wanted if wanted <= copier.files.keys() else None


def _state(folder: LiteFolder) -> dict[Path, Stamp | None]:
    """What changes with every write."""
    paths = [folder.path / "aliases.json"]
    for name in folder.collections():
        root = folder.folder_of(name)
        paths += [root / "schema.json", root / "manifest.json", *folder.log_files(name)]
    return {path: stamp_of(path) for path in paths}


def _copy_records(source: Checksums, copier: FileCopier) -> None:
    """Give the copy the checksums of the original, so that damage is not copied unnoticed."""
    target = Checksums(copier.target)
    for name in list(copier.files):
        path = copier.target / name
        original = copier.source / name
        if path.suffix == ".json":
            target.record(path, metadata=True)
        elif path.parent.name == "wal":
            with suppress(DamagedRecordError):
                size = path.stat().st_size
                for part in source.followed(original):
                    if part.end <= size:
                        target.add(path, part)
        else:
            with suppress(DamagedRecordError):
                recorded = source.recorded(original)
                target.keep(path, recorded) if recorded else target.record(path)
    for path in sorted(target.folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(copier.target).as_posix()
            data = path.read_bytes()
            copier.files[name] = [len(data), hashlib.sha256(data).hexdigest()]


def _free_name(folder: Path) -> Path:
    while True:
        path = folder / time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        if not path.exists():
            return path
        time.sleep(0.2)


def _remove_partial(folder: Path) -> None:
    """Delete what backups that were killed left behind."""
    for path in folder.glob(f"{_PARTIAL}*"):
        pid = path.name.removeprefix(_PARTIAL)
        if not pid.isdigit() or int(pid) == os.getpid() or not is_running(int(pid)):
            shutil.rmtree(path, ignore_errors=True)

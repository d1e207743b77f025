"""Back up a Milvus Lite database, and restore a backup; both are checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.ingest.integrity.check import check
from twinlens.search.errors import StoreError, UsageError
from twinlens.search.milvus.connection import Address, check_unlocked, is_server
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.lite import backup as files
from twinlens.search.milvus.lite import restore as saved
from twinlens.search.milvus.lite.integrity.repair import locked
from twinlens.search.paths import expand_home

if TYPE_CHECKING:
    from twinlens.ingest.report import Progress

Bars = Callable[[int, str], "Progress | None"]
#: What a moment between two writes looks like: the next ingest mends it.
_UNFINISHED = ("lost picture", "lost text", "stray picture", "stray text")


def back_up(
    db: str, folder: Path, *, keep: int = 0, bars: Bars = lambda total, unit: None
) -> files.BackedUp:
    """Back up a Milvus Lite database, also while others write to it; see ``twinlens.backup``.

    Args:
        db: its path.
        folder, keep: see there.
        bars: makes progress bars.
    """
    path = _path_of(db)
    folder = expand_home(folder).absolute()
    if not (path / "collections").is_dir():
        raise UsageError(f"there is no database {db}")
    if folder == path or path in folder.parents:
        raise UsageError(f"{folder} is in the database: choose a folder elsewhere, on another disk")
    bar = bars(files.size_of(path), "B")
    done = files.back_up(path, folder, _verify, (lambda n: None) if bar is None else bar.update)
    if keep:
        saved.remove_old(folder, keep)
    return done


def restore(
    folder: Path, db: str, *, force: bool = False, bars: Bars = lambda total, unit: None
) -> Path:
    """Restore a backup of a Milvus Lite database; see ``twinlens.restore``.

    Args:
        folder, force: see there.
        db: the path to restore to.
        bars: makes progress bars.
    """
    path = _path_of(db)
    bar = bars(0, "B")
    with ExitStack() as stack:
        if force and path.is_dir():
            check_unlocked(str(path))
            stack.enter_context(locked(path))
        update = (lambda n: None) if bar is None else bar.update
        return saved.restore(expand_home(folder).absolute(), path, force=force, progress=update)


def _path_of(db: str) -> Path:
    if is_server(db):
        raise UsageError(
            f"{db} is a server: `twinlens export` writes a collection to files, and Milvus has "
            "backups of its own (https://milvus.io/docs/milvus_backup_overview.md)"
        )
    return Path(Address.parse(os.fspath(db)).uri)


def _verify(path: Path) -> None:
    """Raise ``StoreError`` if a copy is damaged."""
    try:
        with Database(str(path), create=False) as database:
            report = check(database)
    finally:
        # Searches make snapshots when they need them.
        shutil.rmtree(path / "snapshot", ignore_errors=True)
    for one in report.damage:
        if one.kind not in _UNFINISHED:
            raise StoreError(
                f"{one.kind} {Path(one.place).name} {one.reason}: there is no new backup; run "
                "`twinlens check` on the database"
            )

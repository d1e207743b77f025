"""``twinlens backup`` and ``twinlens restore``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

import twinlens
from twinlens.cli.check import progress_bars
from twinlens.cli.options import COLLECTION, Quiet
from twinlens.cli.output import counted
from twinlens.cli.printing import say

LiteFile = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="TWINLENS_DB",
        help="The database: a Milvus Lite path ending in .db. Default: twinlens.db in your data "
        "folder.",
        show_default=False,
        rich_help_panel=COLLECTION,
    ),
]


def backup(
    folder: Annotated[
        Path,
        typer.Argument(
            help="The folder of all backups of this database, on another disk if possible."
        ),
    ],
    keep: Annotated[
        int,
        typer.Option(
            help="Delete all but this many of the newest backups; 0 keeps all.",
            min=0,
            rich_help_panel="Run",
        ),
    ] = 0,
    db: LiteFile = None,
    quiet: Quiet = False,
) -> None:
    """Back up a Milvus Lite database, also while others write to it, and check the copy."""
    with ExitStack() as stack:
        done = twinlens.backup(folder, db, keep=keep, progress=progress_bars(stack, quiet=quiet))
    if not quiet:
        size, copied = (f"{count / 1e6:,.1f} MB" for count in (done.bytes, done.copied))
        say(f"backed up {counted(done.files, 'file')}, {size}, to {done.folder}; {copied} copied")


def restore(
    folder: Annotated[
        Path, typer.Argument(help="A backup, or the folder of several: then the newest.")
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the database that is there.", rich_help_panel="Run"),
    ] = False,
    db: LiteFile = None,
    quiet: Quiet = False,
) -> None:
    """Restore a backup of a Milvus Lite database, after checking its files."""
    with ExitStack() as stack:
        bars = progress_bars(stack, quiet=quiet)
        done = twinlens.restore(folder, db, force=force, progress=bars)
    if not quiet:
        say(f"restored {done} to {db or twinlens.default_db()}")

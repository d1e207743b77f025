"""``twinlens copy``: a collection from one database to another."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

import twinlens
from twinlens.cli.options import LayoutFlags, Quiet
from twinlens.cli.output import contents, counted

if TYPE_CHECKING:
    from twinlens.ingest.report import Progress


def copy(
    layout: LayoutFlags,
    source: Annotated[str, typer.Argument(help="The database to copy from.", metavar="SRC")],
    target: Annotated[str, typer.Argument(help="The database to copy to.", metavar="DST")],
    collection: Annotated[
        str,
        typer.Option("--collection", "-c", envvar="TWINLENS_COLLECTION", help="Which collection."),
    ] = twinlens.DEFAULT_COLLECTION,
    to: Annotated[
        str, typer.Option(help="The copy's name. Default: the same.", show_default=False)
    ] = "",
    sample: Annotated[
        int, typer.Option(help="Pictures, and texts, whose copies are compared at the end.", min=0)
    ] = 1_000,
    source_token: Annotated[
        str,
        typer.Option(envvar="TWINLENS_SOURCE_TOKEN", help="Of SRC, a server.", show_default=False),
    ] = "",
    target_token: Annotated[
        str,
        typer.Option(envvar="TWINLENS_TOKEN", help="Of DST, a server.", show_default=False),
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Copy a collection to another database, a server or a file; run it again to go on."""
    from tqdm import tqdm

    with ExitStack() as stack:

        def bar(total: int) -> Progress:
            made = tqdm(total=total, unit=" rows", disable=True if quiet else None, file=sys.stderr)
            shown: Progress = stack.enter_context(made)
            return shown

        outcome = twinlens.copy(
            source,
            target,
            collection,
            to=to,
            source_token=source_token,
            target_token=target_token,
            sample=sample,
            progress=bar,
            **layout.options,
        )
    if not quiet:
        copied = contents(outcome.images, outcome.texts, outcome.files)
        print(
            f"{outcome.collection} holds {copied}, the same as {source}; "
            f"{counted(outcome.written, 'row')} written in "
            f"{outcome.seconds:.1f} s ({outcome.rows_per_second:.0f}/s), "
            f"{outcome.compared:,} compared"
        )

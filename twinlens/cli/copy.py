"""``twinlens copy``: copy a collection to another database."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

import twinlens
from twinlens.cli.options import LAYOUT, LAYOUT_FLAGS, Quiet, with_options
from twinlens.cli.output import contents, counted
from twinlens.cli.printing import say
from twinlens.search.milvus.layout import OPTIONS, LayoutOptions

if TYPE_CHECKING:
    from twinlens.ingest.report import Progress


@with_options(OPTIONS, before="quiet", panel=LAYOUT, flags=LAYOUT_FLAGS)
def copy(
    source: Annotated[str, typer.Argument(help="The database to copy from.", metavar="SRC")],
    target: Annotated[str, typer.Argument(help="The database to copy to.", metavar="DST")],
    collection: Annotated[
        str,
        typer.Option(
            "--collection", "-c", envvar="TWINLENS_COLLECTION", help="The collection to copy."
        ),
    ] = twinlens.DEFAULT_COLLECTION,
    to: Annotated[
        str, typer.Option(help="The name of the copy. Default: the same.", show_default=False)
    ] = "",
    sample: Annotated[
        int, typer.Option(help="How many pictures, and texts, to compare at the end.", min=0)
    ] = 1_000,
    source_token: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_SOURCE_TOKEN",
            help="The password or API key of SRC, if it is a server.",
            show_default=False,
        ),
    ] = "",
    target_token: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_TOKEN",
            help="The password or API key of DST, if it is a server.",
            show_default=False,
        ),
    ] = "",
    quiet: Quiet = False,
    **layout: Unpack[LayoutOptions],
) -> None:
    """Copy a collection to another database; if interrupted, run it again to resume."""
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
            **layout,
        )
    if not quiet:
        copied = contents(outcome.images, outcome.texts, outcome.files)
        say(
            f"{outcome.collection} holds {copied}, the same as {source}; "
            f"{counted(outcome.written, 'row')} written in "
            f"{outcome.seconds:.1f} s ({outcome.rows_per_second:.0f}/s), "
            f"{outcome.compared:,} compared"
        )

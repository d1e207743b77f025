"""``twinlens ingest``: store pictures and captions."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import twinlens
from twinlens.cli.options import OUTPUT, LayoutFlags, ModelOptions, Quiet
from twinlens.cli.output import ITEMS_FAILED, counted, print_failures, print_preview
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twinlens.ingest.report import IngestReport, ItemCallback


def ingest(
    place: ModelOptions,
    layout: LayoutFlags,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Folders, pictures, caption files, tar, zip, Parquet, URL lists, embeddings; "
            "here or at an address such as s3://bucket/folder.",
            show_default=False,
        ),
    ],
    captions: Annotated[
        str | None,
        typer.Option(
            help="Captions for the pictures: JSON, CSV, Parquet, COCO, Flickr.",
            rich_help_panel="Source",
        ),
    ] = None,
    include: Annotated[
        list[str],
        typer.Option(
            help="Take only files matching this glob; can be repeated.", rich_help_panel="Source"
        ),
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    exclude: Annotated[
        list[str],
        typer.Option(
            help="Pass over files matching this glob; can be repeated.", rich_help_panel="Source"
        ),
    ] = [],  # noqa: B006
    image_column: Annotated[
        str, typer.Option(help="The caption file's picture column.", rich_help_panel="Source")
    ] = "",
    caption_column: Annotated[
        str, typer.Option(help="The caption file's text column.", rich_help_panel="Source")
    ] = "",
    embeddings_model: Annotated[
        str,
        typer.Option(
            help="Which model made the embeddings among the paths.", rich_help_panel="Source"
        ),
    ] = "",
    bulk: Annotated[
        str,
        typer.Option(
            help="Have the server import what is new from storage it reads: s3://bucket/prefix, "
            "or a folder.",
            show_default=False,
            rich_help_panel="Run",
        ),
    ] = "",
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Delete pictures of these folders that are gone.", rich_help_panel="Run"
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Try items again that failed before.", rich_help_panel="Run"
        ),
    ] = False,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Fetch pictures on the web again.", rich_help_panel="Fetching"
        ),
    ] = False,
    allow_network: Annotated[
        list[str],
        typer.Option(
            help="A network that is not public, to fetch from all the same: 10.0.0.0/8.",
            rich_help_panel="Fetching",
        ),
    ] = [],  # noqa: B006
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on, and keep in step with the folders: what is deleted there is deleted here, "
            "as with --prune.",
            rich_help_panel="Run",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.", rich_help_panel="Run")
    ] = False,
    cluster: Annotated[
        str,
        typer.Option(
            help="Read and encode on a Ray cluster: local, auto or HOST:6379.",
            rich_help_panel="Run",
        ),
    ] = "",
    report: Annotated[
        Path | None,
        typer.Option(help="Write a JSON line for every item to this file.", rich_help_panel=OUTPUT),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Store pictures and captions; what is stored already is not encoded again."""
    source: dict[str, Any] = {
        "captions": captions,
        "include": include,
        "exclude": exclude,
        "image_column": image_column,
        "caption_column": caption_column,
        "refresh": refresh,
        "embeddings_model": embeddings_model,
        "allow_networks": allow_network,
    }
    if dry_run and watch:
        raise UsageError("--dry-run says once what would be done: leave out --watch")
    if dry_run and report is not None:
        raise UsageError(
            "--dry-run does nothing that --report could tell of: leave one of them out"
        )
    with place.reach(place.model, create=True) as index:
        if dry_run:
            print_preview(index.preview(*paths, **source))
            return

        def once(
            paths: Sequence[str | Path], prune: bool, report: Path | ItemCallback | None
        ) -> IngestReport:
            with _progress(paths, quiet) as progress:
                outcome = index.ingest(
                    *paths,
                    **source,
                    **layout.options,
                    bulk=bulk,
                    prune=prune,
                    retry_failed=retry_failed,
                    report=report,
                    progress=progress,
                    cluster=cluster,
                )
            if not quiet:
                print(_summary(outcome, index), flush=True)
            print_failures(outcome, hint=": --report FILE lists them all")
            return outcome

        if not watch:
            if once(paths, prune, report).failed_count:
                raise typer.Exit(ITEMS_FAILED)
            return
        from twinlens.ingest.report import open_report
        from twinlens.ingest.watch import watch as watching

        folders = [Path(os.path.expanduser(path)) for path in paths]
        # One report of the whole watch, whatever the number of runs.
        with open_report(report) as sink:
            for _ in watching(folders, partial(once, report=sink), _warn):
                pass


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _progress(paths: Sequence[str | Path], quiet: bool) -> Iterator[Any]:
    from threading import Thread

    from tqdm import tqdm

    from twinlens.ingest.sources.folder import count

    with tqdm(unit=" items", disable=True if quiet else None, file=sys.stderr) as bar:
        folders = [Path(os.path.expanduser(path)) for path in paths]
        if all(folder.is_dir() for folder in folders):
            # Beside the work: the bar learns how far it has to go when the counting is done.
            def learn() -> None:
                bar.total = sum(map(count, folders))

            Thread(target=learn, daemon=True).start()
        yield bar


def _summary(report: IngestReport, index: twinlens.Index | twinlens.RemoteIndex) -> str:
    rate = report.images / report.seconds if report.seconds else 0.0
    parts = [f"{counted(report.images, 'image')} and {counted(report.texts, 'text')} encoded"]
    for count, what in (
        (report.unchanged, "unchanged"),
        (report.duplicates, f"more path{'s' * (report.duplicates > 1)} of stored images"),
        (report.updated, "updated"),
        (report.removed, "removed"),
        (report.missing, "gone from disk but kept (--prune removes them)"),
        (report.failed_count, "failed"),
        (report.failed_before, "failed before and unchanged (--retry-failed tries again)"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    speed = f", {rate:.0f} images/s" if report.images else ""
    held = index.info()
    return (
        f"{', '.join(parts)} in {report.seconds:.1f} s{speed}\n"
        f"{held.name} now holds {counted(held.images, 'image')} and {counted(held.texts, 'text')} "
        f"({held.fingerprint.label})"
    )

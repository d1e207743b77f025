"""``twinlens ingest``: store pictures and captions in a collection."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

import twinlens
from twinlens.cli.options import LAYOUT, LAYOUT_FLAGS, OUTPUT, ModelOptions, Quiet, with_options
from twinlens.cli.output import (
    INTERRUPTED,
    ITEMS_FAILED,
    counted,
    print_failures,
    print_notices,
    print_preview,
)
from twinlens.cli.printing import say
from twinlens.ingest.options import RUN_OPTIONS, SOURCE_OPTIONS, IngestOptions
from twinlens.search.errors import UsageError
from twinlens.search.milvus.layout import OPTIONS as LAYOUT_OPTIONS
from twinlens.search.paths import expand_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twinlens.ingest.report import IngestReport


OPTIONS = {**SOURCE_OPTIONS, **RUN_OPTIONS, **LAYOUT_OPTIONS}


@with_options(
    {name: one for name, one in OPTIONS.items() if name != "progress"},
    before="watch",
    panel="Source",
    panels={
        **dict.fromkeys(("refresh", "allow_networks"), "Fetching"),
        **dict.fromkeys(RUN_OPTIONS, "Run"),
        "report": OUTPUT,
        **dict.fromkeys(LAYOUT_OPTIONS, LAYOUT),
    },
    flags={"allow_networks": ["--allow-network"], **LAYOUT_FLAGS},
    help={
        "include": "Take only files of folders that match this glob, such as *.jpg; repeatable.",
        "exclude": "Skip files that match this glob, such as *.gif or cache/; repeatable.",
        "allow_networks": "Allow downloads from a network that is not public, such as "
        "10.0.0.0/8; repeatable.",
        "report": "Write a JSON line for every item to this file.",
    },
)
def ingest(
    place: ModelOptions,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Folders, pictures, caption files, tar or zip archives, Parquet files, URL lists "
            "or embeddings; local or remote, such as s3://bucket/folder.",
            show_default=False,
        ),
    ],
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Keep running, and update the collection when the folders change; what is deleted "
            "there is deleted from the collection, as with --prune.",
            rich_help_panel="Run",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be done, and exit.", rich_help_panel="Run"
        ),
    ] = False,
    quiet: Quiet = False,
    **options: Unpack[IngestOptions],
) -> None:
    """Store pictures and captions; skip those that are stored already."""
    if dry_run and watch:
        raise UsageError("--dry-run runs once: leave out --watch")
    if dry_run and options["report"] is not None:
        raise UsageError("--dry-run processes no items to report: leave out --report")
    with place.reach(place.model, create=True) as index:
        if dry_run:
            source = {name: options[name] for name in SOURCE_OPTIONS}  # type: ignore[literal-required]
            print_preview(index.preview(*paths, **source))
            return

        from twinlens.ingest.report import IngestInterrupted

        def once(paths: Sequence[str | Path], given: IngestOptions) -> IngestReport:
            with _progress(paths, quiet) as progress:
                try:
                    outcome = index.ingest(*paths, **{**given, "progress": progress})
                except IngestInterrupted as stopped:
                    done = _counts(stopped.report)
                    _warn(f"stopped: {done}; they are stored, and the next run continues there")
                    raise typer.Exit(INTERRUPTED) from stopped
            if not quiet:
                for line in _summary(outcome, index):
                    say(line, flush=True)
                if given.get("policy") is not None:
                    say(_moderated(outcome), flush=True)
                if given.get("leave_out") is not None and not outcome.left_out:
                    _warn("nothing was left out: no picture or caption is in the --leave-out list")
            print_notices(outcome)
            print_failures(outcome, hint=": --report FILE lists them all")
            return outcome

        if not watch:
            if once(paths, options).failed_count:
                raise typer.Exit(ITEMS_FAILED)
            return
        from twinlens.ingest.report import open_report
        from twinlens.ingest.watch import watch as watching

        folders = [expand_home(path) for path in paths]
        # One report file for all runs of the watch.
        report = options["report"]
        own = [] if report is None or callable(report) else [Path(report)]
        with open_report(report) as on_item:

            def again(paths: Sequence[Path], prune: bool) -> IngestReport:
                return once(paths, {**options, "prune": prune, "report": on_item})

            for _ in watching(folders, again, _warn, own=own):
                pass


def _warn(line: str) -> None:
    say(line, file=sys.stderr, flush=True)


@contextmanager
def _progress(paths: Sequence[str | Path], quiet: bool) -> Iterator[Any]:
    from threading import Thread

    from tqdm import tqdm

    from twinlens.ingest.sources.folder import count

    with tqdm(unit=" items", disable=True if quiet else None, file=sys.stderr) as bar:
        folders = [expand_home(path) for path in paths]
        if all(folder.is_dir() for folder in folders):
            # Count in parallel: the total is shown once the counting is done.
            def set_total() -> None:
                bar.total = sum(map(count, folders))

            Thread(target=set_total, daemon=True).start()
        yield bar


def _summary(report: IngestReport, index: twinlens.Index | twinlens.RemoteIndex) -> tuple[str, str]:
    rate = report.images / report.seconds if report.seconds else 0.0
    speed = f", {rate:.0f} images/s" if report.images else ""
    info = index.info()
    return (
        f"{_counts(report)} in {report.seconds:.1f} s{speed}",
        f"{info.name} now holds {counted(info.images, 'image')} and {counted(info.texts, 'text')} "
        f"({info.fingerprint.label})",
    )


def _counts(report: IngestReport) -> str:
    parts = [f"{counted(report.images, 'image')} and {counted(report.texts, 'text')} encoded"]
    for count, what in (
        (report.unchanged, "unchanged"),
        (report.duplicates, f"more path{'s' * (report.duplicates > 1)} of stored images"),
        (report.updated, "updated"),
        (report.left_out, "left out"),
        (report.removed, "removed"),
        (report.missing, "missing on disk but kept (--prune removes them)"),
        (report.failed_count, "failed"),
        (report.failed_before, "failed before and unchanged (--retry-failed tries again)"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    return ", ".join(parts)


def _moderated(report: IngestReport) -> str:
    """What a policy found in the new pictures."""
    if not report.images:
        return (
            "the policy judged nothing, since no picture is new: `twinlens classify --policy FILE` "
            "judges those that are stored"
        )
    if not report.flagged:
        return "the policy flagged none of the new pictures"
    more = " more" if report.held else ""
    return (
        f"the policy held back {counted(report.held, 'new picture')} and flagged "
        f"{report.flagged - report.held:,}{more}: `twinlens review` lists them"
    )

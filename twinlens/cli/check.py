"""``twinlens check``: find damage in a database, and repair it."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import twinlens
from twinlens.cli.options import COLLECTION, AsJson, DatabaseOptions, Quiet
from twinlens.cli.output import DAMAGED, REPAIRED, counted
from twinlens.cli.printing import say, say_json
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from twinlens.ingest.integrity.report import CheckReport


def check(
    place: DatabaseOptions,
    collection: Annotated[
        str,
        typer.Option(
            "--collection",
            "-c",
            help="The collection to check. Default: all.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = "",
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Repair what can be repaired, after copying metadata aside.",
            rich_help_panel="Run",
        ),
    ] = False,
    media: Annotated[
        Path | None,
        typer.Option(
            help="The media folder of a server to check as well. Default: the one of `twinlens "
            "serve`, if there is one.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Check all files, rows, vectors and thumbnails, and repair them if asked.

    Exit codes: 0 sound, 4 damaged, 5 damaged and repaired.
    """
    if place.is_twinlens:
        raise UsageError(f"this command does not work over HTTP: run it where {place.db} runs")
    with ExitStack() as stack:
        bars = progress_bars(stack, quiet=quiet)
        report = twinlens.check(
            place.db,
            [collection] if collection else (),
            token=place.token,
            repair=repair,
            progress=bars,
        )
        report = _with_media(report, media, repair=repair, bars=bars)
    if as_json:
        say_json(report_dict(report))
    else:
        print_report(report, quiet=quiet)
        if report.health == "damaged" and not (quiet or repair):
            command = ["twinlens", "check", "--repair"]
            command += ["--collection", collection] * bool(collection)
            command += ["--db", place.db] if place.db else []
            say(f"`{shlex.join(command)}` repairs what can be repaired")
    if report.health != "sound":
        raise typer.Exit(REPAIRED if report.health == "repaired" else DAMAGED)


def progress_bars(stack: ExitStack, *, quiet: bool) -> Any:
    """Makes a progress bar on stderr for a total and a unit; ``stack`` closes them."""
    from tqdm import tqdm

    def bar(total: int, unit: str) -> Any:
        made = tqdm(total=total, unit=unit, unit_scale=unit == "B", leave=False,
                    disable=True if quiet else None, file=sys.stderr)  # fmt: skip
        return stack.enter_context(made)

    return bar


def _with_media(report: CheckReport, media: Path | None, *, repair: bool, bars: Any) -> CheckReport:
    from twinlens.search.paths import expand_home
    from twinlens.server.media_check import check_media, media_files
    from twinlens.server.settings import default_media

    folder = expand_home(media or default_media())
    if not folder.is_dir():
        if media is not None:
            raise UsageError(f"there is no folder {media}")
        return report
    bar = bars(sum(1 for _ in media_files(folder)), " files")
    found = tuple(check_media(folder, repair=repair, progress=bar.update))
    return replace(report, damage=report.damage + found)


def report_dict(report: CheckReport) -> dict[str, Any]:
    """The report for JSON."""
    return {"health": report.health} | asdict(report)


def print_report(report: CheckReport, *, quiet: bool = False) -> None:
    """Print a report for people: damage on stderr, what it comes to on stdout."""
    for one in report.damage:
        done = f"; {one.repaired}" if one.repaired else ""
        say(f"{one.kind}: {one.place}: {one.reason}{done}", file=sys.stderr)
    if quiet:
        return
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in report.notes:
        reasons.setdefault((one.reason, one.repaired), []).append(one.place)
    for (reason, repaired), places in reasons.items():
        where = places[0] if len(places) == 1 else f"{len(places):,} files, such as {places[0]}"
        say(f"note: {where}: {reason}{repaired and '; '}{repaired}", file=sys.stderr)
    if report.aside:
        say(f"what a repair replaced is in {report.aside}")
    if report.ingest_again:
        paths = counted(len(report.ingest_again), "path")
        say(f"ingest {paths} again, such as {report.ingest_again[0]}")
    rows = counted(sum(report.collections.values()), "row")
    collections = counted(len(report.collections), "collection")
    say(f"{report.health}: {rows} of {collections} compared in {report.seconds:.1f} s")

"""``twinlens describe``: propose texts for pictures that have none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from twinlens.cli.options import AsJson, ModelOptions, Quiet, lines_of, with_options
from twinlens.cli.output import ITEMS_FAILED, PAGE, counted, new_table, not_empty, show
from twinlens.cli.printing import cell, confirm, say, say_json
from twinlens.search.analysis.describe_options import OPTIONS, DescribeOptions
from twinlens.search.errors import TwinlensError, UsageError

if TYPE_CHECKING:
    from twinlens.search.analysis.describe import Described


@dataclass
class _Totals:
    """How many pictures were described, and what became of the others."""

    proposed: int = 0
    unsure: int = 0
    captioned: int = 0
    failed: int = 0
    written: int = 0


@with_options(
    {name: option for name, option in OPTIONS.items() if name != "labels"},
    before="texts",
    panel="Proposals",
)
def describe(
    place: ModelOptions,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures or folders, which are not stored; or ids or paths of stored pictures."
        ),
    ] = None,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing",
            help="Describe all stored pictures without captions.",
            rich_help_panel="Pictures",
        ),
    ] = False,
    where: Annotated[
        str,
        typer.Option(
            help="With --missing, only those that match this filter: 'year >= 2020'.",
            rich_help_panel="Pictures",
        ),
    ] = "",
    texts: Annotated[
        str,
        typer.Option(
            "--labels",
            help="The texts to choose from: cat,dog,horse. Default: the stored captions, or "
            "everyday words.",
            rich_help_panel="Proposals",
        ),
    ] = "",
    labels_file: Annotated[
        Path | None,
        typer.Option(help="A file with one such text per line.", rich_help_panel="Proposals"),
    ] = None,
    write_sidecars: Annotated[
        bool,
        typer.Option(
            "--write-sidecars",
            help="Write the best proposal to PICTURE.json beside each picture; the next ingest "
            "reads it as a proposed caption.",
            rich_help_panel="Files",
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Write without asking.", rich_help_panel="Files"),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **choice: Unpack[DescribeOptions],
) -> None:
    """Propose texts for pictures that have none, each with its probability."""
    if yes and not write_sidecars:
        raise UsageError("--yes answers the question of --write-sidecars: add that")
    if write_sidecars and not yes and (as_json or quiet):
        raise UsageError("--write-sidecars asks before it writes: add --yes to --json or --quiet")
    chosen = [*texts.split(","), *(lines_of(labels_file) if labels_file is not None else ())]
    choice["labels"] = [one for one in chosen if one.strip()]
    totals = _Totals()
    with place.reach(place.model, create=bool(paths)) as index:
        described = index.describe(*(paths or ()), missing=missing, where=where, **choice)
        found = not_empty(described, paths or ())
        for page in _pages(found, 1 if as_json else PAGE, quiet=quiet):
            for one in page:
                _count(one, totals)
            if as_json:
                _print_json(page, totals, write=write_sidecars)
                continue
            if not quiet:
                _show_page(page)
            if write_sidecars:
                _write_page(page, totals, ask=not yes, quiet=quiet)
    if not (as_json or quiet):
        say(_summary(totals, choice["min_probability"]))
    if totals.failed:
        raise typer.Exit(ITEMS_FAILED)


def _pages(found: Iterator[Described], size: int, *, quiet: bool) -> Iterator[list[Described]]:
    """The results, ``size`` at a time, with a progress bar on a terminal."""
    from tqdm import tqdm

    hide = True if quiet else None
    with tqdm(unit=" pictures", leave=False, disable=hide, file=sys.stderr) as bar:
        while page := list(islice(found, size)):
            bar.update(len(page))
            bar.clear()
            yield page


def _count(one: Described, totals: _Totals) -> None:
    """Count a result; a failed one is named on standard error."""
    if one.error:
        totals.failed += 1
        say(f"failed: {one.path}: {one.error}", file=sys.stderr)
    elif one.captions:
        totals.captioned += 1
    elif one.proposals:
        totals.proposed += 1
    else:
        totals.unsure += 1


def _print_json(page: Sequence[Described], totals: _Totals, *, write: bool) -> None:
    for one in page:
        written = _write([one], totals) if write else []
        sidecar = {"sidecar": str(written[0])} if written else {}
        say_json(one.to_dict() | sidecar, flush=True)


def _show_page(page: Sequence[Described]) -> None:

    table = new_table("picture", "%", "proposal")
    for one in page:
        if one.error or one.captions:
            continue
        if not one.proposals:
            table.add_row(cell(one.path), "", "cannot tell")
        for number, proposal in enumerate(one.proposals):
            name = "" if number else cell(one.path)
            table.add_row(name, _percent(proposal.probability), cell(f"perhaps: {proposal.text}"))
    if table.row_count:
        show(table)


def _percent(probability: float) -> str:
    """A probability as per cent; a guess is never certain."""
    return f"{100 * probability:.0f}" if probability < 0.995 else ">99"


def _write_page(page: Sequence[Described], totals: _Totals, *, ask: bool, quiet: bool) -> None:
    ready = [one for one in page if one.proposals]
    if not ready:
        return
    if ask and not confirm(f"Write {counted(len(ready), 'sidecar')} beside these pictures?"):
        return
    for path in _write(ready, totals):
        if not quiet:
            say(f"wrote {path}")


def _write(found: Iterable[Described], totals: _Totals) -> list[Path]:
    """Write sidecars; a picture that gets none for a reason is named on standard error."""
    from twinlens.ingest.describe import write_sidecar

    written = []
    for one in found:
        if not one.proposals:
            continue
        try:
            written.append(write_sidecar(one))
        except TwinlensError as error:
            totals.failed += 1
            say(f"not written: {one.path}: {error}", file=sys.stderr)
    totals.written += len(written)
    return written


def _summary(totals: _Totals, min_probability: float) -> str:
    parts = [f"{counted(totals.proposed, 'picture')} with a proposal"]
    if totals.unsure:
        parts.append(f"{totals.unsure:,} where nothing reaches {min_probability:.0%}")
    if totals.captioned:
        parts.append(f"{totals.captioned:,} with captions of their own")
    if totals.written:
        parts.append(f"{counted(totals.written, 'sidecar')} written: ingest again to store them")
    return "; ".join(parts)

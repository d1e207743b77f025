"""``twinlens audit``: check captions against their pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import OUTPUT, AsJson, ModelOptions, Quiet
from twinlens.cli.output import ITEMS_FAILED, counted, new_table, show
from twinlens.cli.printing import cell, say, say_json

if TYPE_CHECKING:
    import twinlens
    from twinlens.search.analysis.audit_report import Audit, AuditedPair

_PAIRS = "Pairs"
_WORDS = {
    "empty": "no words",
    "cut-off": "cut off",
    "script": "in a script that the model cannot read",
    "too-long": "longer than the model reads",
}


def audit(
    place: ModelOptions,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            "-n",
            help="List this many pairs.",
            min=0,
            max=10_000,
            rich_help_panel=_PAIRS,
        ),
    ] = 50,
    where: Annotated[
        str,
        typer.Option(
            help="Only pictures that match this filter: 'year >= 2020'.", rich_help_panel=_PAIRS
        ),
    ] = "",
    only: Annotated[
        list[str],
        typer.Option(
            help="List only captions with this problem: empty, cut-off, script or too-long; "
            "repeatable.",
            rich_help_panel=_PAIRS,
        ),
    ] = [],  # noqa: B006
    below: Annotated[
        float,
        typer.Option(
            help="Count pairs that are less likely than this, from 0 to 1. Without --out, the exit "
            "code is 3 if there are any.",
            show_default=False,
            rich_help_panel=_PAIRS,
        ),
    ] = 0.0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the pairs below --below to this file, for `ingest --leave-out`.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write the listed pairs to an HTML page.", rich_help_panel=OUTPUT),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find captions that do not fit their pictures, the worst first."""
    from tqdm import tqdm

    with place.open() as index:
        total = 0 if quiet else _texts(index)
        disable = True if quiet else None
        with tqdm(total=total, unit=" captions", disable=disable, file=sys.stderr) as bar:
            found = index.audit(
                limit=limit, where=where, only=only, below=below, out=out, progress=bar
            )
    if html is not None:
        _write_html(html, found)
    if as_json:
        for pair in found.worst:
            say_json(pair.to_dict() | {"why": why(pair, found)})
    elif not quiet:
        _print(found)
    if not (as_json or quiet):
        if below:
            written = f", written to {out}" if out is not None else ""
            say(f"{counted(found.below, 'pair')} below {below:g}{written}")
        if html is not None:
            say(f"contact sheet written to {html}")
    if below and out is None and found.below:
        raise typer.Exit(ITEMS_FAILED)


def _texts(index: twinlens.Index) -> int | None:
    return index.info().texts if not index.tenant else None


def why(pair: AuditedPair, found: Audit) -> str:
    """Say in words what is wrong with a pair; "" if nothing is."""
    reasons = [_WORDS[problem] for problem in pair.problems]
    swapped, duplicate, better = pair.swapped_with, pair.duplicate, pair.better
    if swapped is not None:
        reasons.append(f"swapped with {_quoted(swapped.caption)} of {swapped.relative_path}")
    if duplicate is not None:
        says = _quoted(duplicate.caption)
        reasons.append(f"its near-duplicate {duplicate.relative_path} says {says}")
    if pair.verdict != "match" and pair.agreement is not None and pair.agreement < 0.5:
        reasons.append("the picture's other captions say something else")
    if pair.verdict != "match" and swapped is None:
        if pair.picture_rank > 1:
            share = f"{pair.picture_rank - 1:,} of {counted(found.images, 'picture')}"
            best = f", best {better.relative_path}" if better.relative_path else ""
            reasons.append(f"the caption fits {share} better{best}")
        if pair.caption_rank > 1:
            share = f"{pair.caption_rank - 1:,} of {counted(found.captions, 'caption')}"
            best = f", best {_quoted(better.caption)}" if better.caption else ""
            reasons.append(f"the picture fits {share} better{best}")
    return "; ".join(reasons)


def _quoted(text: str) -> str:
    return f"“{_short(text, 120)}”"


def _short(text: str, length: int = 300) -> str:
    return f"{text[: length - 1]}…" if len(text) > length else text


def _print(found: Audit) -> None:

    if found.worst:
        table = new_table("#", "%", "picture", "caption", "why")
        for number, pair in enumerate(found.worst, 1):
            table.add_row(
                str(number), f"{100 * pair.probability:.0f}", cell(pair.relative_path),
                cell(_short(pair.caption)), cell(why(pair, found)),
            )  # fmt: skip
        show(table)
    verdicts = ", ".join(f"{count:,} {name}" for name, count in found.verdicts.items())
    say(f"{counted(found.pairs, 'pair')} checked with {found.model}: {verdicts}")
    problems = [f"{count:,} {_WORDS[name]}" for name, count in found.problems.items() if count]
    if problems:
        say(f"captions: {', '.join(problems)}")
    if not found.reads_tokens:
        say("not checked, because the model's tokenizer is not known: script, too-long")
    if found.unpaired:
        say(f"left out: {counted(found.unpaired, 'text')} without a stored picture")


def _write_html(path: Path, found: Audit) -> None:
    from twinlens.search.query.contact_sheet import Section, write_sheet
    from twinlens.search.query.hits import Hit

    hits = [
        Hit(
            "images",
            pair.image_id,
            pair.cosine,
            pair.path,
            captions=(_short(pair.caption),),
            relevance=pair.probability,
            metadata={"relative_path": pair.relative_path},
        )
        for pair in found.worst
    ]
    notes = [why(pair, found) for pair in found.worst]
    title = "Captions that fit their pictures least"
    subtitle = (
        f"{counted(len(hits), 'pair')} of {found.pairs:,}; the percentage is the probability "
    )
    subtitle += "that picture and caption belong together"
    write_sheet(path, [Section("The worst first", "", hits, notes=notes)], title, subtitle)

"""``twinlens classify --policy`` and ``twinlens review``: moderation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import AsJson, CollectionOptions, ModelOptions
from twinlens.cli.output import ITEMS_FAILED, counted, new_table, show
from twinlens.cli.printing import cell, say, say_json
from twinlens.search.errors import SourceError, UsageError

if TYPE_CHECKING:
    from twinlens.search.analysis.metrics import Estimate
    from twinlens.search.analysis.policy.judge import Judged
    from twinlens.search.analysis.policy.report import PolicyReport
    from twinlens.search.analysis.policy.stored import ReviewItem


def by_policy(
    place: ModelOptions,
    policy: Path,
    paths: Sequence[str],
    labelled: Path | None,
    *,
    where: str,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Judge pictures by a policy, or measure it, and print what it found."""
    if labelled is not None and (paths or where or again or dry_run):
        raise UsageError("--labelled names the pictures: leave out paths, filter and other options")
    files = bool(paths) or labelled is not None
    with ExitStack() as stack:
        index = stack.enter_context(place.open(create=files))
        if labelled is not None:
            report = index.measure_policy(policy, labelled)
        else:
            progress = None
            if not files and not dry_run:
                from tqdm import tqdm

                progress = stack.enter_context(
                    tqdm(unit=" pictures", disable=True if as_json else None, file=sys.stderr)
                )
            report = index.moderate(
                policy,
                *paths,
                where=where,
                again=again,
                dry_run=dry_run,
                on_item=_print_json if as_json else _print_flagged if paths or dry_run else None,
                progress=progress,
            )
    if paths and not (report.pictures or report.failed):
        from twinlens.ingest.options import nothing_found

        raise SourceError(nothing_found(paths))
    if as_json:
        say_json({"report": report.to_dict()})
    else:
        print_policy(report)
    if report.failed:
        raise typer.Exit(ITEMS_FAILED)


def review(
    place: CollectionOptions,
    state: Annotated[
        str,
        typer.Option(
            help="What to list: open (without a decision), decided or all.",
            rich_help_panel="Pictures",
        ),
    ] = "open",
    where: Annotated[
        str,
        typer.Option(
            help="Only pictures that match this filter: 'held == true'.", rich_help_panel="Pictures"
        ),
    ] = "",
    release: Annotated[
        list[str],
        typer.Option(
            help="Release this picture, by its id or path; repeatable.", rich_help_panel="Decide"
        ),
    ] = [],  # noqa: B006
    hold: Annotated[
        list[str],
        typer.Option(
            help="Hold this picture back, by its id or path; repeatable.", rich_help_panel="Decide"
        ),
    ] = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """List the pictures that a policy flagged, and decide about them."""
    from dataclasses import asdict

    with place.reach() as index:
        if release or hold:
            for name, pictures in (("released", release), ("held", hold)):
                if pictures:
                    ids = [index.item(picture).image_id for picture in pictures]
                    count = index.decide("held" if name == "held" else "released", *ids)
                    say(f"{name}: {counted(count, 'picture')}")
            return
        after, shown = "", 0
        while page := index.review(state, where=where, after=after):  # type: ignore[arg-type]
            after, shown = page[-1].id, shown + len(page)
            if as_json:
                for one in page:
                    say_json(asdict(one) | {"flags": dict(one.flags)})
            else:
                _print_review(page)
    if not as_json:
        say(
            f"{counted(shown, 'picture')}; decide with --release ID and --hold ID"
            if shown
            else "nothing to review"
        )


def _print_review(page: Sequence[ReviewItem]) -> None:

    table = new_table("id", "picture", "concepts", "state")
    for one in page:
        concepts = ", ".join(f"{name} {score:.1f}" for name, score in one.flags)
        state = f"decided: {one.review}" if one.review else "held" if one.held else "flagged"
        table.add_row(one.id, cell(one.path), cell(concepts), state)
    show(table)


def print_policy(report: PolicyReport) -> None:
    """Print thresholds, counts and what was measured."""
    table = new_table("concept", "action", "wanted", "to expect", "threshold", "flagged")
    for limit, (_, count) in zip(report.thresholds, report.concepts, strict=True):
        expected = "rough" if limit.expected is None else _per_cent(limit.expected)
        table.add_row(
            limit.concept, limit.action, f"{100 * limit.wanted:g} %", expected,
            f"{limit.score:.2f}", f"{count:,}",
        )  # fmt: skip
    if report.measured:
        table = new_table("concept", "hits", "of", "false alarms", "of", "wanted")
        for one in report.measured:
            table.add_row(
                one.concept, _per_cent(one.hits), f"{one.pictures:,}", _per_cent(one.false_alarms),
                f"{one.others:,}", f"{100 * one.wanted:g} %",
            )  # fmt: skip
    show(table)
    pictures = counted(report.pictures, "picture")
    if report.measured:
        say(f"{report.policy}: {pictures}; shares in per cent, with 95 % intervals (Wilson)")
    else:
        stored = "" if report.stored else "; nothing was stored"
        if report.stored and not report.pictures:
            stored = "; the others were judged before, and --again judges them once more"
        say(
            f"{report.policy}: {pictures}, {report.held:,} held back, "
            f"{report.flagged - report.held:,} more flagged{stored}"
        )
    number = f"{report.thresholds[0].background:,}"
    if report.source == "collection":
        say(f"thresholds: from a sample of {number} pictures of the collection")
    else:
        say(
            f"thresholds: rough, from the {number} photographs that come with twinlens: ingest 100 "
            "pictures or more of your own for thresholds that keep the wanted share"
        )
    if report.source == "collection" and report.rough:
        say("rough: extrapolated, since the sample is too small for such a small share")


def _per_cent(share: Estimate) -> str:
    if share.value != share.value:
        return "–"
    return f"{100 * share.value:.1f} ({100 * share.low:.1f}–{100 * share.high:.1f})"


def _print_json(judged: Judged) -> None:
    say_json(judged.to_dict())


def _print_flagged(judged: Judged) -> None:
    if judged.error:
        say(f"failed: {judged.path}: {judged.error}", file=sys.stderr)
        return
    if judged.flags:
        flags = ", ".join(f"{flag.concept} {flag.score:.1f}" for flag in judged.flags)
        say(f"{'held' if judged.held else 'flagged'}: {judged.path}: {flags}")

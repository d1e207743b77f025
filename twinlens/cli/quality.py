"""``twinlens eval``, ``classify`` and ``duplicates``: what a collection is like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import twinlens
from twinlens.cli.options import OUTPUT, AsJson, CollectionOptions, ModelOptions, lines_of
from twinlens.cli.output import (
    ITEMS_FAILED,
    print_classified,
    print_duplicates,
    print_evaluations,
    print_trials,
)
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from twinlens.search.analysis.evaluate import Evaluation


def evaluate(
    place: ModelOptions,
    pairs: Annotated[
        list[Path] | None,
        typer.Argument(help="Caption files to ask with; default: the stored captions."),
    ] = None,
    compare: Annotated[
        list[str],
        typer.Option(
            help="Encode the same with this model and compare; can be repeated.",
            rich_help_panel="Measure",
        ),
    ] = [],  # noqa: B006
    compare_index: Annotated[
        bool,
        typer.Option(
            "--compare-index",
            help="Compare a server's index kinds on the pictures.",
            rich_help_panel="Measure",
        ),
    ] = False,
    kinds: Annotated[
        list[str],
        typer.Option(
            "--index",
            help="Compare this kind of index; can be repeated.",
            rich_help_panel="Measure",
        ),
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw recall, of indexes over time, to this file: .png, .svg or .pdf.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    max_queries: Annotated[
        int,
        typer.Option(
            help="Ask at most so many each way; 0 for all.", min=0, rich_help_panel="Measure"
        ),
    ] = 10_000,
    seed: Annotated[
        int, typer.Option(help="Of everything random.", min=0, rich_help_panel="Measure")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how well pictures and captions find each other: recall@k, both ways."""
    from twinlens.search.analysis.plot import check_plot, plot_recall, plot_trials

    if plot is not None:
        check_plot(plot)
    missing = 0
    if compare_index or kinds:
        if pairs or compare:
            raise UsageError("indexes are compared on the stored pictures: leave the rest out")
        with place.open() as index:
            trials = print_trials(
                index.compare_indexes([one for kind in kinds for one in kind.split(",")]), as_json
            )
        if plot is not None:
            plot_trials(plot, trials)
    else:
        found = print_evaluations(
            _measured(place, pairs or [], compare, max_queries, seed), as_json
        )
        if plot is not None:
            plot_recall(plot, found)
        missing = sum(one.missing_count for one in found)
    if plot is not None and not as_json:
        print(f"drawn to {plot}")
    if missing:
        raise typer.Exit(ITEMS_FAILED)


def _measured(
    place: ModelOptions, pairs: list[Path], models: list[str], max_queries: int, seed: int
) -> Iterator[tuple[Evaluation, float]]:
    """What is measured, and the pictures encoded a second, 0 for none."""
    if not models:
        with place.open() as index:
            yield index.evaluate(*pairs, max_queries=max_queries, seed=seed), 0.0
        return
    if not pairs:
        raise UsageError("say which pictures to compare on: a caption file, or a folder with one")
    for one in twinlens.compare(
        models, *pairs, device=place.device, max_queries=max_queries, seed=seed
    ):
        yield one.evaluation, one.images_per_second


def classify(
    place: ModelOptions,
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures or folders, not stored; default: the stored pictures."),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(help="What there is to choose from: cat,dog,horse.", rich_help_panel="Labels"),
    ] = "",
    labels_file: Annotated[
        Path | None,
        typer.Option(help="The same, a label on each line of a file.", rich_help_panel="Labels"),
    ] = None,
    template: Annotated[
        list[str],
        typer.Option(
            help="A sentence for the labels, 'a photo of a {}'; can be repeated.",
            rich_help_panel="Labels",
        ),
    ] = [],  # noqa: B006
    top: Annotated[
        int, typer.Option(help="How many labels of each picture.", min=1, rich_help_panel="Labels")
    ] = 3,
    where: Annotated[
        str,
        typer.Option(
            help="Only stored pictures that satisfy a filter.", rich_help_panel="Pictures"
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Tell which of some labels each picture is most likely of."""
    wanted = [*labels.split(","), *(lines_of(labels_file) if labels_file is not None else ())]
    failed = 0
    with place.reach(place.model, create=bool(paths)) as index:
        found = index.classify(wanted, *(paths or ()), where=where, templates=template, top=top)
        if as_json:
            for one in found:
                failed += bool(one.error)
                print(json.dumps(one.to_dict(), ensure_ascii=False))
        else:
            failed = print_classified(found)
    if failed:
        raise typer.Exit(ITEMS_FAILED)


def duplicates(
    place: CollectionOptions,
    threshold: Annotated[
        float,
        typer.Option(
            help="The cosine from which two pictures count as the same.", rich_help_panel="Pictures"
        ),
    ] = 0.95,
    where: Annotated[
        str, typer.Option(help="Only pictures that satisfy a filter.", rich_help_panel="Pictures")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Find pictures that are the same or nearly so, the largest of each group first."""
    with place.open() as index:
        groups = index.duplicates(threshold, where=where)
    if as_json:
        for group in groups:
            print(json.dumps(group.to_dict(), ensure_ascii=False))
        return
    print_duplicates(groups)

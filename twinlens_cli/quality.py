"""``twinlens eval``, ``classify`` and ``duplicates``: what a collection is like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import twinlens
from search.errors import UsageError
from twinlens_cli.exits import ITEMS_FAILED
from twinlens_cli.options import AsJson, Collection, ModelCollection, lines_of
from twinlens_cli.tables import (
    print_classified,
    print_duplicates,
    print_evaluations,
    print_trials,
)


def evaluate(
    place: ModelCollection,
    pairs: Annotated[
        list[Path] | None,
        typer.Argument(help="Caption files to ask with; default: the stored captions."),
    ] = None,
    compare: Annotated[
        list[str],
        typer.Option(help="Encode the same with this model and compare; can be repeated."),
    ] = [],  # noqa: B006
    compare_index: Annotated[
        bool,
        typer.Option("--compare-index", help="Compare a server's index types on the pictures."),
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw recall@k to this file (.png).")] = None,
    max_queries: Annotated[
        int, typer.Option(help="Ask at most so many each way; 0 for all.", min=0)
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how well pictures and captions find each other: recall@k, both ways."""
    if compare and not pairs:
        raise UsageError("say which pictures to compare on: a caption file, or a folder with one")
    rates: list[float] = []
    if compare_index:
        with place.open() as index:
            print_trials(index.compare_indexes(), as_json)
        return
    if compare:
        found = []
        for one in twinlens.compare(
            compare, *(pairs or ()), device=place.device, max_queries=max_queries, seed=seed
        ):
            found.append(one.evaluation)
            rates.append(one.images_per_second)
    else:
        with place.open() as index:
            found = [index.evaluate(*(pairs or ()), max_queries=max_queries, seed=seed)]
    if plot is not None:
        from search.plot import plot as draw

        draw(plot, found)
    if as_json:
        for number, one_found in enumerate(found):
            rate = {"images_per_second": rates[number]} if rates else {}
            print(json.dumps(one_found.to_dict() | rate, ensure_ascii=False))
        return
    print_evaluations(found, rates)
    if plot is not None:
        print(f"drawn to {plot}")


def classify(
    place: ModelCollection,
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures or folders, not stored; default: the stored pictures."),
    ] = None,
    labels: Annotated[str, typer.Option(help="What there is to choose from: cat,dog,horse.")] = "",
    labels_file: Annotated[
        Path | None, typer.Option(help="The same, a label on each line of a file.")
    ] = None,
    template: Annotated[
        list[str],
        typer.Option(help="A sentence for the labels, 'a photo of a {}'; can be repeated."),
    ] = [],  # noqa: B006
    top: Annotated[int, typer.Option(help="How many labels of each picture.", min=1)] = 3,
    where: Annotated[str, typer.Option(help="Only stored pictures that satisfy a filter.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell which of some labels each picture is most likely of."""
    wanted = [*labels.split(","), *(lines_of(labels_file) if labels_file is not None else ())]
    failed = 0
    with place.reach(place.model) as index:
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
    place: Collection,
    threshold: Annotated[
        float, typer.Option(help="The cosine from which two pictures count as the same.")
    ] = 0.95,
    where: Annotated[str, typer.Option(help="Only pictures that satisfy a filter.")] = "",
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

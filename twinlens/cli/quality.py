"""``twinlens eval``, ``classify`` and ``duplicates``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import twinlens
from twinlens.cli.options import OUTPUT, AsJson, CollectionOptions, ModelOptions, lines_of
from twinlens.cli.output import (
    ITEMS_FAILED,
    not_empty,
    print_classified,
    print_duplicates,
    print_evaluations,
    print_trials,
)
from twinlens.cli.policy import by_policy
from twinlens.cli.printing import say, say_json
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from twinlens.search.analysis.evaluate import Evaluation


def evaluate(
    place: ModelOptions,
    pairs: Annotated[
        list[Path] | None,
        typer.Argument(help="Caption files with the queries. Default: the stored captions."),
    ] = None,
    compare: Annotated[
        list[str],
        typer.Option(
            help="Compare this model on the same pictures; repeatable.",
            rich_help_panel="Measure",
        ),
    ] = [],  # noqa: B006
    compare_index: Annotated[
        bool,
        typer.Option(
            "--compare-index",
            help="Compare the server's index types on the stored pictures.",
            rich_help_panel="Measure",
        ),
    ] = False,
    kinds: Annotated[
        list[str],
        typer.Option(
            "--index",
            help="Compare this index type; repeatable.",
            rich_help_panel="Measure",
        ),
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Plot the results to this file: .png, .svg or .pdf.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    max_queries: Annotated[
        int,
        typer.Option(
            help="Run at most this many queries each way; 0 for all.",
            min=0,
            rich_help_panel="Measure",
        ),
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0, rich_help_panel="Measure")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how well pictures and captions find each other (recall@k)."""
    from twinlens.search.analysis.plot import check_plot, plot_recall, plot_trials

    if plot is not None:
        check_plot(plot)
    missing = 0
    if compare_index or kinds:
        if pairs or compare:
            raise UsageError(
                "indexes are compared on the stored pictures: leave out the other options"
            )
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
        say(f"plotted to {plot}")
    if missing:
        raise typer.Exit(ITEMS_FAILED)


def _measured(
    place: ModelOptions, pairs: list[Path], models: list[str], max_queries: int, seed: int
) -> Iterator[tuple[Evaluation, float]]:
    """Each evaluation with its pictures encoded per second, 0 if nothing was encoded."""
    if not models:
        with place.open() as index:
            yield index.evaluate(*pairs, max_queries=max_queries, seed=seed), 0.0
        return
    if not pairs:
        raise UsageError("give pictures with captions to compare on: a caption file or a folder")
    for one in twinlens.compare(
        models, *pairs, device=place.device, max_queries=max_queries, seed=seed
    ):
        yield one.evaluation, one.images_per_second


def classify(
    place: ModelOptions,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures or folders, which are not stored. Default: the stored pictures."
        ),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(help="The labels to choose from: cat,dog,horse.", rich_help_panel="Labels"),
    ] = "",
    labels_file: Annotated[
        Path | None,
        typer.Option(help="A file with one label per line.", rich_help_panel="Labels"),
    ] = None,
    template: Annotated[
        list[str],
        typer.Option(
            help="A sentence to put each label into: 'a photo of a {}'; repeatable.",
            rich_help_panel="Labels",
        ),
    ] = [],  # noqa: B006
    top: Annotated[
        int,
        typer.Option(
            help="How many labels to show for each picture.", min=1, rich_help_panel="Labels"
        ),
    ] = 3,
    where: Annotated[
        str,
        typer.Option(
            help="Only stored pictures that match this filter: 'year >= 2020'.",
            rich_help_panel="Pictures",
        ),
    ] = "",
    policy: Annotated[
        Path | None,
        typer.Option(
            help="Judge by the concepts of this policy file (TOML) in place of labels; what is "
            "found in stored pictures is stored.",
            rich_help_panel="Policy",
        ),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(
            help="Measure the policy on the pictures that this file lists: CSV or JSON lines of "
            "path and concept.",
            rich_help_panel="Policy",
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Judge stored pictures again that the policy has judged, with new thresholds.",
            rich_help_panel="Policy",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Store nothing.", rich_help_panel="Policy"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Classify pictures by labels of your own, or judge them by a policy."""
    if policy is not None:
        if labels or labels_file is not None or template:
            raise UsageError("a policy has its own texts: leave out the labels")
        by_policy(
            place, policy, paths or (), labelled, where=where, again=again, dry_run=dry_run,
            as_json=as_json,
        )  # fmt: skip
        return
    if labelled is not None or again or dry_run:
        raise UsageError("--labelled, --again and --dry-run belong to --policy FILE")
    all_labels = [*labels.split(","), *(lines_of(labels_file) if labels_file is not None else ())]
    failed = 0
    with place.reach(place.model, create=bool(paths)) as index:
        found = not_empty(
            index.classify(all_labels, *(paths or ()), where=where, templates=template, top=top),
            paths or (),
        )
        if as_json:
            for one in found:
                failed += bool(one.error)
                say_json(one.to_dict())
        else:
            failed = print_classified(found)
    if failed:
        raise typer.Exit(ITEMS_FAILED)


def duplicates(
    place: CollectionOptions,
    threshold: Annotated[
        float,
        typer.Option(
            help="The cosine similarity from which two pictures are duplicates.",
            rich_help_panel="Pictures",
        ),
    ] = 0.95,
    where: Annotated[
        str,
        typer.Option(
            help="Only pictures that match this filter: 'year >= 2020'.", rich_help_panel="Pictures"
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Find duplicate and near-duplicate pictures, the largest of each group first."""
    with place.open() as index:
        groups = index.duplicates(threshold, where=where)
    if as_json:
        for group in groups:
            say_json(group.to_dict())
        return
    print_duplicates(groups)

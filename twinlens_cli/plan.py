"""``twinlens plan``: how much machine a collection needs, before there is one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens_cli.options import AsJson
from twinlens_cli.tables import new_table, show

if TYPE_CHECKING:
    from search.plan import Plan


def plan(
    images: Annotated[float, typer.Option(help="How many pictures: 1e6.")],
    model: Annotated[str, typer.Option("--model", "-m", help="See `twinlens models`.")] = "",
    captions: Annotated[float, typer.Option(help="Texts for each picture.")] = 1.0,
    node_memory: Annotated[float, typer.Option(help="GiB of memory of one query node.")] = 64.0,
    replicas: Annotated[int, typer.Option(help="Copies in memory, for more queries.")] = 1,
    gpus: Annotated[int, typer.Option(help="How many encode.")] = 1,
    rate: Annotated[
        float | None,
        typer.Option(help="Pictures a second and GPU, as measured; default: an estimate."),
    ] = None,
    gpu_hour: Annotated[float | None, typer.Option(help="What a GPU costs for an hour.")] = None,
    gib_month: Annotated[
        float | None, typer.Option(help="What a GiB of memory costs for a month.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reckon memory, disk, hours and cost of a collection: docs/scale.md has the arithmetic."""
    from search.models import RECOMMENDED
    from search.plan import plan as reckon

    made = reckon(
        images,
        model=model or RECOMMENDED,
        captions=captions,
        node_memory=node_memory,
        replicas=replicas,
        gpus=gpus,
        rate=rate,
        gpu_hour=gpu_hour,
        gib_month=gib_month,
    )
    if as_json:
        print(json.dumps(asdict(made)))
        return
    _print(made, gpus, estimated=rate is None)


def _print(made: Plan, gpus: int, *, estimated: bool) -> None:
    print(
        f"{made.images:,} images and {made.texts:,} texts of {made.dim} dimensions: "
        f"{made.home}, index {made.recommended}"
    )
    kinds = new_table("index", "memory GiB", "per million images", "disk GiB", "query nodes")
    for one in made.indexes:
        mark = " *" if one.index == made.recommended else ""
        kinds.add_row(
            f"{one.index}{mark}",
            f"{one.memory_gib:,.1f}",
            f"{one.memory_per_million_gib:,.2f}",
            f"{one.disk_gib:,.1f}",
            f"{one.nodes:,}",
        )
    show(kinds)
    source = "estimated" if estimated else "as given"
    print(
        f"encoding: {_hours(made.encode_hours)} on {gpus} GPU{'s' if gpus > 1 else ''} at "
        f"{made.rate:,.0f} images/s each ({source})"
    )
    print(f"writing: {_hours(made.upsert_hours)} from one process"
          + ("; a bulk import is quicker" if made.bulk else ""))  # fmt: skip
    if made.encode_cost is not None:
        print(f"cost of encoding: {made.encode_cost:,.2f}")
    if made.memory_cost_month is not None:
        print(f"cost of memory a month: {made.memory_cost_month:,.2f}")


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"

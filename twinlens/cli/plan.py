"""``twinlens plan``: how much machine a collection needs, before there is one."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import COLLECTION, LAYOUT, MODEL, OUTPUT, AsJson
from twinlens.cli.output import counted, new_table, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.search.analysis.sizing import Plan


def plan(
    images: Annotated[
        str,
        typer.Option(
            help="How many pictures: 10000, 10k, 1e6, 2.5M; several: 10k,1M,1B.",
            rich_help_panel=COLLECTION,
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="See `twinlens models`.", rich_help_panel=MODEL)
    ] = "",
    captions: Annotated[
        float, typer.Option(help="Texts for each picture.", rich_help_panel=COLLECTION)
    ] = 1.0,
    index: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of index; again for another. Default: those that make sense.",
            rich_help_panel=LAYOUT,
        ),
    ] = None,
    vectors: Annotated[
        str,
        typer.Option(
            help="Precision of stored vectors: float32 or float16.", rich_help_panel=LAYOUT
        ),
    ] = "float32",
    node_memory: Annotated[
        float, typer.Option(help="GiB of memory of one query node.", rich_help_panel="Machines")
    ] = 64.0,
    replicas: Annotated[
        int, typer.Option(help="Copies in memory, for more queries.", rich_help_panel=LAYOUT)
    ] = 1,
    gpus: Annotated[int, typer.Option(help="How many encode.", rich_help_panel="Machines")] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Pictures a second and GPU, as an ingest with captions prints it.",
            rich_help_panel="Machines",
        ),
    ] = None,
    gpu_hour: Annotated[
        float | None, typer.Option(help="What a GPU costs for an hour.", rich_help_panel="Prices")
    ] = None,
    gib_month: Annotated[
        float | None,
        typer.Option(help="What a GiB of memory costs for a month.", rich_help_panel="Prices"),
    ] = None,
    disk_gib_month: Annotated[
        float | None,
        typer.Option(
            help="What a GiB of object storage costs for a month.", rich_help_panel="Prices"
        ),
    ] = None,
    ssd_gib_month: Annotated[
        float | None,
        typer.Option(
            help="What a GiB of a query node's SSD costs for a month.", rich_help_panel="Prices"
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="As Markdown tables: by size, by index.", rich_help_panel=OUTPUT
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Reckon memory, disk, hours and cost of a collection: docs/operations/scale.md has the arithmetic."""
    from twinlens.search.analysis.sizing import parse_count
    from twinlens.search.analysis.sizing import plan as reckon
    from twinlens.search.models.catalogue import RECOMMENDED

    made = [
        reckon(
            count,
            model=model or RECOMMENDED,
            captions=captions,
            index=index or (),
            vectors=vectors,
            node_memory=node_memory,
            replicas=replicas,
            gpus=gpus,
            rate=rate,
            gpu_hour=gpu_hour,
            gib_month=gib_month,
            disk_month=disk_gib_month,
            ssd_month=ssd_gib_month,
        )
        for count in map(parse_count, images.split(","))
    ]
    if as_json:
        for one in made:
            print(json.dumps(asdict(one)))
    elif markdown:
        _print_markdown(*_by_size(made, gpus))
        print()
        _print_markdown(*_by_index(made[-1]))
    elif len(made) > 1:
        header, *rows = _by_size(made, gpus)
        table = new_table(*header)
        for column in table.columns[3:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        show(table)
    else:
        _print(made[0], gpus, estimated=rate is None)


def _print(made: Plan, gpus: int, *, estimated: bool) -> None:
    from twinlens.search.analysis.sizing import since

    print(
        f"{counted(made.images, 'image')} and {counted(made.texts, 'text')} of {made.dim} "
        f"dimensions: {made.home}, index {made.recommended}"
    )
    lite = made.chosen.nodes == 0
    kinds = new_table(
        "index", "from server", "memory GiB", "per million images", "disk GiB", "SSD GiB",
        "query nodes",
    )  # fmt: skip
    for one in made.indexes:
        mark = " *" if one.index == made.recommended else ""
        kinds.add_row(
            f"{one.index}{mark}",
            "–" if lite else since(one.index),
            f"{one.memory_gib:,.1f}",
            f"{one.memory_per_million_gib:,.2f}",
            f"{one.disk_gib:,.1f}",
            f"{one.ssd_gib:,.1f}" if one.ssd_gib else "–",
            f"{one.nodes:,}" if one.nodes else "–",
        )
    show(kinds)
    source = "estimated" if estimated else "as given"
    print(
        f"encoding: {_hours(made.encode_hours)} on {counted(gpus, 'GPU')} at "
        f"{made.rate:,.0f} images/s each, texts included ({source})"
    )
    print(f"writing: {_hours(made.upsert_hours)} from one process, at the same time")
    if made.bulk:
        print("writing takes longer: let the server import files, --bulk (not measured)")
    for what, price in (
        ("encoding", made.encode_cost),
        ("memory a month", made.memory_cost_month),
        ("disk a month", made.disk_cost_month),
        ("SSDs a month", made.ssd_cost_month),
    ):
        if price is not None:
            print(f"cost of {what}: {price:,.2f}")


def _by_size(plans: Sequence[Plan], gpus: int) -> list[list[str]]:
    """A line of names, and one for each size."""
    several = [f"{gpus} GPUs"] if gpus > 1 else []
    lines = [
        ["images", "home", "index", "memory GiB", "disk GiB", "query nodes", "encoding, 1 GPU",
         *several, "writing, 1 process"]
    ]  # fmt: skip
    for made in plans:
        chosen = made.chosen
        lines.append(
            [
                f"{made.images:,}",
                made.home.removeprefix("a "),
                made.recommended if chosen.vectors == "float32"
                else f"{made.recommended} of {chosen.vectors}",
                _gib(chosen.memory_gib),
                _gib(chosen.disk_gib),
                f"{chosen.nodes:,}" if chosen.nodes else "–",
                _hours(made.encode_hours_one_gpu),
                *([_hours(made.encode_hours)] if several else []),
                _hours(made.upsert_hours),
            ]
        )  # fmt: skip
    return lines


def _by_index(made: Plan) -> list[list[str]]:
    """A line of names, and one for each index kind: GiB of a million images, by precision."""
    from twinlens.search.analysis.sizing import KINDS, cost, since
    from twinlens.search.milvus.layout import VECTORS

    lines = [["index", "from server", *(f"{one} GiB" for one in VECTORS), "SSD GiB"]]
    each = made.texts / made.images
    for kind in ("FLAT", *KINDS):
        of = partial(cost, kind, 10**6, round(10**6 * each), made.dim)
        plain, *_ = costs = [of(vectors=vectors) for vectors in VECTORS]
        memory = [f"{one.memory_per_million_gib:,.2f}" for one in costs]
        lines.append([kind, since(kind), *memory, f"{plain.ssd_gib:,.1f}" if plain.ssd_gib else ""])
    return lines


def _print_markdown(header: Sequence[str], *rows: Sequence[str]) -> None:
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|")


def _gib(gib: float) -> str:
    return f"{gib:,.1f}" if gib < 100 else f"{gib:,.0f}"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"

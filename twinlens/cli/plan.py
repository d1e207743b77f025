"""``twinlens plan``: estimate the memory, disk, time and cost of a collection."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import COLLECTION, LAYOUT, MODEL, OUTPUT, AsJson
from twinlens.cli.output import counted, new_table, show
from twinlens.cli.printing import say, say_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.search.analysis.sizing import Plan


def plan(
    images: Annotated[
        str,
        typer.Option(
            help="Number of pictures: 10000, 10k, 1e6, 2.5M; several sizes: 10k,1M,1B.",
            rich_help_panel=COLLECTION,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="The embedding model; `twinlens models` lists some.",
            rich_help_panel=MODEL,
        ),
    ] = "",
    captions: Annotated[
        float, typer.Option(help="Texts per picture.", rich_help_panel=COLLECTION)
    ] = 1.0,
    index: Annotated[
        list[str] | None,
        typer.Option(
            help="Index type; repeatable. Default: all that are suitable.",
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
        float, typer.Option(help="Memory of a query node, in GiB.", rich_help_panel="Machines")
    ] = 64.0,
    replicas: Annotated[
        int,
        typer.Option(
            help="Number of copies in memory, for more queries per second.", rich_help_panel=LAYOUT
        ),
    ] = 1,
    gpus: Annotated[
        int, typer.Option(help="Number of GPUs that encode.", rich_help_panel="Machines")
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Pictures per second and GPU, as `twinlens ingest` prints it.",
            rich_help_panel="Machines",
        ),
    ] = None,
    gpu_hour: Annotated[
        float | None, typer.Option(help="Price of a GPU per hour.", rich_help_panel="Prices")
    ] = None,
    gib_month: Annotated[
        float | None,
        typer.Option(help="Price of a GiB of memory per month.", rich_help_panel="Prices"),
    ] = None,
    disk_gib_month: Annotated[
        float | None,
        typer.Option(help="Price of a GiB of object storage per month.", rich_help_panel="Prices"),
    ] = None,
    ssd_gib_month: Annotated[
        float | None,
        typer.Option(
            help="Price of a GiB of a query node's SSD per month.", rich_help_panel="Prices"
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print Markdown tables: by size, by index.", rich_help_panel=OUTPUT
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Estimate memory, disk, time and cost of a collection; see docs/operations/scale.md."""
    from twinlens.search.analysis.sizing import parse_count
    from twinlens.search.analysis.sizing import plan as estimate
    from twinlens.search.models.catalogue import RECOMMENDED

    plans = [
        estimate(
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
        for one in plans:
            say_json(asdict(one))
    elif markdown:
        _print_markdown(*_by_size(plans, gpus))
        say()
        _print_markdown(*_by_index(plans[-1]))
    elif len(plans) > 1:
        header, *rows = _by_size(plans, gpus)
        table = new_table(*header)
        for column in table.columns[3:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        show(table)
    else:
        _print(plans[0], gpus, estimated=rate is None)


def _print(plan: Plan, gpus: int, *, estimated: bool) -> None:
    from twinlens.search.analysis.sizing import since

    say(
        f"{counted(plan.images, 'image')} and {counted(plan.texts, 'text')} of {plan.dim} "
        f"dimensions: {plan.home}, index {plan.recommended}"
    )
    lite = plan.chosen.nodes == 0
    kinds = new_table(
        "index", "from server", "memory GiB", "per million images", "disk GiB", "SSD GiB",
        "query nodes",
    )  # fmt: skip
    for one in plan.indexes:
        mark = " *" if one.index == plan.recommended else ""
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
    say(
        f"encoding: {_hours(plan.encode_hours)} on {counted(gpus, 'GPU')} at "
        f"{plan.rate:,.0f} images/s each, texts included ({source})"
    )
    say(
        f"decoding: {counted(plan.cores, 'core')} for as many images of 500x375 pixels; larger "
        "ones need more"
    )
    say(f"writing: {_hours(plan.upsert_hours)} from one process, at the same time")
    if plan.bulk:
        say("writing takes longer than encoding: consider a bulk import, --bulk (not measured)")
    for what, price in (
        ("encoding", plan.encode_cost),
        ("memory a month", plan.memory_cost_month),
        ("disk a month", plan.disk_cost_month),
        ("SSDs a month", plan.ssd_cost_month),
    ):
        if price is not None:
            say(f"cost of {what}: {price:,.2f}")


def _by_size(plans: Sequence[Plan], gpus: int) -> list[list[str]]:
    """A header, and a row for each size."""
    several = [f"{gpus} GPUs"] if gpus > 1 else []
    lines = [
        ["images", "home", "index", "memory GiB", "disk GiB", "query nodes", "encoding, 1 GPU",
         *several, "writing, 1 process"]
    ]  # fmt: skip
    for one in plans:
        chosen = one.chosen
        lines.append(
            [
                f"{one.images:,}",
                one.home.removeprefix("a "),
                one.recommended if chosen.vectors == "float32"
                else f"{one.recommended} of {chosen.vectors}",
                _gib(chosen.memory_gib),
                _gib(chosen.disk_gib),
                f"{chosen.nodes:,}" if chosen.nodes else "–",
                _hours(one.encode_hours_one_gpu),
                *([_hours(one.encode_hours)] if several else []),
                _hours(one.upsert_hours),
            ]
        )  # fmt: skip
    return lines


def _by_index(plan: Plan) -> list[list[str]]:
    """A header, and a row for each index type: GiB per million images, by precision."""
    from twinlens.search.analysis.sizing import KINDS, cost, since
    from twinlens.search.milvus.layout import VECTORS

    lines = [["index", "from server", *(f"{one} GiB" for one in VECTORS), "SSD GiB"]]
    each = plan.texts / plan.images
    for kind in ("FLAT", *KINDS):
        of = partial(cost, kind, 10**6, round(10**6 * each), plan.dim)
        plain, *_ = costs = [of(vectors=vectors) for vectors in VECTORS]
        memory = [f"{one.memory_per_million_gib:,.2f}" for one in costs]
        lines.append([kind, since(kind), *memory, f"{plain.ssd_gib:,.1f}" if plain.ssd_gib else ""])
    return lines


def _print_markdown(header: Sequence[str], *rows: Sequence[str]) -> None:
    for row in (header, ["---"] * len(header), *rows):
        say(f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|")


def _gib(gib: float) -> str:
    return f"{gib:,.1f}" if gib < 100 else f"{gib:,.0f}"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"

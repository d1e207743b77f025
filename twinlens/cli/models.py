"""``twinlens models``: list and download embedding models."""

from __future__ import annotations

from typing import Annotated

import typer

from twinlens.cli.options import AsJson
from twinlens.cli.output import new_table, show
from twinlens.cli.printing import say, say_json

app = typer.Typer(help="List the recommended embedding models, or download one.")


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="A model's name, as in `twinlens models`.")],
) -> None:
    """Download a model and prepare it for quick queries, so that later runs need no network."""
    from twinlens.search.models.catalogue import resolve
    from twinlens.search.models.config import fingerprint_from_config
    from twinlens.search.models.load import export_for_queries
    from twinlens.search.models.weights import fetch, is_cached

    spec = resolve(name)
    was_cached = is_cached(spec)
    fetch(spec)
    say(f"{spec.label} {'was already downloaded' if was_cached else 'is downloaded'}")
    export_for_queries(fingerprint_from_config(name))


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="List every OpenCLIP architecture and tag.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the recommended embedding models with their size and accuracy."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from twinlens.search.models.catalogue import CATALOGUE

    if everything:
        from twinlens.search.models.catalogue import import_openclip

        open_clip = import_openclip()

        for architecture, tag in open_clip.list_pretrained():
            say(f"{architecture}:{tag}")
        return
    if as_json:
        for entry in CATALOGUE:
            say_json(asdict(entry))
        return
    table = new_table(
        "model", "openclip name", "text→image", "image→text", "dim", "MB", "licence", ""
    )
    for entry in CATALOGUE:
        table.add_row(
            entry.name, entry.spec, _percent(entry.text_to_image), _percent(entry.image_to_text),
            str(entry.dim), f"{entry.download_mb:,}", entry.licence, entry.note,
        )  # fmt: skip
    show(table)
    say("text→image and image→text: COCO recall@1 in per cent, zero-shot, as published")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"

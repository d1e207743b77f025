"""``twinlens search``: find pictures or texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import twinlens
from search.errors import UsageError
from twinlens_cli.options import OUTPUT, AsJson, ModelCollection, lines_of
from twinlens_cli.tables import NOTHING_CLOSE, print_hits
from twinlens_cli.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.hits import Hits


def search(
    place: ModelCollection,
    words: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[
        list[Path],
        typer.Option(help="A picture to look for, too; can be repeated.", rich_help_panel="Query"),
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    unwanted: Annotated[
        list[str],
        typer.Option(
            "--not", help="Words for what should not be there; repeatable.", rich_help_panel="Query"
        ),
    ] = [],  # noqa: B006
    like: Annotated[
        list[str],
        typer.Option(
            help="More like this stored picture: its id or path; repeatable.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    unlike: Annotated[
        list[str],
        typer.Option(
            help="Less like this stored picture: its id or path; repeatable.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    weight: Annotated[
        float,
        typer.Option(help="How much the words count; a picture counts 1.", rich_help_panel="Query"),
    ] = 1.0,
    target: Annotated[
        str, typer.Option("--in", help="What to find: images or texts.", rich_help_panel="Results")
    ] = "images",
    limit: Annotated[
        int, typer.Option("--limit", "-n", help="How many results.", rich_help_panel="Results")
    ] = 10,
    offset: Annotated[
        int, typer.Option(help="How many of the nearest to pass over.", rich_help_panel="Results")
    ] = 0,
    cursor: Annotated[
        str,
        typer.Option(
            help="The next page in place of a query: the cursor of the last line that --json "
            "printed.",
            show_default=False,
            rich_help_panel="Results",
        ),
    ] = "",
    where: Annotated[
        str,
        typer.Option(
            help="Only what satisfies a filter: 'year >= 2020'.",
            show_default=False,
            rich_help_panel="Results",
        ),
    ] = "",
    mode: Annotated[
        str,
        typer.Option(
            help="dense: by meaning; text: by the words said; hybrid: by both.",
            rich_help_panel="Query",
        ),
    ] = "dense",
    min_score: Annotated[
        float,
        typer.Option(
            help="Leave out smaller cosines than this.", min=-1, max=1, rich_help_panel="Results"
        ),
    ] = -1.0,
    min_relevance: Annotated[
        float,
        typer.Option(
            help="Leave out what is less relevant, from 0 to 1.",
            min=0,
            max=1,
            rich_help_panel="Results",
        ),
    ] = 0.0,
    collapse: Annotated[
        float | None,
        typer.Option(
            help="Fold near-duplicates: those of a larger cosine than this, say 0.95.",
            rich_help_panel="Results",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="A file with a query on each line; - is standard input.", rich_help_panel="Query"
        ),
    ] = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the results as a page, too.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Find pictures or texts by words, by pictures, or by several of both."""
    view: dict[str, Any] = {
        "target": target,
        "limit": limit,
        "offset": offset,
        "where": where,
        "min_score": min_score,
        "min_relevance": min_relevance,
    }
    if queries is not None:
        alone = words is None and not (image or unwanted or like or unlike or cursor)
        if not alone or mode != "dense" or collapse is not None:
            raise UsageError("--queries takes words from the file, mode dense, and no collapse")
        asked = _queries(queries)
        with place.reach(place.model) as index:
            found = index.search_many(asked, **view)
    else:
        parts: list[object] = [twinlens.Image(one) for one in image]
        if words is not None:
            parts.insert(0, twinlens.Text(words, weight))
        parts += [twinlens.Not(one) for one in unwanted]
        shown = [words] if words is not None else []
        shown += [*map(str, image), *(f"like {one}" for one in like)]
        shown += [f"not {one}" for one in [*unwanted, *unlike]]
        asked = [" + ".join(shown) or "next page"]
        with place.reach(place.model) as index:
            found = [
                index.search(
                    parts if parts or not cursor else None,
                    like=like,
                    unlike=unlike,
                    mode=mode,
                    collapse=collapse,
                    cursor=cursor,
                    **view,
                )
            ]
    # What a terminal that is not UTF-8 hands over cannot be printed.
    asked = [one.encode("utf-8", "replace").decode() for one in asked]
    if html is not None:
        _write_html(html, asked, found, target, image[0] if image else None)
    for query, hits in zip(asked, found, strict=True):
        if as_json:
            which = {"query": query} if queries is not None else {}
            for number, hit in enumerate(hits, 1):
                # Only where a page ends: a cursor is as long as the query's vector.
                last = {"cursor": hits.cursor} if hits.cursor and number == len(hits) else {}
                print(json.dumps(which | hit.to_dict() | last, ensure_ascii=False))
            continue
        if hits.nothing_close:
            print(NOTHING_CLOSE)
        print_hits(f"{query} → {target}", hits)
    if html is not None and not as_json:
        print(f"written to {html}")


def _queries(path: Path) -> list[str]:
    lines = sys.stdin.read().splitlines() if str(path) == "-" else lines_of(path)
    queries = [line.strip() for line in lines if line.strip()]
    if not queries:
        raise UsageError(f"{path} has no queries: write one on each line")
    return queries


def _write_html(
    path: Path, asked: Sequence[str], found: Sequence[Hits], target: str, picture: Path | None
) -> None:
    from search.sheet import Section, write_sheet

    sections = [
        Section(query, target, hits, picture=picture)
        for query, hits in zip(asked, found, strict=True)
    ]
    subtitle = counted(sum(map(len, found)), target.removesuffix("s"))
    if len(found) == 1 and found[0].nothing_close:
        subtitle += f"; {NOTHING_CLOSE}"
    title = asked[0] if len(asked) == 1 else f"{len(asked):,} queries"
    write_sheet(path, sections, title=title, subtitle=subtitle)

"""``twinlens search``: find pictures or texts."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.options import OUTPUT, AsJson, ModelOptions, lines_of
from twinlens.cli.output import NOTHING_CLOSE, counted, print_hits
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from twinlens.search.query.hits import Hits
    from twinlens.search.query.parts import Part

#: ``sunset.jpg@2`` is a part of a query with its weight. "@" because file names may well contain
#: "=" and ":", but hardly ever end like this.
_WEIGHTED = re.compile(r"(.+)@([0-9]+\.?[0-9]*|\.[0-9]+)", re.DOTALL)


def search(
    place: ModelOptions,
    words: Annotated[
        str | None,
        typer.Argument(help="What to look for, in words; 'words@2' count twice."),
    ] = None,
    text: Annotated[
        list[str],
        typer.Option(
            help="More words; repeatable, with a weight as 'dusk@0.5'.", rich_help_panel="Query"
        ),
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    image: Annotated[
        list[str],
        typer.Option(
            help="A picture to look for, too; repeatable, with a weight as cat.jpg@2.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    vector: Annotated[
        list[str],
        typer.Option(
            help="An embedding to look for, a .npy file; repeatable, with a weight.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    unwanted: Annotated[
        list[str],
        typer.Option(
            "--not",
            help="Words for what should not be there; repeatable, with a weight other than 0.5.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    unwanted_image: Annotated[
        list[str],
        typer.Option(
            "--not-image",
            help="A picture of what should not be there, likewise.",
            rich_help_panel="Query",
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
        "mode": mode,
        "collapse": collapse,
    }
    texts = [*([words] if words is not None else []), *text]
    wanted = [*texts, *image, *vector]
    others = [*unwanted, *unwanted_image]
    parts: list[Part] = []
    if queries is not None:
        if wanted or others or like or unlike or cursor:
            raise UsageError("--queries takes words from the file, and no other parts")
        asked = _queries(queries)
        with place.reach(place.model) as index:
            found = index.search_many(asked, **view)
    else:
        parts = query_parts(texts, image, vector, unwanted, unwanted_image)
        shown = [*wanted, *(f"like {one}" for one in like)]
        shown += [f"not {one}" for one in [*others, *unlike]]
        asked = [" + ".join(shown) or "next page"]
        with place.reach(place.model) as index:
            found = [
                index.search(
                    parts if parts or not cursor else None,
                    like=like,
                    unlike=unlike,
                    cursor=cursor,
                    **view,
                )
            ]
    # What a terminal that is not UTF-8 hands over cannot be printed.
    asked = [one.encode("utf-8", "replace").decode() for one in asked]
    if html is not None:
        _write_html(html, asked, found, target, _first_picture(parts))
    bounds = [name for name, set_ in (
        ("--where", where.strip()),
        ("--min-relevance", min_relevance > 0),
        ("--min-score", min_score > -1),
    ) if set_]  # fmt: skip
    for query, hits in zip(asked, found, strict=True):
        if as_json:
            _print_lines(hits, {"query": query} if queries is not None else {})
            continue
        if hits.nothing_close:
            print(NOTHING_CLOSE)
        if hits:
            print_hits(f"{query} → {target}", hits)
        else:
            left = f": nothing that {' and '.join(bounds)} would let through" if bounds else ""
            print(f"{query} → {target}: nothing found{left}")
    if html is not None and not as_json:
        print(f"written to {html}")


def _print_lines(hits: Hits, which: dict[str, str]) -> None:
    """Print a line for each hit; of one query among several a line even where there is none."""
    said = {**which, "nothing_close": hits.nothing_close}
    if which and not hits:
        print(json.dumps(said | {"hits": 0}, ensure_ascii=False))
    for number, hit in enumerate(hits, 1):
        # Only where a page ends: a cursor is as long as the query's vector.
        last = {"cursor": hits.cursor} if hits.cursor and number == len(hits) else {}
        print(json.dumps(said | hit.to_dict() | last, ensure_ascii=False))


def _queries(path: Path) -> list[str]:
    from twinlens.search.query.parts import Text

    lines = sys.stdin.read().splitlines() if str(path) == "-" else lines_of(path)
    queries = []
    for number, line in enumerate(lines, 1):
        if words := line.strip():
            try:
                queries.append(Text(words).text)
            except UsageError as error:
                raise UsageError(f"{path}, line {number}: {error}") from error
    if not queries:
        raise UsageError(f"{path} has no queries: write one on each line")
    return queries


def _write_html(
    path: Path, asked: Sequence[str], found: Sequence[Hits], target: str, picture: Path | None
) -> None:
    from twinlens.search.query.contact_sheet import Section, write_sheet

    sections = [
        Section(query, target, hits, picture=picture)
        for query, hits in zip(asked, found, strict=True)
    ]
    subtitle = counted(sum(map(len, found)), target.removesuffix("s"))
    if len(found) == 1 and found[0].nothing_close:
        subtitle += f"; {NOTHING_CLOSE}"
    title = asked[0] if len(asked) == 1 else f"{len(asked):,} queries"
    write_sheet(path, sections, title=title, subtitle=subtitle)


def query_parts(
    texts: Sequence[str],
    images: Sequence[str] = (),
    vectors: Sequence[str] = (),
    unwanted: Sequence[str] = (),
    unwanted_images: Sequence[str] = (),
) -> list[Part]:
    """Parse the parts of a query, each with its weight.

    Raises:
        UsageError: a part is empty, a weight is out of range, or a file holds no vector.
    """
    from twinlens.search.query.parts import NOT_WEIGHT, Image, Not, Text, Vector

    parts: list[Part] = [Text(words, weight) for words, weight in map(_split_weight, texts)]
    parts += [Image(path, weight) for path, weight in map(_split_file, images)]
    parts += [Vector(_load_vector(path), weight) for path, weight in map(_split_file, vectors)]
    parts += [Not(*_split_weight(one, NOT_WEIGHT)) for one in unwanted]
    for one in unwanted_images:
        path, weight = _split_file(one, NOT_WEIGHT)
        parts.append(Not(Image(path), weight))
    return parts


def _first_picture(parts: Sequence[Part]) -> Path | None:
    from twinlens.search.query.parts import Image

    pictures = (part.source for part in parts if isinstance(part, Image))
    return next((source for source in pictures if isinstance(source, Path)), None)


def _split_weight(argument: str, weight: float = 1.0) -> tuple[str, float]:
    found = _WEIGHTED.fullmatch(argument)
    return (found[1], float(found[2])) if found else (argument, weight)


def _split_file(argument: str, weight: float = 1.0) -> tuple[Path, float]:
    """A path and its weight; an existing file of that very name wins."""
    if os.path.exists(argument):
        return Path(argument), weight
    name, weight = _split_weight(argument, weight)
    return Path(name), weight


def _load_vector(path: Path) -> np.ndarray:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path} is not a .npy file of numbers") from error
    if not isinstance(loaded, np.ndarray):
        raise UsageError(f"{path} holds several arrays: save the vector alone, with numpy.save")
    return loaded

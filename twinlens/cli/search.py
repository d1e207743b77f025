"""``twinlens search``: find pictures or texts."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from twinlens.cli.hit_files import copy_files, print_paths
from twinlens.cli.last_hits import remember
from twinlens.cli.options import OUTPUT, AsJson, ModelOptions, lines_of, with_options
from twinlens.cli.output import FAILURE, NOTHING_CLOSE, counted, print_hits
from twinlens.cli.preview import Preview, pictures_of, print_previews, refuse_preview
from twinlens.cli.printing import say, say_json
from twinlens.cli.saved import with_saved
from twinlens.cli.waiting import saying_why
from twinlens.search.errors import UsageError
from twinlens.search.paths import expand_home
from twinlens.search.query.request import OPTIONS, SearchOptions
from twinlens.search.words import NameQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    import twinlens
    from twinlens.search.query.hits import Hits
    from twinlens.search.query.parts import Part

#: ``sunset.jpg@2`` is a part of a query with its weight. "@" because file names may well contain
#: "=" and ":", but hardly ever end like this.
_WEIGHTED = re.compile(r"(.+)@([0-9]+\.?[0-9]*|\.[0-9]+)", re.DOTALL)


#: How the command line calls an option, where that is not ``--name``.
FLAGS = {"target": ["--in"], "limit": ["--limit", "-n"]}
#: The help of options, where it differs from the declaration.
HELP = {
    "like": "More like this stored item: its id or path; repeatable.",
    "unlike": "Less like this stored item: its id or path; repeatable.",
    "cursor": "Return the next page: the cursor that --show-cursor prints, in place of a query.",
}


# --image is repeatable here and takes a weight: the command has its own.
@with_options(
    {name: option for name, option in OPTIONS.items() if name != "image"},
    before="queries",
    panels=dict.fromkeys(("like", "unlike", "mode"), "Query"),
    panel="Results",
    flags=FLAGS,
    help=HELP,
)
def search(
    place: ModelOptions,
    words: Annotated[
        list[str] | None,
        typer.Argument(help="What to search for, in words; 'words@2' weighs them twice."),
    ] = None,
    text: Annotated[
        list[str],
        typer.Option(
            help="More words to search for, with an optional weight: 'dusk@0.5'; repeatable.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    images: Annotated[
        list[str],
        typer.Option(
            "--image",
            help="A picture to search for, with an optional weight: cat.jpg@2; repeatable.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    vector: Annotated[
        list[str],
        typer.Option(
            help="An embedding to search for, a .npy file, with an optional weight; repeatable.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    unwanted: Annotated[
        list[str],
        typer.Option(
            "--not",
            help="Words to steer away from, with an optional weight (default 0.5): 'people@0.3'; "
            "repeatable.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    unwanted_image: Annotated[
        list[str],
        typer.Option(
            "--not-image",
            help="A picture to steer away from, with an optional weight (default 0.5); repeatable.",
            rich_help_panel="Query",
        ),
    ] = [],  # noqa: B006
    saved: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Run a saved search, with what else is given added to it.",
            show_default=False,
            rich_help_panel="Query",
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also save this search with the collection, under a name.",
            show_default=False,
            rich_help_panel="Query",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Search for every line of a file; - is standard input.", rich_help_panel="Query"
        ),
    ] = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write the results to an HTML page.", rich_help_panel=OUTPUT),
    ] = None,
    paths: Annotated[
        bool,
        typer.Option(
            "--paths", help="Print only the paths of pictures, for pipes.", rich_help_panel=OUTPUT
        ),
    ] = False,
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            help="Like --paths, each with a NUL at its end, for xargs -0.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    copy_to: Annotated[
        Path | None,
        typer.Option(help="Also copy the files of the hits to a folder.", rich_help_panel=OUTPUT),
    ] = None,
    link: Annotated[
        bool,
        typer.Option("--link", help="With --copy-to: make symbolic links.", rich_help_panel=OUTPUT),
    ] = False,
    preview: Preview = False,
    show_cursor: Annotated[
        bool,
        typer.Option(
            "--show-cursor",
            help="With --json: print the cursor of the next page in the last line.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    **options: Unpack[SearchOptions],
) -> None:
    """Search for pictures or texts by words, by pictures, or by a combination."""
    like, unlike = options["like"], options["unlike"]
    if link and copy_to is None:
        raise UsageError("--link needs a folder: --copy-to DIR")
    if as_json and (paths or null):
        raise UsageError("--json prints the paths as well: leave out --paths")
    if show_cursor and not as_json:
        raise UsageError("--show-cursor prints the cursor in the last JSON line: add --json")
    if preview:
        refuse_preview({"--json": as_json, "--paths": paths, "--null": null})
    texts = [*([" ".join(words)] if words else []), *text]
    positive = [*texts, *images, *vector]
    negative = [*unwanted, *unwanted_image]
    parts: list[Part] = []
    if queries is not None:
        if save is not None or saved is not None:
            raise UsageError("--queries has several queries: save, or run saved ones, one by one")
        if positive or negative or like or unlike or options["cursor"]:
            raise UsageError(
                "--queries takes its queries from the file: leave out all other queries"
            )
        titles = _queries(queries)
    else:
        parts = query_parts(texts, images, vector, unwanted, unwanted_image)
        shown = [*positive, *(f"like {one}" for one in like)]
        shown += [f"not {one}" for one in [*negative, *unlike]]
        titles = [" + ".join(([saved] if saved is not None else []) + shown) or "next page"]
        asked = positive or negative or like or unlike or saved is not None or options["cursor"]
        if not asked and options["where"].strip():
            raise UsageError(
                "--where narrows a search: add words or a picture; the search page lists pictures "
                "by a filter alone"
            )
    if save is not None and saved is None:
        _check_savable(save, parts, options)
    with place.reach(place.model) as index:
        if saved is not None:
            from twinlens.search.query.saved import find_saved

            found_search = find_saved(index.saved_searches(), saved)
            parts, options = with_saved(found_search, parts, options)
        with saying_why(index):
            if queries is not None:
                found = index.search_many(titles, **options)
            else:
                continued = options["cursor"] and not parts
                found = [index.search(None if continued else parts, **options)]
        if save is not None:
            index.save_search(save, parts, **options)
            say(f"saved as {save!r}", file=sys.stderr)
        target = options["target"]
        failed = _copy_files(index, found, copy_to, link)
        # Arguments that are not UTF-8 hold surrogates, which cannot be printed.
        titles = [one.encode("utf-8", "replace").decode() for one in titles]
        if html is not None:
            _write_html(html, titles, found, target, _first_picture(parts))
        bounds = [name for name, set_ in (
            ("--where", options["where"].strip()),
            ("--min-relevance", options["min_relevance"] > 0),
            ("--min-score", options["min_score"] > -1),
        ) if set_]  # fmt: skip
        remember(place, found[-1])
        for query, hits in zip(titles, found, strict=True):
            if as_json:
                _print_lines(hits, {"query": query} if queries is not None else {}, show_cursor)
                continue
            if paths or null:
                print_paths(hits, end="\0" if null else "\n")
                continue
            if hits.nothing_close:
                say(NOTHING_CLOSE)
                if options["mode"] == "dense" and NameQuery(query).is_name:
                    say("to find names of files and words of captions: --mode hybrid")
            if hits:
                print_hits(f"{query} → {target}", hits)
                if preview:
                    print_previews(index, pictures_of(hits))
            else:
                filtered = f" that matches {' and '.join(bounds)}" if bounds else ""
                say(f"{query} → {target}: nothing found{filtered}")
        if html is not None and not (as_json or paths or null):
            say(f"written to {html}")
    if failed:
        raise typer.Exit(FAILURE)


def _check_savable(name: str, parts: Sequence[Part], options: SearchOptions) -> None:
    """Refuse a search that cannot be saved before it is run."""
    from twinlens.search.query.saved import SavedSearch

    SavedSearch.of(name, parts, **options)


def _copy_files(
    index: twinlens.Index | twinlens.RemoteIndex,
    found: Sequence[Hits],
    folder: Path | None,
    link: bool,
) -> int:
    if folder is None:
        return 0
    every = [hit for hits in found for hit in hits]
    return copy_files(index, every, expand_home(folder), link=link)


def _print_lines(hits: Hits, which: dict[str, str], show_cursor: bool) -> None:
    """Print a JSON line for each hit; with several queries, also one for a query without hits."""
    shared = {**which, "nothing_close": hits.nothing_close}
    if which and not hits:
        say_json(shared | {"hits": 0})
    for number, hit in enumerate(hits, 1):
        # In the last line only: a cursor is as long as the query's vector.
        is_last = show_cursor and number == len(hits)
        last = {"cursor": hits.cursor} if is_last and hits.cursor else {}
        say_json(shared | hit.to_dict() | last)


def _queries(path: Path) -> list[str]:
    from twinlens.search.query.parts import Text

    lines = sys.stdin.read().splitlines() if str(path) == "-" else lines_of(path)
    name = "standard input" if str(path) == "-" else str(path)
    queries = []
    for number, line in enumerate(lines, 1):
        if words := line.strip():
            try:
                queries.append(Text(words).text)
            except UsageError as error:
                raise UsageError(f"{name}, line {number}: {error}") from error
    if not queries:
        raise UsageError(f"{name} has no queries: write one per line")
    return queries


def _write_html(
    path: Path, titles: Sequence[str], found: Sequence[Hits], target: str, picture: Path | None
) -> None:
    from twinlens.search.query.contact_sheet import Section, write_sheet

    sections = [
        Section(query, target, hits, picture=picture)
        for query, hits in zip(titles, found, strict=True)
    ]
    subtitle = counted(sum(map(len, found)), target.removesuffix("s"))
    if len(found) == 1 and found[0].nothing_close:
        subtitle += f"; {NOTHING_CLOSE}"
    title = titles[0] if len(titles) == 1 else f"{len(titles):,} queries"
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
        loaded = np.load(expand_home(path), allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path} is not a .npy file of numbers") from error
    if not isinstance(loaded, np.ndarray):
        raise UsageError(f"{path} holds several arrays: save the vector alone, with numpy.save")
    return loaded

"""``twinlens saved``: list and delete saved searches; and how ``twinlens search`` uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from twinlens.cli.options import AsJson, CollectionOptions
from twinlens.cli.printing import say, say_json
from twinlens.search.errors import UsageError
from twinlens.search.query.request import OPTIONS, SearchOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.search.query.parts import Part
    from twinlens.search.query.saved import SavedSearch


def saved(
    place: CollectionOptions,
    remove: Annotated[
        str | None,
        typer.Option("--remove", metavar="NAME", help="Delete this one.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the saved searches, which `twinlens search` saves with --save and runs with --saved."""
    with place.reach() as index:
        if remove is not None:
            index.delete_saved_search(remove)
            if not as_json:
                say(f"deleted the saved search {remove!r}")
            return
        found = index.saved_searches()
        if not found and not as_json:
            say("there are no saved searches: `twinlens search … --save NAME` makes one")
        for one in found:
            if as_json:
                say_json({"name": one.name, "search": one.to_json()})
            else:
                say(f"{one.name}: {describe(one)}")


def describe(search: SavedSearch) -> str:
    """A saved search in one line: its parts, then its options."""
    from twinlens.search.query.parts import NOT_WEIGHT, Id, Not, Text, signed

    words = []
    for part in search.query:
        plain, _ = signed(part)
        shown = plain.text if isinstance(plain, Text) else f"like {cast('Id', plain).id}"
        usual = NOT_WEIGHT if isinstance(part, Not) else 1.0
        weight = f"@{part.weight:g}" if part.weight != usual else ""
        words.append(f"{'not ' if isinstance(part, Not) else ''}{shown}{weight}")
    for name, value in search.options.items():
        shown = ", ".join(value) if isinstance(value, tuple) else str(value)
        words.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(words)


def with_saved(
    search: SavedSearch, parts: Sequence[Part], options: SearchOptions
) -> tuple[list[Part], SearchOptions]:
    """A saved search with what the command line adds to it.

    Parts are added, filters must both match, and other options win over saved ones.

    Raises:
        UsageError: there is nothing to search for, only a filter.
    """
    merged = cast("dict[str, Any]", dict(options))
    for name, value in search.options.items():
        given = merged[name]
        if name in ("like", "unlike"):
            merged[name] = [*value, *given]
        elif name == "where" and given.strip():
            merged[name] = f"({value}) and ({given})"
        elif given == OPTIONS[name].default:
            merged[name] = value
    query = [*search.query, *parts]
    if not query and not merged["like"]:
        raise UsageError(
            f"the saved search {search.name!r} has only a filter: add words, or open it on the "
            "search page"
        )
    return query, cast("SearchOptions", merged)

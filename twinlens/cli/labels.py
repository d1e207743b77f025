"""``twinlens album`` and ``twinlens tag``: list albums and tags, and change those of pictures."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import AsJson, CollectionOptions
from twinlens.cli.output import counted
from twinlens.cli.printing import say, say_json
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from twinlens.search.query.facets import LabelField
    from twinlens.search.query.labels import PictureLabel


def album(
    place: CollectionOptions,
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="An album; list all without it.", show_default=False),
    ] = "",
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH|ID]...", help="Stored pictures to put into it.", show_default=False
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the pictures out of the album.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the albums, or put pictures into one. An album exists while it has pictures."""
    _check_name(name, pictures, remove=remove, kind="album")
    if name and not pictures:
        raise UsageError(f"name the pictures to {'take out' if remove else 'put into'} {name!r}")
    with place.reach() as index:
        if not name:
            _print_labels(index.albums(), "albums", as_json)
            return
        change = index.remove_from_album if remove else index.add_to_album
        _change(change, name, pictures, as_json, "taken out of" if remove else "put into")


def tag(
    place: CollectionOptions,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]", help="A tag, a short word; list all without it.", show_default=False
        ),
    ] = "",
    pictures: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH|ID]...", help="Stored pictures to tag.", show_default=False),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the tag from the pictures.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the tags, or tag pictures. A tag exists while a picture has it."""
    _check_name(name, pictures, remove=remove, kind="tag")
    if name and not pictures:
        raise UsageError(
            f"name the pictures to {'remove the tag' if remove else 'tag with'} {name!r}"
            + (" from" if remove else "")
        )
    with place.reach() as index:
        if not name:
            _print_labels(index.tags(), "tags", as_json)
            return
        change = index.remove_tag if remove else index.add_tag
        _change(change, name, pictures, as_json, "no longer tagged" if remove else "tagged")


def _check_name(name: str, pictures: list[str] | None, *, remove: bool, kind: str) -> None:
    if not name and (pictures or remove):
        raise UsageError(f"name the {kind}, then the pictures")


def _print_labels(labels: Sequence[PictureLabel], kind: LabelField, as_json: bool) -> None:
    for found in labels:
        if as_json:
            say_json(asdict(found))
        else:
            where = shlex.quote(found.where)
            say(f"{found.name}: {counted(found.count, 'image')} (--where {where})")
    if not labels and not as_json:
        say(f"there are no {kind}: `twinlens {kind.removesuffix('s')} NAME PATH` makes one")


def _change(
    change: Callable[..., int], name: str, pictures: list[str] | None, as_json: bool, done: str
) -> None:
    changed = change(name, *(pictures or ()))
    if as_json:
        say_json({"changed": changed})
    else:
        say(f"{counted(changed, 'image')} {done} {name!r}")

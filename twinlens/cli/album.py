"""``twinlens album``: list albums, put pictures into them, and take them out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from twinlens.cli.options import AsJson, CollectionOptions
from twinlens.cli.output import counted
from twinlens.cli.printing import say, say_json
from twinlens.search.errors import UsageError


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
    if name and not pictures:
        raise UsageError(f"name the pictures to {'take out' if remove else 'put into'} {name}")
    with place.reach() as index:
        if not name:
            for found in index.albums():
                if as_json:
                    say_json(asdict(found))
                else:
                    say(f"{found.name}: {counted(found.count, 'image')}, {found.where}")
            return
        change = index.remove_from_album if remove else index.add_to_album
        changed = change(name, *(pictures or ()))
        if as_json:
            say_json({"changed": changed})
        else:
            done = "taken out of" if remove else "put into"
            say(f"{counted(changed, 'image')} {done} {name}")

"""Show small pictures of hits on terminals that can."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import OUTPUT
from twinlens.cli.printing import say
from twinlens.cli.terminal_graphics import OVERRIDE, inline_image, protocol_of
from twinlens.search.errors import TwinlensError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import twinlens
    from twinlens.search.query.hits import Hit

Preview = Annotated[
    bool,
    typer.Option(
        "--preview",
        help="Also show small pictures, on terminals that can.",
        rich_help_panel=OUTPUT,
    ),
]
#: How many pictures one search shows.
MAX_PREVIEWS = 20
#: Pixels of the thumbnails; a server has only some sizes.
_SIDE = 320


def refuse_preview(others: Mapping[str, bool]) -> None:
    """Raise ``UsageError`` if one of these options, which print for programs, is given."""
    for name, given in others.items():
        if given:
            raise UsageError(f"--preview shows pictures to people: leave out {name}")


def print_previews(
    index: twinlens.Index | twinlens.RemoteIndex, pictures: Sequence[tuple[str, str]]
) -> None:
    """Print small pictures on the terminal; one line on stderr says why if that is impossible.

    Args:
        index: reads the pictures.
        pictures: the id and the title of each.
    """
    if not sys.stdout.isatty():
        say("no preview: the output is not a terminal", file=sys.stderr)
        return
    protocol = protocol_of(os.environ)
    if protocol is None:
        say(
            "no preview: this is not known as a terminal that shows pictures; if it does, set "
            f"{OVERRIDE} to kitty, iterm2 or sixel",
            file=sys.stderr,
        )
        return
    for picture, title in pictures[:MAX_PREVIEWS]:
        try:
            shown = inline_image(index.thumbnail(picture, _SIDE), protocol)
        except (TwinlensError, OSError) as error:
            say(f"no preview of {title}: {error}", file=sys.stderr)
            continue
        say(title)
        sys.stdout.write(f"{shown}\n")
        sys.stdout.flush()
    if len(pictures) > MAX_PREVIEWS:
        say(f"previews of the first {MAX_PREVIEWS} of {len(pictures):,} pictures")


def pictures_of(hits: Sequence[Hit]) -> list[tuple[str, str]]:
    """The pictures of hits, or those that texts describe, each once, with its number and path."""
    found: dict[str, str] = {}
    for number, hit in enumerate(hits, 1):
        if hit.image_id:
            found.setdefault(hit.image_id, f"{number}  {hit.path}")
    return list(found.items())

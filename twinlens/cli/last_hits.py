"""Remember the hits of the last search on a terminal, so that a command can name them by number."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import twinlens
from twinlens.cli.printing import say
from twinlens.search.errors import UsageError
from twinlens.search.paths import cache_folder, expand_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.cli.options import CollectionOptions
    from twinlens.search.query.hits import Hit

#: How many hits are remembered, and how many paths of each.
_MAX_HITS = 1_000
_MAX_PATHS = 8
_MAX_BYTES = 64 << 20
_NUMBER = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True)
class LastHit:
    """A hit of the last search.

    Attributes:
        id: of the picture or text.
        image_id: of the picture, or of the one that the text describes; "" for none.
        paths: of the picture.
    """

    id: str
    image_id: str
    paths: tuple[str, ...]


def remember(place: CollectionOptions, hits: Sequence[Hit]) -> None:
    """Keep the ids and paths of hits in the user's cache, in a file that only the user can read.

    Nothing is kept if standard output is not a terminal. A search does not fail if the file cannot
    be written; a line on stderr says so.

    Args:
        place: the collection that was searched. Its token is not kept.
        hits: what was found.
    """
    if not sys.stdout.isatty():
        return
    db = place.db or twinlens.default_db()
    kept = {
        "db": db if "://" in db else str(expand_home(db).absolute()),
        "collection": place.collection,
        "tenant": place.tenant,
        "hits": [_plain(hit) for hit in hits[:_MAX_HITS]],
    }
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes a file of mode 0600, which then takes the place of the old one at once.
        handle, unfinished = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as opened:
                json.dump(kept, opened)
            os.replace(unfinished, file)
        except BaseException:
            os.unlink(unfinished)
            raise
    except OSError as error:
        reason = error.strerror or error
        say(f"note: `twinlens open N` will not know these hits: {file}: {reason}", file=sys.stderr)


def _plain(hit: Hit) -> dict[str, Any]:
    paths = [path for path in dict.fromkeys((hit.path, *hit.paths)) if path]
    return {"id": hit.id, "image_id": hit.image_id, "paths": paths[:_MAX_PATHS]}


def last_hit(name: str, place: CollectionOptions) -> tuple[CollectionOptions, LastHit | None]:
    """The hit of the last search with this number, counted from 1, and where that searched.

    If ``name`` is no number, the place stays as given, and there is no hit.

    Raises:
        UsageError: there is no such hit, or no search is remembered.
    """
    if not _NUMBER.fullmatch(name):
        return place, None
    searched, hits = _read()
    number = int(name)
    if not 1 <= number <= len(hits):
        found = f"found {len(hits):,}" if hits else "found nothing"
        raise UsageError(f"there is no hit {number}: the last search on a terminal {found}")
    return replace(place, **searched), hits[number - 1]


def _read() -> tuple[dict[str, str], list[LastHit]]:
    """The options that name the searched collection, and the hits."""
    file = _file()
    try:
        with file.open("rb") as opened:
            kept = json.loads(opened.read(_MAX_BYTES))
        searched = {name: str(kept[name]) for name in ("db", "collection", "tenant")}
        return searched, [
            LastHit(str(one["id"]), str(one["image_id"]), tuple(map(str, one["paths"])))
            for one in kept["hits"]
        ]
    except FileNotFoundError:
        raise UsageError(
            "no search is remembered: run `twinlens search` on a terminal first, or give a path or "
            "an id"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"the last search cannot be read from {file}: search again, or give a path or an id"
        ) from error


def _file() -> Path:
    return cache_folder("last-search.json")

"""Albums: named groups of pictures, which are a field of the pictures' own rows.

So an album is a filter (``Album.where``), moves with its pictures to another database, and a column
``albums`` of a caption file fills albums, too. A picture can be in several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.query.facets import ALBUMS, COMMA, count_values
from twinlens.search.records import IMAGE_FIELDS, clean_text

#: Characters of a name, and albums of one picture.
MAX_NAME, MAX_ALBUMS = 100, 64


@dataclass(frozen=True, slots=True)
class Album:
    """An album.

    Attributes:
        name: its name.
        count: how many pictures it has.
        where: the filter that selects them.
    """

    name: str
    count: int
    where: str


def list_albums(collection: Collection, expression: str = "") -> list[Album]:
    """The albums of the pictures that satisfy a Milvus expression, sorted by name."""
    if ALBUMS not in collection.fields("images"):
        return []
    values = count_values(collection, ALBUMS, expression)
    return sorted(
        (Album(str(one.value), one.count, one.where) for one in values),
        key=lambda album: album.name.casefold(),
    )


def change_album(collection: Collection, name: str, ids: Sequence[str], *, add: bool) -> int:
    """Put pictures into an album, or take them out; return how many were changed.

    An album exists as long as it has pictures.

    Args:
        collection: where the pictures are stored.
        name: of the album.
        ids: of the pictures.
        add: False to take them out.

    Raises:
        UsageError: the name is not valid, a picture is not stored, or is in too many albums.
    """
    name = checked_name(name)
    unique = list(dict.fromkeys(ids))
    rows = {
        row["id"]: row
        for row in collection.get("images", unique, [*IMAGE_FIELDS, "vector", "$meta"])
    }
    changed = []
    for key in unique:
        if key not in rows:
            raise UsageError(f"no picture with the id {key[:64]!r} is stored")
        row = rows[key]
        before = [one for one in str(row.get(ALBUMS, "")).split(COMMA) if one]
        after = [one for one in before if one != name] + ([name] if add else [])
        if len(after) > MAX_ALBUMS:
            raise UsageError(f"a picture can be in {MAX_ALBUMS} albums: {row['path'][:200]}")
        if set(after) == set(before):
            continue
        other = {field: value for field, value in row.items() if field != ALBUMS}
        albums = {ALBUMS: COMMA.join(after)} if after else {}
        vector = np.asarray(row["vector"], dtype=np.float32)
        changed.append(other | albums | {"vector": vector})
    collection.upsert("images", changed)
    collection.check_writes()
    return len(changed)


def checked_name(name: str) -> str:
    """A name for an album, with single spaces.

    Raises:
        UsageError: it is empty or too long, or has a comma, which is between albums.
    """
    cleaned = clean_text(name)
    if not cleaned or len(cleaned) > MAX_NAME or "," in cleaned:
        raise UsageError(
            f"an album's name has 1 to {MAX_NAME} characters and no comma, unlike {name[:60]!r}"
        )
    return cleaned

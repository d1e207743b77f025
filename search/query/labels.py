"""Albums and tags: names that people give to pictures, stored in fields of the pictures' own rows.

So an album or a tag is a filter (``PictureLabel.where``), moves with its pictures to another
database, and a column ``albums`` or ``tags`` of a caption file fills them, too. A picture can have
several of each.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.search.errors import UsageError
from twinlens.search.metadata import LIST_SEPARATOR
from twinlens.search.milvus.collection import Collection
from twinlens.search.query.facets import LabelField, count_values
from twinlens.search.records import IMAGE_FIELDS, clean_text

#: Characters of a name, and albums, or tags, of one picture.
MAX_NAME, MAX_LABELS = 100, 64
#: A row is read and written again: two threads must not take each other's label away.
_CHANGING = threading.Lock()


@dataclass(frozen=True, slots=True)
class PictureLabel:
    """An album, or a tag.

    Attributes:
        name: its name.
        count: how many pictures have it.
        where: the filter that selects them.
    """

    name: str
    count: int
    where: str


def list_labels(
    collection: Collection, field: LabelField, expression: str = ""
) -> list[PictureLabel]:
    """The albums, or tags, of the pictures that satisfy a Milvus expression, sorted by name."""
    if field not in collection.fields("images"):
        return []
    values = count_values(collection, field, expression)
    return sorted(
        (PictureLabel(str(one.value), one.count, one.where) for one in values),
        key=lambda label: label.name.casefold(),
    )


def change_label(
    collection: Collection, field: LabelField, name: str, ids: Sequence[str], *, add: bool
) -> int:
    """Put pictures into an album, or tag them, or undo that; return how many were changed.

    An album or a tag exists as long as a picture has it.

    Args:
        collection: where the pictures are stored.
        field: "albums" or "tags".
        name: of the album or the tag.
        ids: of the pictures.
        add: False to remove it from them.

    Raises:
        UsageError: the name is not valid, a picture is not stored, or has too many.
    """
    name = checked_label(field, name)
    with _CHANGING:
        return _change(collection, field, name, list(dict.fromkeys(ids)), add=add)


def _change(
    collection: Collection, field: LabelField, name: str, unique: Sequence[str], *, add: bool
) -> int:
    rows = {
        row["id"]: row
        for row in collection.get("images", unique, [*IMAGE_FIELDS, "vector", "$meta"])
    }
    changed = []
    for key in unique:
        if key not in rows:
            raise UsageError(f"no picture with the id {key[:64]!r} is stored")
        row = rows[key]
        before = [one for one in str(row.get(field, "")).split(LIST_SEPARATOR) if one]
        after = [one for one in before if one != name] + ([name] if add else [])
        if len(after) > MAX_LABELS:
            raise UsageError(f"a picture can have {MAX_LABELS} {field}: {row['path'][:200]}")
        if set(after) == set(before):
            continue
        other = {column: value for column, value in row.items() if column != field}
        labels = {field: LIST_SEPARATOR.join(after)} if after else {}
        vector = np.asarray(row["vector"], dtype=np.float32)
        changed.append(other | labels | {"vector": vector})
    collection.upsert("images", changed)
    collection.check_writes()
    return len(changed)


def checked_label(field: LabelField, name: str) -> str:
    """A name for an album or a tag, with single spaces.

    Raises:
        UsageError: it is empty or too long, or has a comma, which is between names.
    """
    cleaned = clean_text(name)
    if not cleaned or len(cleaned) > MAX_NAME or "," in cleaned:
        which = "an album" if field == "albums" else "a tag"
        raise UsageError(
            f"the name of {which} has 1 to {MAX_NAME} characters and no comma, unlike {name[:60]!r}"
        )
    return cleaned

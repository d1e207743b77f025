"""Find stored images and texts by id or path, and list them page by page."""

from __future__ import annotations

import os
from collections import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import is_server
from twinlens.search.milvus.expressions import begins, quote
from twinlens.search.models.base import Rows
from twinlens.search.query.hits import hit_of
from twinlens.search.records import IMAGE_FIELDS, MAX_SHOWN, TEXT_FIELDS, Kind, Row, Target

#: Rows of one page of a listing.
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A stored picture or text.

    Attributes:
        target: "images" or "texts": which it is.
        id: its key.
        path: where the picture is, or the one a text describes; "" for none.
        relative_path: the same, below the folder that was ingested.
        paths: all paths of a picture.
        captions: of a picture, as it is shown.
        text: the words, of a text.
        image_id: the picture's id, of a picture or of the one a text describes.
        metadata: everything else that is known.
        texts: of a picture, its texts in full as (id, words), at most ``MAX_SHOWN``.
    """

    target: Target
    id: str
    path: str
    relative_path: str = ""
    paths: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    text: str = ""
    image_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class StoredRow:
    """A stored row: which side it is on, its id, and its float32 unit row."""

    kind: Target
    id: str
    row: Rows


def find_item(collection: Collection, name: str) -> StoredItem:
    """What is stored under an id, or as the picture of a path.

    Raises:
        UsageError: nothing is.
    """
    found = find_stored(collection, [name])[name]
    fields = [*(IMAGE_FIELDS if found.kind == "images" else TEXT_FIELDS), "$meta"]
    rows = collection.get(found.kind, [found.id], fields)
    if not rows:  # deleted meanwhile
        raise UsageError(f"nothing stored has the id or the path {name!r}")
    row = rows[0]
    hit = hit_of(found.kind, row, 0.0, 0.0)
    texts: list[tuple[str, str]] = []
    if found.kind == "images":
        of_it = f"image_id == {quote(found.id)}"
        described = collection.where("texts", of_it, ["id", "text"], MAX_SHOWN)
        texts = sorted((one["id"], one["text"]) for one in described)
    return StoredItem(
        target=found.kind,
        id=found.id,
        path=hit.path,
        relative_path=row.get("relative_path", ""),
        paths=tuple(row.get("paths", ())),
        captions=hit.captions,
        text=hit.text,
        image_id=hit.image_id,
        metadata=hit.metadata,
        texts=tuple(texts),
    )


def find_stored(collection: Collection, names: abc.Collection[str]) -> dict[str, StoredRow]:
    """The rows of these names: ids of pictures or texts, or paths of pictures.

    A path is taken as it was stored, as it stands in the current folder, or below what was
    ingested, where only one picture has it.

    Raises:
        UsageError: nothing of that name is stored.
    """
    wanted = list(dict.fromkeys(names))
    found = _by_id(collection, {name: name for name in wanted})
    missing = [name for name in wanted if name not in found]
    if missing:
        spelled = {path: name for name in missing for path in _spellings(name)}
        rows = collection.get("files", list(spelled), ["path", "image_id"])
        ids = {spelled[row["path"]]: row["image_id"] for row in rows if row["image_id"]}
        for name in set(missing) - set(ids):
            below = f"relative_path == {quote(name)}"
            same = collection.where("images", below, ["id"], 2)
            if len(same) == 1:
                ids[name] = same[0]["id"]
        found |= _by_id(collection, ids)
    for name in wanted:
        if name not in found:
            raise UsageError(f"nothing stored has the id or the path {name!r}")
    return found


def list_pictures(collection: Collection, expression: str = "", after: str = "") -> list[Row]:
    """The next ``PAGE`` pictures after an id for which a Milvus expression holds: id and path."""
    return _page(collection, "images", ["id", "path"], expression, f"id > {quote(after)}")


def list_paths(collection: Collection, root: str, after: str = "") -> list[str]:
    """The next ``PAGE`` paths after a path that the ledger has below a root."""
    below = f"root == {quote(root)} or ({begins('path', root + '/')})"
    expression = f'({below}) and status != "gone"'
    rows = _page(collection, "files", ["path"], expression, f"path > {quote(after)}")
    return [row["path"] for row in rows]


def _page(
    collection: Collection, kind: Kind, fields: list[str], expression: str, after: str
) -> list[Row]:
    wanted = f"({expression}) and {after}" if expression else after
    # A plain query with a limit gives any rows that match, an iterator the first by their keys.
    for rows in collection.scan(kind, fields, wanted, batch=PAGE):
        return rows
    return []


def _by_id(collection: Collection, ids: dict[str, str]) -> dict[str, StoredRow]:
    """Rows by what they were called; ``ids`` has the id of every name."""
    found: dict[str, StoredRow] = {}
    kinds: tuple[Target, ...] = ("images", "texts")
    for kind in kinds:
        left = {name: key for name, key in ids.items() if name not in found}
        rows = {
            row["id"]: np.array(row["vector"], dtype=np.float32)
            for row in collection.get(kind, sorted(set(left.values())), ["id", "vector"])
        }
        found |= {
            name: StoredRow(kind, key, rows[key]) for name, key in left.items() if key in rows
        }
    return found


def _spellings(name: str) -> list[str]:
    if is_server(name) or "\0" in name:
        return [name]
    return list(dict.fromkeys([name, str(Path(os.path.expanduser(name)).absolute())]))

"""Find stored images and texts by id or path, and list them page by page."""

from __future__ import annotations

from collections import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinlens.search.errors import NotStoredError, UsageError
from twinlens.search.frozen import FrozenDict
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import is_server
from twinlens.search.milvus.expressions import begins, is_in, quote
from twinlens.search.models.base import Rows
from twinlens.search.paths import expand_home, name_forms, stored_path
from twinlens.search.query.hits import hit_of
from twinlens.search.records import IMAGE_FIELDS, MAX_SHOWN, TEXT_FIELDS, Kind, Row, Target

#: Rows of one page of a listing.
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A stored image or text with everything that is stored about it.

    Attributes:
        target: "images" or "texts": which it is.
        id: its id.
        path: of the image, or of the image a text describes; "" for none.
        relative_path: the same path, relative to the ingested folder.
        paths: all paths of an image.
        captions: of an image, shortened for display.
        text: the words of a text; "" for an image.
        image_id: the id of the image, or of the image a text describes.
        metadata: all other fields.
        texts: an image's full captions as (id, text), at most ``MAX_SHOWN``.
    """

    target: Target
    id: str
    path: str
    relative_path: str = ""
    paths: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    text: str = ""
    image_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict)
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class StoredRow:
    """The id and the float32 unit row of a stored image or text."""

    target: Target
    id: str
    row: Rows


def find_item(collection: Collection, name: str) -> StoredItem:
    """Find a stored image or text by its id, or an image by its path.

    Raises:
        NotStoredError: there is none.
    """
    found = find_stored(collection, [name])[name]
    fields = [*(IMAGE_FIELDS if found.target == "images" else TEXT_FIELDS), "$meta"]
    rows = collection.get(found.target, [found.id], fields)
    if not rows:  # deleted meanwhile
        raise _not_stored(name)
    row = rows[0]
    hit = hit_of(found.target, row, 0.0, 0.0)
    texts: list[tuple[str, str]] = []
    if found.target == "images":
        captions = f"image_id == {quote(found.id)}"
        text_rows = collection.query("texts", captions, ["id", "text"], MAX_SHOWN)
        texts = sorted((one["id"], one["text"]) for one in text_rows)
    return StoredItem(
        target=found.target,
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
    """Find stored rows by name: the id of an image or text, or the path of an image.

    A path may be the stored one, relative to the current folder, or relative to the ingested
    folder if only one image has it; its letters may be composed or decomposed.

    Raises:
        NotStoredError: a name that is not stored.
    """
    unique = list(dict.fromkeys(names))
    failed: dict[str, str] = {}
    found = _by_id(collection, {name: name for name in unique})
    missing = [name for name in unique if name not in found]
    if missing:
        candidates = {name: _candidate_paths(name) for name in missing}
        paths = list(dict.fromkeys(path for some in candidates.values() for path in some))
        columns = ["path", "image_id", "status", "reason"]
        rows = {row["path"]: row for row in collection.get("files", paths, columns)}
        ids: dict[str, str] = {}
        for name, some in candidates.items():
            there = [rows[path] for path in some if path in rows]
            stored = [row["image_id"] for row in there if row["image_id"]]
            reasons = [row["reason"] for row in there if row["status"] == "failed"]
            failed[name] = reasons[0] if reasons else ""
            if not stored:
                relative = is_in("relative_path", name_forms(name))
                same = collection.query("images", relative, ["id"], 2)
                stored = [row["id"] for row in same] if len(same) == 1 else []
            if stored:
                ids[name] = stored[0]
        found |= _by_id(collection, ids)
    for name in unique:
        if name not in found:
            raise _not_stored(name, failed.get(name, ""))
    return found


def find_images(collection: Collection, names: abc.Collection[str]) -> dict[str, Rows]:
    """Find the float32 unit rows ``[dim]`` of stored images, by their ids or paths.

    Raises:
        UsageError: a name that is not stored, or the id of a text.
    """
    found = find_stored(collection, names)
    for name, one in found.items():
        if one.target != "images":
            raise UsageError(f"{name[:200]!r} is a stored text, not a picture")
    return {name: one.row for name, one in found.items()}


def list_images(
    collection: Collection,
    expression: str = "",
    after: str = "",
    *,
    limit: int = PAGE,
    fields: Sequence[str] = ("id", "path"),
) -> list[Row]:
    """List the next images after an id, sorted by id.

    Args:
        collection: where they are stored.
        expression: a Milvus expression that they must match.
        after: the last id of the previous page.
        limit: how many.
        fields: the fields of each row.
    """
    after = f"id > {quote(after)}"
    return _page(collection, "images", list(fields), expression, after, limit)


def list_paths(
    collection: Collection, root: str, after: str = "", *, limit: int = PAGE
) -> list[str]:
    """List the next paths after a path that the ledger has below a root, sorted."""
    below = f"root == {quote(root)} or ({begins('path', root + '/')})"
    expression = f'({below}) and status not in ["gone", "writing"]'
    rows = _page(collection, "files", ["path"], expression, f"path > {quote(after)}", limit)
    return [row["path"] for row in rows]


def _page(
    collection: Collection,
    kind: Kind,
    fields: list[str],
    expression: str,
    after: str,
    limit: int,
) -> list[Row]:
    both = f"({expression}) and {after}" if expression else after
    # A query with a limit returns any matching rows; an iterator returns the first by their keys.
    for rows in collection.scan(kind, fields, both, batch=limit):
        return rows
    return []


def _by_id(collection: Collection, ids: dict[str, str]) -> dict[str, StoredRow]:
    """Read rows by id; ``ids`` maps each name to its id, the result maps it to its row."""
    found: dict[str, StoredRow] = {}
    targets: tuple[Target, ...] = ("images", "texts")
    for target in targets:
        left = {name: key for name, key in ids.items() if name not in found}
        rows = {
            row["id"]: np.array(row["vector"], dtype=np.float32)
            for row in collection.get(target, sorted(set(left.values())), ["id", "vector"])
        }
        found |= {
            name: StoredRow(target, key, rows[key]) for name, key in left.items() if key in rows
        }
    return found


def _not_stored(name: str, failure: str = "") -> NotStoredError:
    reason = f": it could not be ingested: {failure}" if failure else ""
    told = f"nothing with the id or path {name[:200]!r} is stored{reason}"
    return NotStoredError(told, "" if failure else name)


def _candidate_paths(name: str) -> list[str]:
    """The stored paths that a name may stand for."""
    if is_server(name) or "\0" in name:
        return [name]
    forms = [(form, stored_path(expand_home(form).absolute())) for form in name_forms(name)]
    return list(dict.fromkeys(path for both in forms for path in both))

"""One stored row with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import quote
from twinlens.search.query.hits import hit_of
from twinlens.search.query.stored import find_stored
from twinlens.search.records import IMAGE_FIELDS, MAX_SHOWN, TEXT_FIELDS, Target


@dataclass(frozen=True, slots=True)
class Item:
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


def find_item(collection: Collection, name: str) -> Item:
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
    return Item(
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

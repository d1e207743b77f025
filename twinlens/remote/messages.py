"""Translate queries and results to and from the JSON of the HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from twinlens.search.errors import ImageError, StoreError, UsageError
from twinlens.search.filters import literal
from twinlens.search.frozen import FrozenDict
from twinlens.search.images.formats import sniff
from twinlens.search.milvus.collection import CollectionInfo
from twinlens.search.milvus.connection import is_server
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.paths import expand_home
from twinlens.search.query.hits import Hit, Hits
from twinlens.search.query.parts import (
    Id,
    Not,
    Part,
    Text,
    Vector,
    numbers_of,
    read_image,
)
from twinlens.search.query.stored import StoredItem
from twinlens.search.records import MAX_PATH_BYTES, is_id

if TYPE_CHECKING:
    from twinlens.search.analysis.classify import Guess
    from twinlens.search.analysis.policy.stored import ReviewItem
    from twinlens.search.models.base import Rows
    from twinlens.search.query.browse import Browsed
    from twinlens.search.query.facets import Facet

T = TypeVar("T")
#: The most items, and bytes of pictures, in one request: what a server accepts by default.
BATCH = 64
BATCH_BYTES = 16 << 20


def batches(
    items: Iterable[T], size_of: Callable[[T], int], most: int | Callable[[], int], most_bytes: int
) -> Iterator[list[T]]:
    """Split items into lists of bounded length and size; a larger item is alone in its list.

    Args:
        items: what to split.
        size_of: the bytes of an item.
        most: the most items of a list, or a function that says so as it changes.
        most_bytes: the most bytes of a list.
    """
    batch: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if batch and (
            len(batch) >= (most() if callable(most) else most) or total + size > most_bytes
        ):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def part_to_json(part: Part, files: list[bytes] | None) -> dict[str, Any]:
    """Write a part of a query as JSON.

    Args:
        part: the part.
        files: a picture is appended here, to travel as a file; ``None`` to embed it as base64.
    """
    weight = {"weight": float(part.weight)}
    if isinstance(part, Not):
        assert not isinstance(part.part, str)
        return {"not": part_to_json(part.part, files), **weight}
    if isinstance(part, Text):
        return {"text": part.text, **weight}
    if isinstance(part, Id):
        return {"id": server_name(part.id), **weight}
    if isinstance(part, Vector):
        return {"vector": _vector_to_json(part.values), **weight}
    data = read_image(part.source)
    if isinstance(part.source, str | Path) and sniff(data) is None:
        # Reject it here, where its name is known; a file that is no picture is not sent anywhere.
        raise ImageError(f"{part.source}: not an image in a format that can be read")
    if files is None:
        import base64

        return {"image": {"base64": base64.b64encode(data).decode()}, **weight}
    files.append(data)
    return {"image": {"file": len(files) - 1}, **weight}


def _vector_to_json(values: Any) -> list[float]:
    row = numbers_of(values)
    if not row.size or not np.isfinite(row).all():
        raise UsageError("a query vector must be finite numbers, not all zero")
    return [float(number) for number in row]


def hits_from_json(found: Mapping[str, Any]) -> Hits:
    hits = map(_hit_from_json, found["hits"])
    return Hits(hits, nothing_close=found["nothing_close"], cursor=found["cursor"])


def _hit_from_json(hit: Mapping[str, Any]) -> Hit:
    # A server of an earlier version does not send every field.
    values = {field.name: hit[field.name] for field in fields(Hit) if field.name in hit}
    values |= {name: tuple(hit.get(name, ())) for name in ("captions", "paths")}
    values["metadata"] = FrozenDict(hit["metadata"])
    return Hit(**values)


def browsed_from_json(found: Mapping[str, Any]) -> Browsed:
    from twinlens.search.query.browse import Browsed
    from twinlens.search.query.timeline import Month

    items = tuple(map(_hit_from_json, found["items"]))
    return Browsed(items, found["total"], tuple(Month(**month) for month in found["months"]))


def facets_from_json(found: Mapping[str, Any]) -> tuple[Facet, ...]:
    from twinlens.search.query.facets import Facet, FacetValue

    return tuple(
        Facet(
            one["field"],
            tuple(FacetValue(**value) for value in one["values"]),
            one["more"],
            tuple(one["clauses"]),
        )
        for one in found["facets"]
    )


def item_from_json(item: Mapping[str, Any]) -> StoredItem:
    values = {field.name: item[field.name] for field in fields(StoredItem)}
    values |= {name: tuple(item[name]) for name in ("paths", "captions")}
    values["texts"] = tuple((one["id"], one["text"]) for one in item["texts"])
    values["metadata"] = FrozenDict(item["metadata"])
    return StoredItem(**values)


def review_item_from_json(item: Mapping[str, Any]) -> ReviewItem:
    from twinlens.search.analysis.policy.stored import ReviewItem

    values = {field.name: item[field.name] for field in fields(ReviewItem)}
    values["captions"] = tuple(item["captions"])
    values["flags"] = tuple((one["concept"], one["score"]) for one in item["flags"])
    return ReviewItem(**values)


def info_from_json(info: Mapping[str, Any]) -> CollectionInfo:
    values = {
        field.name: info[field.name]
        for field in fields(CollectionInfo)
        # A server of an earlier version does not send every field.
        if field.name != "fingerprint" and field.name in info
    }
    if values["tenants"] is not None:
        values["tenants"] = tuple(values["tenants"])
    model = {field.name: info["model"][field.name] for field in fields(Fingerprint)}
    return CollectionInfo(**values, fingerprint=Fingerprint(**model))


def guesses_from_json(result: Mapping[str, Any]) -> tuple[Guess, ...]:
    from twinlens.search.analysis.classify import Guess

    return tuple(Guess(one["label"], one["probability"]) for one in result.get("labels", ()))


def vectors_from_json(embedded: Mapping[str, Any]) -> Rows:
    rows: Rows = np.array(embedded["vectors"], dtype=np.float32)
    if rows.ndim != 2:
        raise StoreError("the server's response holds no embeddings")
    return rows


def server_name(name: str) -> str:
    """An id as it is, a path as an absolute one: the server has another current folder."""
    if is_id(name) or is_server(name):
        return name
    path = expand_home(name)
    try:
        return str(path.absolute()) if path.exists() else name
    except (OSError, ValueError):  # a name that no file can have
        return name


def path_filters(path: str) -> tuple[str, ...]:
    """The filters of the picture that has a path: as its first one, or else as that of a copy."""
    if len(path.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        return ()
    return f"path == {literal(path)}", f"paths has {literal(path)}"

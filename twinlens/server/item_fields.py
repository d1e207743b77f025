"""Choose which fields of pictures a listing returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import IMAGE_FIELDS, Row

#: The addresses of a picture, which are no fields of its row.
ADDRESSES = ("thumbnail", "image")


def parse_fields(text: str, collection: Collection) -> tuple[str, ...]:
    """Parse names that are separated by commas.

    Args:
        text: the names: columns, metadata or ``ADDRESSES``.
        collection: the one with the pictures.

    Raises:
        UsageError: there is no such field.
    """
    known = {*collection.fields("images"), *ADDRESSES}
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no field {name[:64]!r}: use {', '.join(sorted(known))[:2_000]}"
            )
    return names


def columns_of(names: Sequence[str]) -> list[str]:
    """What to read of the rows to return these fields."""
    columns = [name for name in names if name in IMAGE_FIELDS and name != "id"]
    others = any(name not in IMAGE_FIELDS and name not in ADDRESSES for name in names)
    return ["id", *columns, *(["$meta"] if others else [])]


def chosen(row: Row, names: Sequence[str], addresses: Mapping[str, str | None]) -> dict[str, Any]:
    """The id and the chosen fields of a picture; ``None`` for those that it does not have."""
    return {"id": row["id"]} | {
        name: _plain(addresses[name] if name in ADDRESSES else row.get(name)) for name in names
    }


def _plain(value: Any) -> Any:
    """A value for JSON; a server returns arrays as sequences of its own."""
    return value if value is None or isinstance(value, str | int | float | dict) else list(value)

"""What is stored: ids, the fields of a row, and how pictures and their texts are paired."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Kind = Literal["images", "texts", "files"]
Target = Literal["images", "texts"]
Scalar = str | int | float | bool
Row = dict[str, Any]
#: What a filter may compare a field with; "mixed" is text in some rows and numbers in others.
FieldType = Literal["text", "path", "date", "integer", "number", "boolean", "list", "mixed"]

#: Hex digits of an id: 128 bits, so that a billion pictures collide with probability 1e-21.
ID_LENGTH = 32
#: Bytes; Milvus caps a VARCHAR at 65,535.
MAX_TEXT_BYTES = 65_000
MAX_PATH_BYTES = 4_096
#: How many of a picture's captions and paths its own row carries, for showing.
MAX_SHOWN = 64
#: How many captions one picture may have.
MAX_CAPTIONS = 4_096
#: Bytes of one caption as the picture's own row carries it.
MAX_SHOWN_BYTES = 2_000
#: Bytes of the words that full-text search looks in.
MAX_WORDS_BYTES = 32_000

#: Fields with a column of their own; everything else a row carries is a dynamic field.
IMAGE_FIELDS = ("id", "path", "relative_path", "paths", "captions", "width", "height", "bytes",
                "mtime", "format")  # fmt: skip
TEXT_FIELDS = ("id", "text", "image_id", "path", "relative_path")
FILE_FIELDS = ("path", "image_id", "texts", "size", "mtime_ns", "digest", "status", "reason",
               "root")  # fmt: skip
FIXED_FIELDS = frozenset({*IMAGE_FIELDS, *TEXT_FIELDS})
#: In collections of tenants: the key of a row, and whose it is.
KEY = "twinlens_key"
TENANT = "twinlens_tenant"
_RESERVED = {*FIXED_FIELDS, "vector", "sparse", "words", KEY, TENANT}
_TYPES: Mapping[str, FieldType] = {
    "path": "path",
    "paths": "list",
    "captions": "list",
    "width": "integer",
    "height": "integer",
    "bytes": "integer",
    "mtime": "number",
}
_MAX_INTEGER = 2**63 - 1
_PATH_WORDS = re.compile(r"[0-9]+|[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])|[A-Z][^\W\d_A-Z]*")


def image_id(data: bytes) -> str:
    """A picture's id: a hash of its bytes, so that the same picture is stored once."""
    return hashlib.blake2b(data, digest_size=ID_LENGTH // 2).hexdigest()


def text_id(of_image: str, text: str) -> str:
    """A text's id: a hash of the picture it describes ("" for none) and its words."""
    return hashlib.blake2b(f"{of_image}\0{text}".encode(), digest_size=ID_LENGTH // 2).hexdigest()


def clean_text(text: str) -> str:
    """A caption as it is stored: one line, no control characters, at most ``MAX_TEXT_BYTES``."""
    # The zero-width joiner is not printable, but emoji are made with it.
    visible = "".join(ch if ch.isprintable() or ch == "\u200d" else " " for ch in text)
    return cut_bytes(" ".join(visible.split()), MAX_TEXT_BYTES)


def cut_bytes(text: str, limit: int) -> str:
    """``text`` cut to at most ``limit`` bytes of UTF-8, never in the middle of a character."""
    encoded = text.encode("utf-8", "replace")
    return encoded[:limit].decode("utf-8", "ignore") if len(encoded) > limit else encoded.decode()


def clean_metadata(metadata: Mapping[str, Any]) -> dict[str, Scalar]:
    """The extra columns that can be stored and filtered on: scalars under identifier-like names.

    A name that a column of ours already has gets a trailing underscore; anything that is not a
    letter, digit or underscore becomes an underscore.
    """
    kept: dict[str, Scalar] = {}
    for name, value in metadata.items():
        if value is None or value == "" or not isinstance(value, str | int | float | bool):
            continue
        if isinstance(value, float) and not math.isfinite(value):  # JSON has no such number
            continue
        if isinstance(value, int) and abs(value) > _MAX_INTEGER:  # Milvus has no such integer
            value = str(value)
        field = "".join(ch if ch.isascii() and (ch.isalnum() or ch == "_") else "_" for ch in name)
        if not field or field[0].isdigit():
            field = f"_{field}"
        if field in _RESERVED:
            field += "_"
        kept[field[:128]] = cut_bytes(value, MAX_SHOWN_BYTES) if isinstance(value, str) else value
    return kept


def words_of(row: Row) -> str:
    """What full-text search looks in: captions or the text, the path's words, other columns' texts.

    ``trips/SunsetBeach_2041.jpg`` has the words trips, Sunset, Beach and 2041.
    """
    says = [*row.get("captions", ()), row.get("text", "")]
    path, _, _ = str(row.get("relative_path", "")).rpartition(".")
    says += _PATH_WORDS.findall(path or str(row.get("relative_path", "")))
    own = FIXED_FIELDS | _RESERVED
    says += [value for name, value in row.items() if name not in own and isinstance(value, str)]
    return cut_bytes(" ".join(filter(None, says)), MAX_WORDS_BYTES)


def fixed_types(kind: Kind) -> dict[str, FieldType]:
    """The types of the fields that every row has."""
    names = IMAGE_FIELDS if kind == "images" else TEXT_FIELDS if kind == "texts" else FILE_FIELDS
    return {name: _TYPES.get(name, "text") for name in names}


def dynamic_types(rows: Iterable[Row]) -> set[tuple[str, FieldType]]:
    """The fields without a column of their own that rows carry, with the type of each value."""
    return {
        (name, kind)
        for row in rows
        for name, value in row.items()
        if name not in _RESERVED and (kind := _type_of(value)) is not None
    }


def join_types(first: FieldType, second: FieldType) -> FieldType:
    """The type of a field that has values of two types."""
    if first == second:
        return first
    return "number" if {first, second} == {"integer", "number"} else "mixed"


def _type_of(value: object) -> FieldType | None:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else None

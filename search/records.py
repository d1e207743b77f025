"""What is stored: ids, the fields of a row, and how pictures and their texts are paired."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["images", "texts", "files"]
Target = Literal["images", "texts"]
Scalar = str | int | float | bool
Row = dict[str, Any]

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

#: Fields with a column of their own; everything else a row carries is a dynamic field.
IMAGE_FIELDS = ("id", "path", "relative_path", "paths", "captions", "width", "height", "bytes",
                "mtime", "format")  # fmt: skip
TEXT_FIELDS = ("id", "text", "image_id", "path", "relative_path")
FILE_FIELDS = ("path", "image_id", "texts", "size", "mtime_ns", "digest", "status", "reason",
               "root")  # fmt: skip
_RESERVED = {*IMAGE_FIELDS, *TEXT_FIELDS, "vector", "sparse", "words"}


def image_id(data: bytes) -> str:
    """A picture's id: a hash of its bytes, so that the same picture is stored once."""
    return hashlib.blake2b(data, digest_size=ID_LENGTH // 2).hexdigest()


def text_id(of_image: str, text: str) -> str:
    """A text's id: a hash of the picture it describes ("" for none) and its words."""
    return hashlib.blake2b(f"{of_image}\0{text}".encode(), digest_size=ID_LENGTH // 2).hexdigest()


def clean_text(text: str) -> str:
    """A caption as it is stored: one line, no control characters, at most ``MAX_TEXT_BYTES``."""
    line = " ".join(text.split())
    line = "".join(ch for ch in line if ch.isprintable() or ch == "\u200d")
    return cut_bytes(line, MAX_TEXT_BYTES)


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
        field = "".join(ch if ch.isascii() and (ch.isalnum() or ch == "_") else "_" for ch in name)
        if not field or field[0].isdigit():
            field = f"_{field}"
        if field in _RESERVED:
            field += "_"
        kept[field[:128]] = cut_bytes(value, MAX_SHOWN_BYTES) if isinstance(value, str) else value
    return kept

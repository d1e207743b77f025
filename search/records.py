"""Define what is stored: ids, the fields of rows and their types, limits, and text cleaning."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from twinlens.search.metadata import Scalar as Scalar
from twinlens.search.metadata import field_names, flat_values, scalar_of
from twinlens.search.paths import one_form
from twinlens.search.words import path_words, searchable

Kind = Literal["images", "texts", "files"]
Target = Literal["images", "texts"]
Row = dict[str, Any]
#: The type of a field in filters; "mixed" is text in some rows and numbers in others.
FieldType = Literal["text", "path", "date", "integer", "number", "boolean", "list", "mixed"]

#: Hex digits of an id: 128 bits, so that a billion images collide with probability 1e-21.
ID_LENGTH = 32
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")
#: The most bytes of a text; Milvus limits a VARCHAR to 65,535.
MAX_TEXT_BYTES = 65_000
MAX_PATH_BYTES = 4_096
#: The most captions and paths that an image's own row contains, for display.
MAX_SHOWN = 64
#: The most captions of an image.
MAX_CAPTIONS = 4_096
#: The most bytes of a caption in the image's own row.
MAX_SHOWN_BYTES = 2_000
#: The most bytes of the words of a row for full-text search.
MAX_WORDS_BYTES = 32_000

#: Fields with a column of their own; all other fields of a row are dynamic.
IMAGE_FIELDS = ("id", "path", "relative_path", "paths", "captions", "width", "height", "bytes",
                "mtime", "format")  # fmt: skip
TEXT_FIELDS = ("id", "text", "image_id", "path", "relative_path")
FILE_FIELDS = ("path", "image_id", "texts", "size", "mtime_ns", "digest", "status", "reason",
               "root")  # fmt: skip
FIXED_FIELDS = frozenset({*IMAGE_FIELDS, *TEXT_FIELDS})
#: The metadata of a caption that twinlens proposed: ``caption_source`` is ``proposed``.
CAPTION_SOURCE, CAPTION_PROBABILITY = "caption_source", "caption_probability"
PROPOSED = "proposed"
#: In collections with tenants: the columns of a row's key and its tenant.
KEY = "twinlens_key"
TENANT = "twinlens_tenant"
#: What moderation stores: see ``twinlens.search.analysis.policy``. ``HELD`` keeps a picture, and
#: its texts, out of searches; the names of concepts' fields begin with ``FLAG``.
HELD = "held"
FLAGGED = "flagged"
REVIEW = "review"
POLICY = "policy"
POLICY_DIGEST = "policy_digest"
FLAG = "flag_"
_MODERATION = {HELD, FLAGGED, REVIEW, POLICY, POLICY_DIGEST}
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


def is_id(text: str) -> bool:
    """Whether a text has the form of an id, and so is safe as a file name."""
    return _ID.fullmatch(text) is not None


def image_id(data: bytes) -> str:
    """The id of an image: a hash of its bytes, which deduplicates identical files."""
    return hashlib.blake2b(data, digest_size=ID_LENGTH // 2).hexdigest()


def text_id(of_image: str, text: str) -> str:
    """The id of a text: a hash of the image it describes ("" for none) and its words."""
    return hashlib.blake2b(f"{of_image}\0{text}".encode(), digest_size=ID_LENGTH // 2).hexdigest()


def clean_text(text: str) -> str:
    """Clean a caption: one line, in NFC, no control characters, at most ``MAX_TEXT_BYTES``."""
    # The zero-width joiner is not printable, but emoji need it.
    visible = "".join(ch if ch.isprintable() or ch == "\u200d" else " " for ch in one_form(text))
    return cut_bytes(" ".join(visible.split()), MAX_TEXT_BYTES)


def cut_bytes(text: str, limit: int) -> str:
    """Cut a text to at most ``limit`` bytes of UTF-8, never within a character."""
    encoded = text.encode("utf-8", "replace")
    return encoded[:limit].decode("utf-8", "ignore") if len(encoded) > limit else encoded.decode()


def clean_metadata(
    metadata: Mapping[str, Any], lost: dict[str, str] | None = None
) -> dict[str, Scalar]:
    """Turn metadata into fields that can be stored and filtered on; see ``search.metadata``.

    Characters of a name other than letters, digits and underscores become underscores. A name of
    one of our own columns gets an underscore at its end, one of moderation at its beginning.

    Args:
        metadata: the columns of a row.
        lost: filled with the names of columns that cannot be kept, or not wholly, and why.
    """
    if not metadata:
        return {}
    values: list[tuple[str, Scalar]] = []
    for name, value in flat_values(metadata):
        try:
            scalar = scalar_of(value)
        except ValueError as error:
            _lose(lost, name, f"{error} and is not kept")
            continue
        if isinstance(scalar, str) and len(scalar.encode("utf-8", "replace")) > MAX_SHOWN_BYTES:
            scalar = cut_bytes(scalar, MAX_SHOWN_BYTES)
            _lose(lost, name, f"is cut to {MAX_SHOWN_BYTES:,} bytes")
        if scalar is not None:
            values.append((name, scalar))
    fields = field_names([name for name, _ in values], _allowed)
    return {field: value for field, (_, value) in zip(fields, values, strict=True)}


def _allowed(field: str) -> str:
    """A field that is not one of ours."""
    if field in _RESERVED:
        return f"{field}_"
    return f"_{field}" if is_moderation(field) else field


def _lose(lost: dict[str, str] | None, name: str, reason: str) -> None:
    if lost is not None:
        lost.setdefault(name, reason)


def is_moderation(field: str) -> bool:
    """Whether only moderation writes a field: no metadata can set it."""
    return field in _MODERATION or field.startswith(FLAG)


def moderation_of(row: Row) -> Row:
    """The fields of a row that moderation wrote."""
    return {name: value for name, value in row.items() if is_moderation(name)}


def text_moderation(row: Row) -> Row:
    """The fields of moderation that a picture's texts share with it: all if it is flagged."""
    return moderation_of(row) if row.get(FLAGGED) else {}


def words_of(row: Row) -> str:
    """The words for full-text search: captions or the text, words of paths, text metadata.

    Compound words are whole and in pieces: ``trips/SunsetBeach_2041.jpg`` has the words trips,
    SunsetBeach_2041, Sunset, Beach and 2041. The names of a picture's other files count, too.
    """
    says = [searchable(text) for text in (*row.get("captions", ()), row.get("text", "")) if text]
    says.append(path_words(str(row.get("relative_path", ""))))
    copies = {path.rpartition("/")[2] for path in row.get("paths", ()) if path != row.get("path")}
    says += map(path_words, sorted(copies))
    own = FIXED_FIELDS | _RESERVED
    says += [
        searchable(value)
        for name, value in row.items()
        if name not in own and isinstance(value, str) and not is_moderation(name)
    ]
    return cut_bytes(" ".join(filter(None, says)), MAX_WORDS_BYTES)


def fixed_types(kind: Kind) -> dict[str, FieldType]:
    """The types of the fields that every row has."""
    names = IMAGE_FIELDS if kind == "images" else TEXT_FIELDS if kind == "texts" else FILE_FIELDS
    return {name: _TYPES.get(name, "text") for name in names}


def dynamic_types(rows: Iterable[Row]) -> set[tuple[str, FieldType]]:
    """The dynamic fields of rows, each with the type of each value."""
    return {
        (name, kind)
        for row in rows
        for name, value in row.items()
        if name not in _RESERVED and (kind := _type_of(value)) is not None
    }


def join_types(first: FieldType, second: FieldType) -> FieldType:
    """The common type of a field with values of two types."""
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

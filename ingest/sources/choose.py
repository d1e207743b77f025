"""Choose the column of a caption file that names the pictures: by its name, else by its values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import chain, islice
from typing import Any

from twinlens.ingest.sources.columns import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    Columns,
    choose_columns,
    missing_column,
    same_name,
)
from twinlens.search.images.formats import is_image_name
from twinlens.search.paths import one_form

#: Rows that are looked at to choose a column.
SAMPLED = 200
#: A longer text names no file.
_MAX_NAME = 1_024

#: Returns the names of pictures that are given besides the caption file.
KnownNames = Callable[[], Set[str]]


def first_rows(
    rows: Iterator[tuple[int, Mapping[str, Any]]],
) -> tuple[list[tuple[int, Mapping[str, Any]]], Iterator[tuple[int, Mapping[str, Any]]]]:
    """The first ``SAMPLED`` numbered rows, and an iterator of all."""
    first = list(islice(rows, SAMPLED))
    return first, chain(first, rows)


def columns_of(
    where: str,
    rows: Sequence[Mapping[str, Any]],
    image: str = "",
    caption: str = "",
    known: KnownNames = frozenset,
) -> Columns:
    """Return the requested columns of a caption file, or guess them.

    The image column is the first with a usual name whose values look like names of pictures, or are
    names of pictures that are given, with or without their suffixes; else one of URLs; else any
    other column of which that is true; else one with a usual name. It is "" if there is none.

    Args:
        where: the file, for the error message.
        rows: the first of the file.
        image, caption: the requested columns; "" to guess.
        known: called only if neither names nor values show the column.

    Raises:
        SourceError: there is no column of captions, or a requested column is missing.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = choose_columns(where, names, image, caption)
    if not columns.captions:
        raise missing_column(where, " or ".join(CAPTION_COLUMNS[:3]), names)
    if image:
        return columns
    rank = {same_name(name): place for place, name in enumerate(reversed(IMAGE_COLUMNS), 1)}
    others = [name for name in names if name not in columns.captions]
    usual = sorted((n for n in others if same_name(n) in rank), key=lambda n: -rank[same_name(n)])
    rest = [name for name in others if name not in usual]
    filled = [n for n in usual if not all(_is_empty(row.get(n)) for row in rows)]
    urls = [name for name in filled if "url" in same_name(name)]
    files = [name for name in filled if name not in urls]
    is_known = _is_one_of(known)
    found = (
        _first(rows, files, _looks_like_picture)
        or _first(rows, files, is_known)
        or ("" if files else _first(rows, urls, _looks_like_picture))
        or _first(rows, rest, is_image_name)
        or _first(rows, rest, is_known)
        or next(iter([*files, *urls, *usual]), "")
    )
    return Columns(found, columns.captions)


def image_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns whose values look like names of files of pictures."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if _mostly(rows, name, is_image_name)]


def image_names(relative: str) -> Iterator[str]:
    """The names by which a caption file may call a picture: with and without folder and suffix."""
    member = one_form(relative).rpartition("!")[2]
    base = os.path.basename(member)
    yield from (member, base, os.path.splitext(member)[0], os.path.splitext(base)[0])


def _first(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], test: Callable[[str], bool]
) -> str:
    return next((name for name in names if _mostly(rows, name, test)), "")


def _mostly(rows: Sequence[Mapping[str, Any]], name: str, test: Callable[[str], bool]) -> bool:
    """Whether a test holds for at least half of the values of a column."""
    values = [row.get(name) for row in rows]
    texts = [_text(value) for value in values if not _is_empty(value)]
    return bool(texts) and 2 * sum(map(test, texts)) >= len(texts)


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value != value


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value).strip()
    return text if len(text) <= _MAX_NAME else ""


def _looks_like_picture(text: str) -> bool:
    return is_image_name(text) or text.lower().startswith(("http://", "https://"))


def _is_one_of(known: KnownNames) -> Callable[[str], bool]:
    names: list[Set[str]] = []

    def test(text: str) -> bool:
        if not names:
            names.append(known())
        return bool(text) and os.path.normpath(one_form(text)) in names[0]

    return test

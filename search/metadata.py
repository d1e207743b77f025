"""Turn metadata of any shape into fields that can be stored, shown and filtered on."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

Scalar = str | int | float | bool

#: The largest integer that Milvus stores.
MAX_INTEGER = 2**63 - 1
#: The most elements of a list, and levels of objects within each other, that are kept.
MAX_LIST = 256
MAX_DEPTH = 4
#: Between the elements of a list, which is stored as one text.
LIST_SEPARATOR = ", "
_MAX_NAME = 128


def flat_values(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values of a row by name; ``camera.make`` is a value within an object.

    Lists stay lists, and whatever else is not an object stays as it is.
    """
    for name, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _members(str(name), value, MAX_DEPTH)
        else:
            yield str(name), value


def scalar_of(value: Any) -> Scalar | None:
    """A value as text, number or boolean; None if it is missing, as NaN and "" are.

    Dates and times become ISO 8601, durations seconds, decimals numbers, and lists of such values
    one text with commas. Integers beyond 64 bits become text.

    Raises:
        ValueError: it is of another kind, with the reason.
    """
    if value is None or value == "" or isinstance(value, bool | str):
        return None if value == "" else value
    if isinstance(value, int):
        return value if abs(value) <= MAX_INTEGER else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat() if value == value else None  # pandas' NaT
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return _joined(value)
    if callable(getattr(value, "tolist", None)):  # NumPy
        return scalar_of(value.tolist())
    raise ValueError("is neither text nor a number")


def field_names(names: Sequence[str], allowed: Callable[[str], str]) -> list[str]:
    """The fields of a row that these names are stored as, no two the same.

    Letters and digits of any script stay; everything else becomes an underscore. If that makes two
    names equal, the later one gets a number: ``a-b`` and ``a b`` are ``a_b`` and ``a_b_2``.

    Args:
        names: of the columns.
        allowed: changes a field that must not be set.
    """
    cleaned = [allowed(_field_name(name)) for name in names]
    taken = {field for name, field in zip(names, cleaned, strict=True) if name == field}
    fields: list[str] = []
    for name, field in zip(names, cleaned, strict=True):
        unique, number = field, 2
        while name != field and unique in taken:
            unique, number = f"{field}_{number}", number + 1
        taken.add(unique)
        fields.append(unique)
    return fields


def _field_name(name: str) -> str:
    if name.isascii() and name.isidentifier():
        return name[:_MAX_NAME]
    field = "".join(ch if _is_part(ch) else "_" for ch in unicodedata.normalize("NFC", name))
    return f"_{field}"[:_MAX_NAME] if not field or field[0].isnumeric() else field[:_MAX_NAME]


def _is_part(ch: str) -> bool:
    """Whether a character is a letter, a digit, an accent of a script, or an underscore."""
    return ch == "_" or unicodedata.category(ch)[0] in "LMN"


def _members(prefix: str, value: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping) and depth > 1:
            yield from _members(f"{prefix}.{name}", inner, depth - 1)
        else:
            yield f"{prefix}.{name}", inner


def _decimal(value: Decimal) -> Scalar | None:
    if not value.is_finite():
        return None
    whole = value.as_tuple().exponent
    if isinstance(whole, int) and whole >= 0 and abs(value) <= MAX_INTEGER:
        return int(value)
    return float(value)


def _joined(values: Sequence[Any] | Set[Any]) -> str | None:
    if len(values) > MAX_LIST:
        raise ValueError(f"is a list of more than {MAX_LIST} values")
    if any(isinstance(value, Mapping | bytes) for value in values):
        raise ValueError("is a list of objects")
    parts = (scalar_of(value) for value in values)
    return LIST_SEPARATOR.join(str(part) for part in parts if part is not None) or None

"""Give the cells of a CSV column a common type, as the same values have in JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Literal

from twinlens.search.metadata import MAX_INTEGER, Scalar

_Kind = Literal["boolean", "integer", "number"]

#: What programs write into a cell without a value, in a column of numbers or booleans.
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-"}
_BOOLEANS = {"true": True, "false": False}
# Digits after a leading zero are a code (a postcode, a file number), not a number.
_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)?\.?\d+(?:[eE][+-]?\d+)?", re.ASCII)
_CODE = re.compile(r"-?0\d", re.ASCII)


class ColumnTypes:
    """The type of each column: boolean, integer or number if all its cells are that, else text."""

    def __init__(self) -> None:
        self._possible: dict[str, set[_Kind]] = {}
        self._filled: set[str] = set()

    def see(self, row: Mapping[str, Scalar]) -> None:
        """Take a row into account; its empty cells may be left out."""
        for name, value in row.items():
            text = str(value).strip()
            possible = self._possible.setdefault(name, set(_TESTS))
            if possible and text.lower() not in _MISSING:
                self._filled.add(name)
                possible -= {kind for kind in possible if not _TESTS[kind](text)}

    def typed(self, row: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """A row with the values of their columns' types; what is missing is left out."""
        kept: dict[str, Scalar] = {}
        for name, value in row.items():
            kind = self._kind(name)
            text = str(value).strip()
            if kind is None:
                kept[name] = value
            elif text.lower() not in _MISSING:
                kept[name] = _READ[kind](text)
        return kept

    def _kind(self, name: str) -> _Kind | None:
        possible = self._possible.get(name, set()) if name in self._filled else set()
        return next((kind for kind in _TESTS if kind in possible), None)


def _is_integer(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and abs(int(text[:40])) <= MAX_INTEGER


def _is_number(text: str) -> bool:
    if _NUMBER.fullmatch(text) is None or _CODE.match(text):
        return False
    if _INTEGER.fullmatch(text) and not _is_integer(text):
        return False
    return math.isfinite(float(text))


_TESTS: Mapping[_Kind, Callable[[str], bool]] = {
    "boolean": lambda text: text.lower() in _BOOLEANS,
    "integer": _is_integer,
    "number": _is_number,
}
_READ: Mapping[_Kind, Callable[[str], Scalar]] = {
    "boolean": lambda text: _BOOLEANS[text.lower()],
    "integer": int,
    "number": float,
}

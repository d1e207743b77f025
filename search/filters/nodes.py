"""The nodes of a parsed filter: conditions on fields, negation, and joins by and/or."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twinlens.search.records import Scalar

#: Milvus stores 64-bit integers, and a server cannot parse the smallest one.
MAX_INTEGER = 2**63 - 1

Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
Matching = Literal["startswith", "endswith", "contains", "has"]


@dataclass(frozen=True, slots=True)
class Compare:
    """``field == value``, or another comparison."""

    field: str
    op: Comparison
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """``field in (values)``."""

    field: str
    values: tuple[Scalar, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """``field startswith text``, or another match.

    "has" is true of a list that has the text as an element; so is "contains" of a list field.
    """

    field: str
    how: Matching
    value: str


@dataclass(frozen=True, slots=True)
class HasField:
    """``field is known``, or ``is unknown``: whether the row has the field."""

    field: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Negation:
    """``not node``."""

    node: Node


@dataclass(frozen=True, slots=True)
class Join:
    """Two or more nodes joined by "and" or by "or"."""

    word: Literal["and", "or"]
    nodes: tuple[Node, ...]


Node = Compare | In | Match | HasField | Negation | Join


def literal(value: Scalar) -> str:
    """Write a value as a literal of the filter language, for programs that generate filters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return repr(value)

"""A filter as a tree: what is said of a field, and how that is joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twinlens.search.records import Scalar

#: Milvus keeps 64-bit integers, and a server cannot read the smallest of them.
MAX_INTEGER = 2**63 - 1

Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
Matching = Literal["startswith", "endswith", "contains"]


@dataclass(frozen=True, slots=True)
class Compare:
    """``field == value`` and the like."""

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
    """``field startswith text`` and the like; for a list, whether it contains the text."""

    field: str
    how: Matching
    value: str


@dataclass(frozen=True, slots=True)
class Known:
    """``field is known``: whether the row has the field at all."""

    field: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Not:
    """``not node``."""

    node: Node


@dataclass(frozen=True, slots=True)
class Join:
    """Nodes joined by "and" or by "or"."""

    word: Literal["and", "or"]
    nodes: tuple[Node, ...]


Node = Compare | In | Match | Known | Not | Join


def literal(value: Scalar) -> str:
    """A value as it must stand in a filter, for programs that put filters together."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return repr(value)

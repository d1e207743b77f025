"""Tell which parts of a filter choose values of a field, as facets write them."""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from twinlens.search.filters import Compare, In, Join, Match, Node, parse_clauses
from twinlens.search.metadata import LIST_SEPARATOR
from twinlens.search.records import FieldType, Scalar

#: The facet of the first folder below the ingested one, which is part of the path.
FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Choice:
    """The parts of a filter that choose values of one field.

    Attributes:
        clauses: the parts as they were written.
        nodes: the same, parsed.
    """

    clauses: tuple[str, ...]
    nodes: tuple[Node, ...]

    def selects(self, stored: object) -> bool:
        """Whether an image with this value of the field satisfies all parts."""
        return all(_holds(node, stored) for node in self.nodes)

    def names(self, value: Scalar) -> bool:
        """Whether one of the parts chooses this value; of lists, one element."""
        return any(_holds(node, value) for node in self.nodes)

    @property
    def of_elements(self) -> bool:
        """Whether elements of lists are chosen."""
        return any(map(_has_element, self.nodes))

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The values that are named, whether or not any image has them."""
        found = (value for node in self.nodes for value in _values(node))
        return tuple(dict.fromkeys(found))


def split_choices(
    where: str, fields: Mapping[str, FieldType], facets: Names[str]
) -> tuple[Node | None, dict[str, Choice]]:
    """Split a filter into what chooses values of facets, by field, and the rest.

    ``field == value``, ``in``, a match of a text, and such conditions on one field joined by "or"
    choose values. A range or a negation does not.

    Args:
        where: the filter.
        fields: the fields and their types.
        facets: the fields whose values may be chosen.

    Returns:
        The rest, None if there is none, and the choices.

    Raises:
        FilterError: the filter is not valid.
    """
    rest: list[Node] = []
    chosen: dict[str, list[tuple[str, Node]]] = {}
    for text, node in parse_clauses(where, fields):
        name = _chosen_field(node, fields)
        if name in facets:
            chosen.setdefault(name, []).append((text, node))
        else:
            rest.append(node)
    left = Join("and", tuple(rest)) if len(rest) > 1 else rest[0] if rest else None
    choices = {
        name: Choice(tuple(text for text, _ in parts), tuple(node for _, node in parts))
        for name, parts in chosen.items()
    }
    return left, choices


def _chosen_field(node: Node, fields: Mapping[str, FieldType]) -> str:
    """The one facet whose values a node chooses; "" if it does something else."""
    if isinstance(node, Join):
        names = {_chosen_field(part, fields) for part in node.nodes}
        return names.pop() if len(names) == 1 else ""
    if isinstance(node, Match) and fields[node.field] == "path":
        first, slash, below = node.value.partition("/")
        chosen = node.how == "startswith" and first and slash and not below
        return FOLDER if chosen and node.field == "path" else ""
    if isinstance(node, Match):
        return node.field
    if isinstance(node, Compare):
        return node.field if node.op == "==" else ""
    return node.field if isinstance(node, In) and not node.negated else ""


def _holds(node: Node, stored: Any) -> bool:
    """Whether a stored value satisfies a node of ``_chosen_field``."""
    if isinstance(node, Join):
        return (all if node.word == "and" else any)(_holds(part, stored) for part in node.nodes)
    if isinstance(node, In):
        return any(_equal(value, stored) for value in node.values)
    if isinstance(node, Compare):
        return _equal(node.value, stored)
    if not isinstance(node, Match) or not isinstance(stored, str):
        return False
    text, value = stored, node.value
    if node.field == "path":
        text, value = normalize("NFC", text), normalize("NFC", value)
    if node.how == "has":
        ends = LIST_SEPARATOR
        return f"{ends}{value}{ends}" in f"{ends}{text}{ends}"
    if node.how == "contains":
        return value in text
    return text.startswith(value) if node.how == "startswith" else text.endswith(value)


def _has_element(node: Node) -> bool:
    if isinstance(node, Join):
        return any(map(_has_element, node.nodes))
    return isinstance(node, Match) and node.how == "has"


def _equal(wanted: Scalar, stored: object) -> bool:
    return isinstance(wanted, str) == isinstance(stored, str) and wanted == stored


def _values(node: Node) -> tuple[Scalar, ...]:
    if isinstance(node, Join):
        return tuple(value for part in node.nodes for value in _values(part))
    if isinstance(node, In):
        return node.values
    if isinstance(node, Compare) or (isinstance(node, Match) and node.how == "has"):
        return (node.value,)
    if isinstance(node, Match) and node.field == "path":
        return (node.value.removesuffix("/"),)
    return ()

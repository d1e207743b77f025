"""Compile a filter that people type to a safe Milvus expression.

    year >= 2020 and camera in ("X100", "R5") and path startswith "trips/"

``docs/reference/filters.md`` explains the language. No typed text reaches Milvus as it is: a filter
is parsed, its fields and types are checked, and an expression is generated from the result.
"""

from __future__ import annotations

from collections.abc import Mapping

from twinlens.search.filters.compiler import MilvusCompiler
from twinlens.search.filters.nodes import (
    Compare,
    HasField,
    In,
    Join,
    Match,
    Negation,
    Node,
    literal,
)
from twinlens.search.filters.parser import (
    KEYWORDS,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_LIST,
    MAX_TERMS,
    Parser,
    field_reference,
)
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.records import HELD, POLICY, FieldType

__all__ = ["KEYWORDS", "MAX_DEPTH", "MAX_LENGTH", "MAX_LIST", "MAX_TERMS", "Compare", "HasField",
           "In", "Join", "Match", "Negation", "Node", "can_hold", "compile_filter", "compile_node",
           "compile_visible", "field_reference", "literal", "parse_clauses",
           "parse_filter"]  # fmt: skip


def compile_filter(
    text: str, fields: Mapping[str, FieldType], can: Capabilities | None = None
) -> str:
    """Compile a filter to a Milvus expression; "" for an empty filter.

    Args:
        text: the filter.
        fields: the fields and their types, as ``Collection.fields`` returns them.
        can: what the backend supports; None for a current server.

    Raises:
        FilterError: the filter is not valid, names an unknown field, or compares a field with a
            value of another type.
        UnsupportedError: the backend cannot evaluate the filter.
    """
    return compile_node(_parsed(text, fields), fields, can)


def compile_visible(
    text: str, fields: Mapping[str, FieldType], can: Capabilities | None = None
) -> str:
    """Compile a filter that also excludes what a moderation policy holds back.

    Args and Raises: see ``compile_filter``.
    """
    return compile_node(_parsed(text, fields), fields, can, visible=True)


def compile_node(
    node: Node | None,
    fields: Mapping[str, FieldType],
    can: Capabilities | None = None,
    *,
    visible: bool = False,
) -> str:
    """Compile a parsed filter, None for everything, to a Milvus expression.

    Args:
        node: the filter.
        fields, can: see ``compile_filter``.
        visible: exclude what a moderation policy holds back.

    Raises:
        UnsupportedError: the backend cannot evaluate the filter.
    """
    if visible and can_hold(fields):
        shown = Negation(Compare(HELD, "==", True))
        node = shown if node is None else Join("and", (node, shown))
    return "" if node is None else MilvusCompiler(fields, can).compile(node)


def can_hold(fields: Mapping[str, FieldType]) -> bool:
    """Whether a policy was applied to a collection with these fields: rows may be held back."""
    return HELD in fields and POLICY in fields


def parse_filter(text: str, fields: Mapping[str, FieldType]) -> Node:
    """Parse a filter into a tree of nodes, and check its fields and types.

    Raises:
        FilterError: see ``compile_filter``.
    """
    return Parser(text, fields).parse()


def parse_clauses(text: str, fields: Mapping[str, FieldType]) -> list[tuple[str, Node]]:
    """Parse a filter into the parts that "and" joins at its top level, each with its text.

    A filter whose parts "or" joins is one part; an empty filter has none.

    Raises:
        FilterError: see ``compile_filter``.
    """
    return Parser(text, fields).parse_clauses() if text.strip() else []


def _parsed(text: str, fields: Mapping[str, FieldType]) -> Node | None:
    return parse_filter(text, fields) if text.strip() else None

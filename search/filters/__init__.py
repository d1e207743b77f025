"""A filter people can type → a safe Milvus expression.

    year >= 2020 and camera in ("X100", "R5") and path startswith "trips/"

``docs/reference/filters.md`` explains the language. Nothing that was typed reaches Milvus as it was typed: a
filter is parsed, its fields and types are checked, and an expression is written anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from twinlens.search.filters.compiler import Writer
from twinlens.search.filters.nodes import Compare, In, Join, Known, Match, Node, Not, literal
from twinlens.search.filters.parser import MAX_DEPTH, MAX_LENGTH, MAX_LIST, MAX_TERMS, Parser
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.records import FieldType

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "MAX_LIST", "MAX_TERMS", "Compare", "In", "Join", "Known",
           "Match", "Node", "Not", "compile_filter", "literal", "parse_filter"]  # fmt: skip


def compile_filter(
    text: str, fields: Mapping[str, FieldType], can: Capabilities | None = None
) -> str:
    """A filter as a Milvus expression; "" for an empty filter.

    Args:
        text: the filter.
        fields: the fields there are, as ``Collection.fields`` has them.
        can: what the backend can do; None for a current server.

    Raises:
        FilterError: the filter cannot be understood, names a field that is not there, or compares
            a field with a value of another type.
        UnsupportedError: the backend cannot search within texts.
    """
    if not text.strip():
        return ""
    return Writer(fields, can).write(parse_filter(text, fields))


def parse_filter(text: str, fields: Mapping[str, FieldType]) -> Node:
    """A filter as a tree, with its fields and types checked.

    Raises:
        FilterError: see ``compile_filter``.
    """
    return Parser(text, fields).parse()

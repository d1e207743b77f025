"""A tree → an expression that means the same on every Milvus."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from twinlens.search.errors import UnsupportedError
from twinlens.search.filters.nodes import (
    MAX_INTEGER,
    Compare,
    Comparison,
    In,
    Join,
    Known,
    Match,
    Node,
    Not,
    literal,
)
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.expressions import NO_ESCAPES, NOT_ROW_WISE, begins, escape_like, quote
from twinlens.search.records import FIXED_FIELDS, FieldType, Scalar

#: What the expression language of Milvus Lite has as words of its own.
_WORDS_OF_LITE = {"and", "or", "not", "in", "like", "is", "null", "exists", "true", "false",
                    "iso", "interval"}  # fmt: skip
_OPERATORS: Mapping[Comparison, Callable[[float, float], bool]] = {
    "==": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_ALWAYS, _NEVER = 'id != ""', 'id == ""'


class Writer:
    """Writes a tree as a Milvus expression that means the same on every backend.

    A row without the field satisfies no comparison with it. Milvus Lite has three-valued logic
    ("not unknown" is unknown) and servers before 2.6 have two ("!=" holds where there is nothing),
    so that "exists" is asked where they would differ.
    """

    def __init__(self, fields: Mapping[str, FieldType], can: Capabilities | None) -> None:
        self._fields = fields
        self._can = can
        self._lite = can is not None and can.lite
        # Fields with an escaped "like", and what makes Milvus Lite look at rows one by one.
        self._escaped: set[str] = set()
        self._row_wise: set[str] = set()

    def write(self, node: Node) -> str:
        expression = self._node(node, within_not=False)
        if self._lite and any(self._row_wise - {field} for field in self._escaped):
            raise UnsupportedError(NO_ESCAPES)
        return expression

    def _node(self, node: Node, *, within_not: bool) -> str:
        if isinstance(node, Join):
            parts = [self._node(part, within_not=within_not) for part in node.nodes]
            return f" {node.word} ".join(f"({part})" for part in parts)
        if isinstance(node, Not):
            return f"not ({self._node(node.node, within_not=True)})"
        if isinstance(node, Known):
            known = self._known(node.field)
            return known if node.known else f"not ({known})"
        positive, negated = self._positive(node)
        guarded = node.field not in FIXED_FIELDS and (within_not or negated)
        if negated:
            positive = f"not ({positive})"
        return f"({self._known(node.field)}) and ({positive})" if guarded else positive

    def _positive(self, node: Compare | In | Match) -> tuple[str, bool]:
        """A comparison without its negation, and whether there was one."""
        if isinstance(node, Match):
            return self._match(node), False
        if isinstance(node, In):
            return self._in(node.field, node.values), node.negated
        if node.op == "!=":
            return self._compare(node.field, "==", node.value), True
        return self._compare(node.field, node.op, node.value), False

    def _known(self, field: str) -> str:
        if field not in FIXED_FIELDS:
            self._note_mixed(field)
            return f"exists {_ref(field)}"
        if self._fields[field] == "list":
            self._row_wise.add("a list")
            return f"not (array_length({field}) == 0)"
        # A column always has a value; 0 and "" are stored where nobody knows.
        return f'{field} != ""' if self._fields[field] in ("text", "path") else f"{field} != 0"

    def _compare(self, field: str, op: Comparison, value: Scalar) -> str:
        kind = self._fields[field]
        if kind == "path" and isinstance(value, str):
            return f"{_path(value)} {op} {quote(value)}"
        if kind == "date" and isinstance(value, str):
            return _compare_date(_ref(field), op, value)
        if kind == "integer" and field in FIXED_FIELDS and isinstance(value, float):
            return _compare_whole(field, op, value)
        if kind == "number" and field in FIXED_FIELDS and isinstance(value, int):
            return _compare_fraction(field, op, value)
        written = f"{_ref(field)} {op} {_literal(value)}"
        if kind != "mixed":
            return written
        self._note_mixed(field)
        if isinstance(value, str):
            return written if op == "==" else self._of_one_kind(field, written, text=True)
        # Milvus Lite takes true for 1 and false for 0; so does everybody then.
        also = [f"{_ref(field)} {op} {int(value)}"] if isinstance(value, bool) else []
        also += [
            f"{_ref(field)} == {word}"
            for word, number in (("true", 1), ("false", 0))
            if not isinstance(value, bool) and _OPERATORS[op](number, value)
        ]
        written = " or ".join([written, *also])
        return written if op == "==" else self._of_one_kind(field, written, text=False)

    def _note_mixed(self, field: str) -> None:
        """A field of several types is no column to Milvus Lite, whatever is said of it."""
        if self._fields[field] == "mixed":
            self._row_wise.add(field + " has several types")

    def _of_one_kind(self, field: str, expression: str, *, text: bool) -> str:
        """Whether a text is less than a number Milvus Lite does not know; here it is not."""
        if not self._lite:
            return expression
        is_text = f'{_ref(field)} like "%"'
        return f"({is_text if text else f'not ({is_text})'}) and ({expression})"

    def _in(self, field: str, values: Sequence[Scalar]) -> str:
        kind = self._fields[field]
        if kind in ("date", "mixed") or (self._lite and not can_be_bare(field)):
            return " or ".join(f"({self._compare(field, '==', value)})" for value in values)
        groups: dict[tuple[str, type], list[str]] = {}
        for value in values:
            if kind == "integer" and field in FIXED_FIELDS and isinstance(value, float):
                continue  # A fraction, which no whole number is.
            bare = field if self._lite else _ref(field)
            where = _path(value) if kind == "path" and isinstance(value, str) else bare
            if kind == "number" and field in FIXED_FIELDS and isinstance(value, int):
                if float(value) != value:
                    continue  # A whole number that no number of 64 bits is.
                value = float(value)
            groups.setdefault((where, type(value)), []).append(_literal(value))
        if field not in FIXED_FIELDS and kind == "text":
            self._row_wise.add("a list of values")
        lists = [f"{where} in [{', '.join(items)}]" for (where, _), items in groups.items()]
        return " or ".join(lists) or _NEVER

    def _match(self, node: Match) -> str:
        kind = self._fields[node.field]
        if kind == "list":
            self._row_wise.add("a list")
            return f"array_contains({node.field}, {quote(node.value)})"
        self._note_mixed(node.field)
        ref = _path(node.value) if kind == "path" else _ref(node.field)
        if node.how == "startswith":
            begun = begins(ref, node.value)
            return self._of_one_kind(node.field, begun, text=True) if kind == "mixed" else begun
        if self._can is not None and not self._can.infix:
            raise UnsupportedError(
                f"{self._can.label} cannot look for a text within another ({node.field} "
                f"{node.how} …): use startswith, or a Milvus server 2.4 or later"
            )
        if node.field not in FIXED_FIELDS:
            self._row_wise.add(node.field)
        after = "%" if node.how == "contains" else ""
        # Milvus Lite asks Arrow, which takes backslashes as they are where a pattern is simple.
        special = set(node.value) & {"%", "_"} or (
            node.how == "contains" and node.value.endswith("\\")
        )
        if self._lite and not special:
            return f"{ref} like {quote('%' + node.value + after)}"
        escaped = f"{ref} like {quote('%' + escape_like(node.value) + after)}"
        if not self._lite:
            return escaped
        # Going through rows one by one, it takes "\\_" for a backslash and any character. What the
        # types tell is refused when all is written; what only values tell stops at such a row.
        self._escaped.add(node.field)
        stop = f"({NOT_ROW_WISE}) and ({escaped})"
        return stop if node.field in FIXED_FIELDS else f"({self._known(node.field)}) and {stop}"


def _ref(field: str) -> str:
    """A field as Milvus knows it."""
    return field if field in FIXED_FIELDS else f"$meta[{quote(field)}]"


def can_be_bare(field: str) -> bool:
    """Whether Milvus Lite takes the name before "in", where it takes no ``$meta["name"]``."""
    safe = field.replace("_", "a").isalnum() and field.isascii() and field[0].isalpha()
    return field in FIXED_FIELDS or (safe and field.lower() not in _WORDS_OF_LITE)


def _path(value: str) -> str:
    """The column that holds paths of this kind."""
    absolute = re.match(r"/|[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*://", value)
    return "path" if absolute else "relative_path"


def _compare_date(ref: str, op: Comparison, value: str) -> str:
    """A date that stands for all that it begins: "2020-05" is all of May."""
    if op == "==":
        return begins(ref, value)
    after = value[:-1] + chr(ord(value[-1]) + 1)
    bound = after if op in ("<=", ">") else value
    return f"{ref} {'<' if op in ('<', '<=') else '>='} {quote(bound)}"


def _compare_whole(field: str, op: Comparison, value: float) -> str:
    """A whole number compared with a fraction, which a server refuses."""
    if op == "==":
        return _NEVER
    bound = math.floor(value) if op in ("<", "<=") else math.ceil(value)
    if abs(bound) > MAX_INTEGER:
        return _ALWAYS if (bound > 0) == (op in ("<", "<=")) else _NEVER
    return f"{field} {'<=' if op in ('<', '<=') else '>='} {bound}"


def _compare_fraction(field: str, op: Comparison, value: int) -> str:
    """A column of 64-bit fractions compared with a whole number, which may lie between two."""
    near = float(value)
    if op == "==":
        return f"{field} == {_literal(near)}" if near == value else _NEVER
    if near > value:
        op = "<" if op in ("<", "<=") else ">="
    elif near < value:
        op = "<=" if op in ("<", "<=") else ">"
    return f"{field} {op} {_literal(near)}"


def _literal(value: Scalar) -> str:
    return quote(value) if isinstance(value, str) else literal(value)

"""Compile a parsed filter to an expression that means the same on every version of Milvus."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from twinlens.search.errors import UnsupportedError
from twinlens.search.filters.nodes import (
    MAX_INTEGER,
    Compare,
    Comparison,
    HasField,
    In,
    Join,
    Match,
    Negation,
    Node,
    literal,
)
from twinlens.search.metadata import LIST_SEPARATOR
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.expressions import NO_ESCAPES, NOT_ROW_WISE, begins, escape_like, quote
from twinlens.search.paths import name_forms
from twinlens.search.records import FIXED_FIELDS, FieldType, Scalar

#: Reserved words of Milvus Lite's expression language.
_WORDS_OF_LITE = {"and", "or", "not", "in", "like", "is", "null", "exists", "true", "false",
                    "iso", "interval"}  # fmt: skip
_OPERATORS: Mapping[Comparison, Callable[[float, float], bool]] = {
    "==": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
#: How many expressions are joined one after the other.
MOST_FLAT = 8
_ALWAYS, _NEVER = 'id != ""', 'id == ""'


class MilvusCompiler:
    """Compiles a tree of nodes to a Milvus expression.

    A row without a field satisfies no comparison with it. Milvus Lite has three-valued logic ("not
    unknown" is unknown), and servers before 2.6 have two-valued logic ("!=" is true of a missing
    field), so "exists" is added where they would differ.

    Args:
        fields: the fields and their types.
        can: what the backend supports; None for a current server.
    """

    def __init__(self, fields: Mapping[str, FieldType], can: Capabilities | None) -> None:
        self._fields = fields
        self._can = can
        self._lite = can is not None and can.lite
        # Fields with an escaped "like", and reasons why Milvus Lite evaluates row by row.
        self._escaped: set[str] = set()
        self._row_wise: set[str] = set()

    def compile(self, node: Node) -> str:
        """The expression of a tree.

        Raises:
            UnsupportedError: the backend cannot evaluate it.
        """
        expression = self._node(self._in_any_form(node), within_not=False)
        if self._lite and any(self._row_wise - {field} for field in self._escaped):
            raise UnsupportedError(NO_ESCAPES)
        return expression

    def _in_any_form(self, node: Node) -> Node:
        """A tree whose paths match in any Unicode form: Macs write NFD, other systems NFC."""
        if isinstance(node, Join):
            return Join(node.word, tuple(map(self._in_any_form, node.nodes)))
        if isinstance(node, Negation):
            return Negation(self._in_any_form(node.node))
        if isinstance(node, HasField):
            return node
        if self._fields[node.field] != "path" and node.field != "paths":
            return node
        if isinstance(node, In):
            return In(node.field, _all_forms(node.values), node.negated)
        forms = _all_forms([node.value])
        if len(forms) == 1:
            return node
        if isinstance(node, Match):
            each = (Match(node.field, node.how, form) for form in forms if isinstance(form, str))
            return Join("or", tuple(each))
        equal = node.op in ("==", "!=")
        return In(node.field, forms, node.op == "!=") if equal else node

    def _node(self, node: Node, *, within_not: bool) -> str:
        if isinstance(node, Join):
            parts = [self._node(part, within_not=within_not) for part in node.nodes]
            return self._joined(node.word, parts)
        if isinstance(node, Negation):
            return f"not ({self._node(node.node, within_not=True)})"
        if isinstance(node, Match) and node.how == "has" and self._fields[node.field] != "list":
            self._check_infix(node)
            return self._node(_has(node.field, node.value), within_not=within_not)
        if isinstance(node, HasField):
            exists = self._exists(node.field)
            return exists if node.known else f"not ({exists})"
        positive, negated = self._positive(node)
        guarded = node.field not in FIXED_FIELDS and (within_not or negated)
        if negated:
            positive = f"not ({positive})"
        return f"({self._exists(node.field)}) and ({positive})" if guarded else positive

    def _joined(self, word: str, parts: Sequence[str]) -> str:
        """Expressions joined by "and" or "or", on a server as a tree that is not deep.

        A server parses ``a or b or c`` as ``(a or b) or c``, and its searches fail with an empty
        message for fifty such levels, since protobuf allows a hundred messages within each other.
        """
        if self._lite or len(parts) <= MOST_FLAT:
            return f" {word} ".join(f"({part})" for part in parts)
        half = (len(parts) + 1) // 2
        left, right = self._joined(word, parts[:half]), self._joined(word, parts[half:])
        return f"({left}) {word} ({right})"

    def _positive(self, node: Compare | In | Match) -> tuple[str, bool]:
        """A condition without its negation, and whether it is negated."""
        if isinstance(node, Match):
            return self._match(node), False
        if isinstance(node, In):
            return self._in(node.field, node.values), node.negated
        if node.op == "!=":
            return self._compare(node.field, "==", node.value), True
        return self._compare(node.field, node.op, node.value), False

    def _exists(self, field: str) -> str:
        if field not in FIXED_FIELDS:
            self._note_mixed(field)
            return f"exists {_ref(field)}"
        if self._fields[field] == "list":
            self._row_wise.add("a list")
            return f"not (array_length({field}) == 0)"
        # A column always has a value; 0 and "" stand for unknown.
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
        # Milvus Lite treats true as 1 and false as 0, so all backends do.
        also = [f"{_ref(field)} {op} {int(value)}"] if isinstance(value, bool) else []
        also += [
            f"{_ref(field)} == {word}"
            for word, number in (("true", 1), ("false", 0))
            if not isinstance(value, bool) and _OPERATORS[op](number, value)
        ]
        written = " or ".join([written, *also])
        return written if op == "==" else self._of_one_kind(field, written, text=False)

    def _note_mixed(self, field: str) -> None:
        """Note that Milvus Lite evaluates any condition on a field of several types row by row."""
        if self._fields[field] == "mixed":
            self._row_wise.add(f"{field} has several types")

    def _of_one_kind(self, field: str, expression: str, *, text: bool) -> str:
        """Exclude values of the other kind: Milvus Lite cannot compare text with numbers."""
        if not self._lite:
            return expression
        is_text = f'{_ref(field)} like "%"'
        return f"({is_text if text else f'not ({is_text})'}) and ({expression})"

    def _in(self, field: str, values: Sequence[Scalar]) -> str:
        kind = self._fields[field]
        if kind in ("date", "mixed") or (self._lite and not can_be_bare(field)):
            return self._joined("or", [self._compare(field, "==", value) for value in values])
        groups: dict[tuple[str, type], list[str]] = {}
        for value in values:
            if kind == "integer" and field in FIXED_FIELDS and isinstance(value, float):
                continue  # a fraction, which no integer equals
            bare = field if self._lite else _ref(field)
            where = _path(value) if kind == "path" and isinstance(value, str) else bare
            if kind == "number" and field in FIXED_FIELDS and isinstance(value, int):
                if float(value) != value:
                    continue  # an integer that no 64-bit float equals
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
        self._check_infix(node)
        if node.field not in FIXED_FIELDS:
            self._row_wise.add(node.field)
        after = "%" if node.how == "contains" else ""
        # Milvus Lite uses Arrow, which reads backslashes in simple patterns literally.
        special = set(node.value) & {"%", "_"} or (
            node.how == "contains" and node.value.endswith("\\")
        )
        if self._lite and not special:
            return f"{ref} like {quote('%' + node.value + after)}"
        escaped = f"{ref} like {quote('%' + escape_like(node.value) + after)}"
        if not self._lite:
            return escaped
        # Row by row it reads "\\_" as a backslash and any character. If the types show that it will
        # go row by row, ``compile`` raises; otherwise the expression fails at such a row.
        self._escaped.add(node.field)
        stop = f"({NOT_ROW_WISE}) and ({escaped})"
        return stop if node.field in FIXED_FIELDS else f"({self._exists(node.field)}) and {stop}"

    def _check_infix(self, node: Match) -> None:
        if self._can is not None and not self._can.infix:
            raise UnsupportedError(
                f"{self._can.label} cannot search within a text ({node.field} {node.how} …): use "
                "startswith, or a Milvus server 2.4 or later"
            )


def _has(field: str, value: str) -> Node:
    """Whether a text that is a list has an element: as its only one, first, last or between."""
    first, last = f"{value}{LIST_SEPARATOR}", f"{LIST_SEPARATOR}{value}"
    return Join(
        "or",
        (
            Compare(field, "==", value),
            Match(field, "startswith", first),
            Match(field, "endswith", last),
            Match(field, "contains", last + LIST_SEPARATOR),
        ),
    )


def _ref(field: str) -> str:
    """A field in a Milvus expression."""
    return field if field in FIXED_FIELDS else f"$meta[{quote(field)}]"


def can_be_bare(field: str) -> bool:
    """Whether Milvus Lite accepts the bare name before "in", where it rejects ``$meta["name"]``."""
    safe = field.replace("_", "a").isalnum() and field.isascii() and field[0].isalpha()
    return field in FIXED_FIELDS or (safe and field.lower() not in _WORDS_OF_LITE)


def _all_forms(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    forms = (name_forms(value) if isinstance(value, str) else (value,) for value in values)
    return tuple(dict.fromkeys(form for some in forms for form in some))


def _path(value: str) -> str:
    """The column to compare a path with: absolute or relative."""
    absolute = re.match(r"/|[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*://", value)
    return "path" if absolute else "relative_path"


def _compare_date(ref: str, op: Comparison, value: str) -> str:
    """Compare with a date that stands for a period: "2020-05" is all of May."""
    if op == "==":
        return begins(ref, value)
    after = value[:-1] + chr(ord(value[-1]) + 1)
    bound = after if op in ("<=", ">") else value
    return f"{ref} {'<' if op in ('<', '<=') else '>='} {quote(bound)}"


def _compare_whole(field: str, op: Comparison, value: float) -> str:
    """Compare an integer column with a fraction, which a server rejects."""
    if op == "==":
        return _NEVER
    bound = math.floor(value) if op in ("<", "<=") else math.ceil(value)
    if abs(bound) > MAX_INTEGER:
        return _ALWAYS if (bound > 0) == (op in ("<", "<=")) else _NEVER
    return f"{field} {'<=' if op in ('<', '<=') else '>='} {bound}"


def _compare_fraction(field: str, op: Comparison, value: int) -> str:
    """Compare a float column with an integer, which may lie between two 64-bit floats."""
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

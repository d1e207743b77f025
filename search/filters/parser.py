"""Parse a filter into a tree of nodes, and check its fields and types."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from twinlens.search.errors import FilterError
from twinlens.search.filters.compiler import can_be_bare
from twinlens.search.filters.nodes import (
    MAX_INTEGER,
    Compare,
    Comparison,
    HasField,
    In,
    Join,
    Match,
    Matching,
    Negation,
    Node,
)
from twinlens.search.records import FieldType, Scalar

#: The most characters of a filter.
MAX_LENGTH = 50_000
#: The most nested parentheses and "not"; Milvus Lite parses by recursion.
MAX_DEPTH = 16
#: The most comparisons; each takes a server some milliseconds.
MAX_TERMS = 200
#: The most values after "in".
MAX_LIST = 1_000
#: The most fields that an error message lists.
MAX_LISTED = 50

_TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
      | (?P<text>"(?:[^"]|"")*+"|'(?:[^']|'')*+')
      | (?P<field>`[^`]+`)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign>==|!=|<=|>=|<>|&&|\|\||[=<>!()\[\],])""",
    re.VERBOSE,
)
_BLANK = re.compile(r"\s*")
_COMPARISONS: Mapping[str, Comparison] = {
    "=": "==", "==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip
_MATCHINGS: Mapping[str, Matching] = {how: how for how in get_args(Matching)}
_REPLACEMENTS = {"&&": "and", "||": "or", "!": "not", "<>": "!=", "like": "startswith or contains",
            "matches": "contains", "null": "known or unknown"}  # fmt: skip
#: The words that mean something themselves, in lower case: a field of such a name is in backquotes.
KEYWORDS = frozenset({"and", "or", "not", "in", "between", "is", "known", "unknown", "true",
                      "false", *_MATCHINGS})  # fmt: skip
_DATE = re.compile(
    r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2}(?:[T ][0-9]{2}(?::[0-9]{2}(?::[0-9]{2})?)?)?)?)?"
)
_EXAMPLES: Mapping[FieldType, tuple[str, str]] = {
    "text": ("text", '{} == "x"'),
    "path": ("a path", '{} startswith "trips/"'),
    "date": ("a date", '{} >= "2020-05"'),
    "integer": ("a number", "{} >= 2020"),
    "number": ("a number", "{} >= 0.5"),
    "boolean": ("true or false", "{} == true"),
    "list": ("a list", '{} has "x"'),
    "mixed": ("text in some rows and a number in others", "{} == 1"),
}


def field_reference(name: str) -> str:
    """Write the name of a field as the filter language reads it, for programs; see ``literal``."""
    plain = name.isascii() and name.isidentifier() and name.lower() not in KEYWORDS
    return name if plain else f"`{name}`"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int

    @property
    def end(self) -> int:
        """Where the text goes on after it, from 0."""
        return self.column - 1 + len(self.text)

    @property
    def word(self) -> str:
        """The keyword in lower case; "" if it is not one."""
        lower = self.text.lower() if self.kind == "word" else ""
        return lower if lower in KEYWORDS else ""


class Parser:
    """A recursive descent parser with one method for each rule of the grammar.

    Args:
        text: the filter.
        fields: the fields and their types.

    Raises:
        FilterError: the filter is too long, or contains something that is not a token.
    """

    def __init__(self, text: str, fields: Mapping[str, FieldType]) -> None:
        if len(text) > MAX_LENGTH:
            raise FilterError(
                f"the filter has {len(text):,} characters: at most {MAX_LENGTH:,} are allowed"
            )
        self._text = text
        self._fields = fields
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._terms = 0

    def parse(self) -> Node:
        """The root node.

        Raises:
            FilterError: the filter is not valid.
        """
        node = self._expression()
        if meant := _REPLACEMENTS.get(self._next.text):
            raise self._wrong(f"write {meant} instead")
        if self._next.kind != "end":
            raise self._wrong('expected "and", "or" or the end here')
        return node

    def parse_clauses(self) -> list[tuple[str, Node]]:
        """The parts that "and" joins, with their texts; all is one part if "or" joins parts.

        Raises:
            FilterError: the filter is not valid.
        """
        clauses: list[tuple[str, Node]] = []
        while not clauses or self._next.word == "and":
            if clauses:
                self._take()
            start = self._next.column - 1
            node = self._negation()
            clauses.append((self._text[start : self._tokens[self._at - 1].end], node))
        if self._next.kind == "end":
            return clauses
        return [(self._text.strip(), Parser(self._text, self._fields).parse())]

    def _expression(self) -> Node:
        return self._join("or", lambda: self._join("and", self._negation))

    def _join(self, word: Literal["and", "or"], part: Callable[[], Node]) -> Node:
        nodes = [part()]
        while self._next.word == word:
            self._take()
            nodes.append(part())
        return nodes[0] if len(nodes) == 1 else Join(word, tuple(nodes))

    def _negation(self) -> Node:
        if self._next.word != "not" and self._next.text != "(":
            return self._term()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f'parentheses and "not" go deeper than {MAX_DEPTH} levels')
        opened = self._take()
        if opened.word == "not":
            node: Node = Negation(self._negation())
        else:
            node = self._expression()
            self._expect(")", f'the parenthesis of column {opened.column} is not closed: write ")"')
        self._depth -= 1
        return node

    def _term(self) -> Node:
        """A field and a condition on it."""
        name = self._field()
        self._count(1)
        sign = self._take()
        if sign.kind == "sign" and sign.text in _COMPARISONS:
            return self._compare(name, _COMPARISONS[sign.text], sign)
        if sign.word in _MATCHINGS:
            return self._match(name, _MATCHINGS[sign.word], sign)
        if sign.word == "between":
            low = self._compare(name, ">=", sign)
            if self._next.word != "and":
                raise self._wrong(f'"between" needs two values: write {name} between 1 and 2')
            self._take()
            return Join("and", (low, self._compare(name, "<=", sign)))
        if sign.word == "not" and self._next.word == "in":
            self._take()
            return self._in(name, negated=True)
        if sign.word == "in":
            return self._in(name, negated=False)
        if sign.word == "is" and self._next.word in ("known", "unknown"):
            return HasField(name, self._take().word == "known")
        if sign.word == "is":
            raise self._wrong(f"write {name} is known, or {name} is unknown")
        if meant := _REPLACEMENTS.get(sign.text.lower()):
            raise self._wrong(f"write {meant} instead", sign)
        example = self._example(name)
        raise self._wrong(f"expected a comparison: write, for example, {example}", sign)

    def _field(self) -> str:
        token = self._take()
        if token.kind == "field":
            name = token.text[1:-1]
        elif token.kind == "word" and (not token.word or token.text in self._fields):
            name = token.text
        elif token.kind == "end":
            raise self._wrong("the filter ends where a field was expected", token)
        elif token.kind in ("text", "number"):
            raise self._wrong("expected a field here: write the field first, then the value", token)
        elif instead := _REPLACEMENTS.get(token.text):
            raise self._wrong(f"write {instead} instead", token)
        else:
            raise self._wrong("expected a field here", token)
        if name not in self._fields:
            raise self._wrong(_unknown(name, self._fields), token)
        return name

    def _compare(self, name: str, op: Comparison, sign: _Token) -> Compare:
        kind = self._fields[name]
        if kind == "list" or (kind == "boolean" and op not in ("==", "!=")):
            raise self._mistyped(name, sign)
        return Compare(name, op, self._value(name))

    def _match(self, name: str, how: Matching, sign: _Token) -> Match:
        kind = self._fields[name]
        if how == "has":
            fits = kind in ("text", "mixed", "list")
        else:
            fits = kind in ("text", "path", "date", "mixed") or (kind, how) == ("list", "contains")
        if not fits:
            raise self._mistyped(name, sign)
        if how == "has" and kind != "list":
            self._count(3)  # it becomes four comparisons
        token = self._next
        if token.kind != "text":
            raise self._wrong(f'write the text in quotes: {name} {how} "x"')
        return Match(name, how, _text(self._take()))

    def _in(self, name: str, *, negated: bool) -> In:
        if self._fields[name] == "list":
            raise self._mistyped(name, self._next)
        closing = {"(": ")", "[": "]"}.get(self._next.text)
        if closing is None:
            raise self._wrong(f"write the values in parentheses: {name} in (…, …)")
        opened = self._take()
        values: list[Scalar] = []
        while self._next.text != closing:
            values.append(self._value(name))
            if len(values) > MAX_LIST:
                raise self._wrong(f"more than {MAX_LIST:,} values", opened)
            if self._next.text == ",":
                self._take()
            elif self._next.text != closing:
                raise self._wrong('expected "," or the end of the list')
        if not values:
            raise self._wrong("the list is empty and matches nothing: put a value in it", opened)
        self._take()
        if self._fields[name] == "mixed" or not can_be_bare(name):
            self._count(len(values) - 1)
        return In(name, tuple(dict.fromkeys(values)), negated)

    def _value(self, name: str) -> Scalar:
        """A value of the field's type."""
        token, kind = self._next, self._fields[name]
        if token.kind == "text":
            text = _text(token)
            if kind in ("integer", "number", "boolean"):
                raise self._mistyped(name)
            self._take()
            return self._date(name, text, token) if kind == "date" else text
        if token.kind == "number":
            if kind not in ("integer", "number", "mixed"):
                raise self._mistyped(name)
            return _number(self._take())
        if token.word in ("true", "false"):
            if kind not in ("boolean", "mixed"):
                raise self._mistyped(name)
            return self._take().word == "true"
        if token.kind == "word" and kind in ("text", "path", "date", "mixed"):
            raise self._wrong(f'write the text in quotes: "{token.text}"')
        raise self._wrong(f"expected a value: write, for example, {self._example(name)}")

    def _date(self, name: str, text: str, token: _Token) -> str:
        if not _DATE.fullmatch(text):
            raise self._wrong(
                f'{name} is a date: write "2020", "2020-05", "2020-05-17T08:30"', token
            )
        try:
            datetime.fromisoformat(text + "0001-01-01T00:00:00"[len(text) :])
        except ValueError:
            raise self._wrong("this is not a valid date", token) from None
        return text.replace(" ", "T")

    def _mistyped(self, name: str, token: _Token | None = None) -> FilterError:
        what, _ = _EXAMPLES[self._fields[name]]
        wrong = (token or self._next).text
        return self._wrong(
            f"{name} is {what}: write {self._example(name)}, not {_cut(wrong)}", token
        )

    def _example(self, name: str) -> str:
        return _EXAMPLES[self._fields[name]][1].format(name)

    def _count(self, terms: int) -> None:
        self._terms += terms
        if self._terms > MAX_TERMS:
            raise self._wrong(f'more than {MAX_TERMS} comparisons: put values into one "in" list')

    def _expect(self, sign: str, problem: str) -> None:
        if self._next.text != sign:
            raise self._wrong(problem)
        self._take()

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _wrong(self, problem: str, token: _Token | None = None) -> FilterError:
        return _wrong(problem, token or self._next)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while True:
        blank = _BLANK.match(text, at)
        at = blank.end() if blank else at
        if at == len(text):
            return [*tokens, _Token("end", "", at + 1)]
        found = _TOKEN.match(text, at)
        if found is None:
            rest = _Token("", text[at:], at + 1)
            if text[at] in "\"'":
                raise _wrong(f"the text is not closed: write {text[at]} at its end", rest)
            raise _wrong("this is not part of a filter; write text in quotes", rest)
        token = _Token(found.lastgroup or "", found[0], at + 1)
        if any("\ud800" <= character <= "\udfff" for character in token.text):
            raise _wrong("this is not valid Unicode", token)
        tokens.append(token)
        at = found.end()


def _unknown(name: str, fields: Mapping[str, FieldType]) -> str:
    """The message for an unknown field: similar names, and the fields there are."""
    same = [field for field in fields if field.lower() == name.lower()]
    close = difflib.get_close_matches(name, fields, 3, 0.7)
    meant = " or ".join(dict.fromkeys([*same, *close]))
    known = sorted(fields)
    listed = ", ".join(known[:MAX_LISTED]) + (", …" if len(known) > MAX_LISTED else "")
    problem = f"there is no field {_cut(name)}"
    return f"{problem}: did you mean {meant}? The fields are: {listed}" if meant else (
        f"{problem}. The fields are: {listed}"
    )  # fmt: skip


def _text(token: _Token) -> str:
    mark = token.text[0]
    return token.text[1:-1].replace(2 * mark, mark)


def _number(token: _Token) -> int | float:
    """Parse a number; one without a fraction as an integer."""
    value = float(token.text)
    if not math.isfinite(value):
        raise _wrong("the number is too large", token)
    if re.fullmatch(r"[+-]?[0-9]+", token.text):
        whole = int(token.text)
        if abs(whole) > MAX_INTEGER:
            raise _wrong(f"the number is too large: at most {MAX_INTEGER}", token)
        return whole
    return int(value) if value.is_integer() and abs(value) <= 2**53 else value


def _wrong(problem: str, token: _Token) -> FilterError:
    where = f"at {_cut(token.text)}, column {token.column}" if token.text else "at its end"
    return FilterError(f"the filter is wrong {where}: {problem}")


def _cut(text: str) -> str:
    line = "".join(ch if ch.isprintable() else " " for ch in text)
    return line if len(line) <= 40 else line[:39] + "…"

"""Find the string literals of JavaScript modules; no whole parser, so only in plain code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SKIP = re.compile(r"//[^\n]*|/\*[\s\S]*?\*/")
_PLAIN = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_REGEX = re.compile(r"/(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
#: What stands before a regular expression; after anything else, a slash divides.
_BEFORE_REGEX = re.compile(r"(?:[(,=:\[!&|?{};>]|\breturn|^)\s*$")


@dataclass(frozen=True)
class Literal:
    """A string or template literal.

    Attributes:
        text: what is between its quotes; "{}" stands for each value that is put in.
        before: the code before it, up to 200 characters.
    """

    text: str
    before: str


def literals(source: str) -> Iterator[Literal]:
    """The literals of a module, those within templates too, in no order that matters."""
    at = 0
    while at < len(source):
        before = source[max(0, at - 200) : at]
        if skipped := _SKIP.match(source, at):
            at = skipped.end()
        elif plain := _PLAIN.match(source, at):
            yield Literal(plain[0][1:-1], before)
            at = plain.end()
        elif source[at] == "`":
            text, inner, at = _template(source, at + 1)
            yield Literal(text, before)
            for part in inner:
                yield from literals(part)
        elif source[at] == "/" and _BEFORE_REGEX.search(before):
            found = _REGEX.match(source, at)
            at = found.end() if found else at + 1
        else:
            at += 1


def _template(source: str, at: int) -> tuple[str, list[str], int]:
    """The text of a template, the code in it, and where it ends."""
    text = ""
    inner: list[str] = []
    while source[at] != "`":
        if source.startswith("${", at):
            end = _end_of_code(source, at + 2)
            inner.append(source[at + 2 : end])
            text += "{}"
            at = end + 1
        else:
            width = 2 if source[at] == "\\" else 1
            text += source[at : at + width]
            at += width
    return text, inner, at + 1


def _end_of_code(source: str, at: int) -> int:
    """Where the code in a template ends: at its closing brace."""
    depth = 0
    while depth or source[at] != "}":
        if plain := _PLAIN.match(source, at):
            at = plain.end()
        elif source[at] == "`":
            at = _template(source, at + 1)[2]
        else:
            depth += {"{": 1, "}": -1}.get(source[at], 0)
            at += 1
    return at

"""Options that are given by name: only those there are, each of its kind."""

from __future__ import annotations

from collections import abc
from collections.abc import Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from typing import cast

from twinlens.search.errors import UsageError

#: What an option can be, and how that is called. ``object`` is not looked at.
KINDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    list: "a list of texts",
    object: "anything",
}


def is_number(value: object) -> bool:
    """Whether it is a number, Python's or numpy's; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def says_something(value: object) -> bool:
    """Whether an option's value says anything; "" and None do not."""
    return value is not None and not (isinstance(value, str) and value == "")


def check_options(
    given: Mapping[str, object],
    known: Mapping[str, type],
    *,
    unset: bool = False,
    beside: abc.Collection[str] = (),
) -> None:
    """Raise ``UsageError`` for an option that there is not, and for a value that it cannot have.

    Whoever misspells ``where`` must not get unfiltered hits.

    Args:
        given: the options with their values.
        known: those there are, each with one of ``KINDS``.
        unset: whether any may have a value that says nothing.
        beside: what else can be given, for the message.
    """
    for name in given:
        if name not in known:
            names = sorted([*known, *beside])
            near = get_close_matches(name, names, 1)
            meant = f": did you mean {near[0]!r}?" if near else "."
            raise UsageError(f"there is no option {name!r}{meant} There are {', '.join(names)}")
    for name, value in given.items():
        if unset and not says_something(value):
            continue
        if not _is_a(value, known[name]):
            shown = repr(value)[:60]
            raise UsageError(f"{name} is {KINDS[known[name]]}, not {shown}")


def _is_a(value: object, kind: type) -> bool:
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return is_number(value)
    if kind is list:
        listed = isinstance(value, abc.Collection) and not isinstance(value, str | bytes)
        return listed and all(isinstance(one, str) for one in cast("abc.Collection[object]", value))
    return isinstance(value, kind)

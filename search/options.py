"""Declare options that are given by name, and check the values they are given."""

from __future__ import annotations

import operator
from collections import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from twinlens.search.errors import OptionError, UsageError

#: The types of options, and how messages call them. ``object`` is not checked.
KINDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    list: "a list of texts",
    object: "anything",
}
_BOUNDS: Mapping[str, tuple[str, Callable[[Any, float], bool]]] = {
    "ge": ("at least", operator.ge),
    "gt": ("above", operator.gt),
    "le": ("at most", operator.le),
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option, declared in a TypedDict as ``limit: Annotated[int, Option(10, "...", ge=1)]``.

    Attributes:
        default: its default; if that is ``None``, ``None`` is a valid value, too.
        help: one sentence that says what it does.
        ge, le, gt: bounds of a number as in pydantic: at least, at most, above.
        type: its type without ``None``, from the TypedDict.
    """

    default: Any
    help: str
    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    type: Any = object

    @property
    def kind(self) -> type:
        """Its type as one of ``KINDS``."""
        if self.choices:
            return str
        if get_origin(self.type) is abc.Sequence:
            return list
        return self.type if self.type in KINDS else object

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a ``Literal``."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def bounds(self) -> dict[str, float]:
        """Its bounds by name."""
        named = {name: getattr(self, name) for name in _BOUNDS}
        return {name: bound for name, bound in named.items() if bound is not None}

    def checked(self, name: str, value: Any) -> Any:
        """Check a value of the right type, and convert numpy's numbers to Python's.

        Raises:
            UsageError: it is out of bounds, or not one of the choices.
        """
        if value is None:
            return None
        if self.choices and value not in self.choices:
            raise OptionError(f"must be {_listed(self.choices)}, not {repr(value)[:60]}", name)
        if not all(_BOUNDS[at][1](value, bound) for at, bound in self.bounds.items()):
            wanted = (f"{_BOUNDS[at][0]} {bound:g}" for at, bound in self.bounds.items())
            raise OptionError(f"must be {' and '.join(wanted)}, not {value}", name)
        return self.kind(value) if self.kind in (int, float) else value

    def pydantic_type(self, **constraints: Any) -> Any:
        """Its type in a pydantic model, with bounds and description.

        Args:
            constraints: arguments of ``pydantic.Field`` to add or replace.
        """
        from pydantic import Field

        kind: Any = list[str] if self.kind is list else self.type
        bounded = Annotated[kind, Field(**{"description": self.help, **self.bounds, **constraints})]
        return bounded | None if self.default is None else bounded


def options_of(declaration: Any) -> dict[str, Option]:
    """The options that a TypedDict declares, by name."""
    found = {}
    for name, hint in get_type_hints(declaration, include_extras=True).items():
        kind, option = get_args(hint)
        if get_origin(kind) is UnionType:
            kinds = [one for one in get_args(kind) if one is not NoneType]
            kind = kinds[0] if len(kinds) == 1 else object
        found[name] = replace(option, type=kind)
    return found


def is_number(value: object) -> bool:
    """Whether a value is a number of Python or numpy, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_set(value: object) -> bool:
    """Whether an option has a value other than "" and None."""
    return value is not None and not (isinstance(value, str) and value == "")


def check_options(
    given: Mapping[str, object],
    known: Mapping[str, type],
    *,
    unset: bool = False,
) -> None:
    """Check the names and types of options: a misspelt ``where`` must not give unfiltered hits.

    Args:
        given: the options with their values.
        known: the declared options, each with one of ``KINDS``.
        unset: whether any option may be "" or None.

    Raises:
        UsageError: an unknown option, or a value of the wrong type.
    """
    for name in given:
        if name not in known:
            names = sorted(known)
            near = get_close_matches(name, names, 1)
            meant = f": did you mean {near[0]!r}?" if near else "."
            raise UsageError(f"unknown option {name!r}{meant} The options are {', '.join(names)}")
    for name, value in given.items():
        if unset and not is_set(value):
            continue
        if not _is_a(value, known[name]):
            shown = repr(value)[:60]
            raise OptionError(f"must be {KINDS[known[name]]}, not {shown}", name)


def _is_a(value: object, kind: type) -> bool:
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return is_number(value)
    if kind is list:
        listed = isinstance(value, abc.Collection) and not isinstance(value, str | bytes)
        return listed and all(isinstance(one, str) for one in cast("abc.Collection[object]", value))
    return isinstance(value, kind)


def _listed(names: abc.Sequence[str]) -> str:
    """Join names as in "a, b or c"."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))

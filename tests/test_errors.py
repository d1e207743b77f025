"""The exception hierarchy matches its docstring."""

from __future__ import annotations

import pickle
import re

import pytest

import twinlens
from twinlens.search import errors

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception)
}


def drawn_parents() -> dict[str, str]:
    """Each class of the drawing with its parent: the nearest one above and further left."""
    assert errors.__doc__
    found = re.finditer(r"^[ │├└─]+(?P<name>\w+Error)(?= {2})", errors.__doc__, re.MULTILINE)
    names = [(match.start("name") - match.start(), match["name"]) for match in found]
    return {
        name: next((above for at, above in reversed(names[:i]) if at < column), "Exception")
        for i, (column, name) in enumerate(names)
    }


def test_the_hierarchy_is_as_drawn() -> None:
    parents = {name: cls.__bases__[0].__name__ for name, cls in CLASSES.items()}
    assert drawn_parents() == parents
    assert parents["TwinlensError"] == "Exception"


def test_all_errors_can_be_caught_as_one() -> None:
    assert all(issubclass(cls, twinlens.TwinlensError) for cls in CLASSES.values())


def test_every_error_is_public() -> None:
    for name, cls in CLASSES.items():
        assert getattr(twinlens, name) is cls
        assert name in twinlens.__all__


def test_errors_with_more_than_a_message_can_be_pickled() -> None:
    unknown = pickle.loads(pickle.dumps(errors.NotStoredError("x is not stored", "x")))
    assert (str(unknown), unknown.name) == ("x is not stored", "x")
    error = pickle.loads(pickle.dumps(errors.OptionError("must be 1", "limit")))
    assert (str(error), error.option, error.wrong) == ("limit must be 1", "limit", "must be 1")


@pytest.mark.parametrize("name", CLASSES)
def test_str_of_an_error_is_its_message(name: str) -> None:
    assert str(CLASSES[name]("say what to do")) == "say what to do"
    assert CLASSES[name].__doc__

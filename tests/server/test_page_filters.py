"""Test that the page and the server mean the same by a filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from support.browser import Page, listening
from support.serving import painted_db

from twinlens.search.filters import (
    KEYWORDS,
    Compare,
    field_reference,
    parse_clauses,
    parse_filter,
)
from twinlens.search.records import FieldType

#: A value of each type, as a filter writes it.
VALUES: dict[FieldType, str] = {
    "text": '"x"', "path": '"x"', "date": '"2020"', "integer": "1", "number": "0.5",
    "boolean": "true", "list": '"x"', "mixed": '"x"',
}  # fmt: skip
NAMES = ["plain", "shot by", "Höhe", "height (m)", "x2y", "2x", *sorted(KEYWORDS)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with listening(painted_db(tmp_path_factory.mktemp("filters"))) as found:
        yield found


@pytest.fixture
def call(visit: Callable[..., Page]) -> Callable[..., Any]:
    """Calls a function of a module of the page."""
    page = visit()
    script = """([path, name, given]) =>
        import(`/static/${path}`).then((found) => found[name](...given))"""
    return lambda path, name, *given: page.evaluate(script, [path, name, list(given)])


def test_names_of_fields_are_written_alike(call: Callable[..., Any]) -> None:
    for name in NAMES:
        written = call("shared/filters.js", "reference", name)
        assert written == field_reference(name)
        assert parse_filter(f'{written} == "x"', {name: "text"}) == Compare(name, "==", "x")


@pytest.mark.parametrize(
    "text",
    [
        "a == 1",
        "a == 1 and b == 2 AND c == 3",
        "a between 1 and 2 and b == 3",
        "a == 1 and t == \"x and y\" and t == 'or'",
        "a == 1 and (b == 2 or c == 3)",
        "a == 1 or b == 2 and c == 3",
        "not a in (1, 2) and not (b == 1 and c == 2)",
        '`and` == 1 and `a or b` == 2 and t has "say ""and"" twice"',
        "a in [1, 2] and b is known and c is unknown",
    ],
)
def test_clauses_are_split_alike(call: Callable[..., Any], text: str) -> None:
    fields = dict.fromkeys(("a", "b", "c", "and", "a or b"), "integer") | {"t": "text"}
    parts = [part for part, _ in parse_clauses(text, fields)]  # type: ignore[arg-type]
    assert call("shared/filters.js", "clauses", text) == parts


@pytest.mark.parametrize("kind", get_args(FieldType))
def test_suggested_operators_suit_the_field(call: Callable[..., Any], kind: FieldType) -> None:
    def options(text: str) -> list[str]:
        found = call("search/filter-suggestions.js", "suggest", text, {"f": kind})
        return [one["text"] for one in found["options"]]

    assert options("") == ["f "]
    operators = options("f ")
    assert len(operators) > 2
    for operator in operators:
        value = "" if operator.startswith("is ") else VALUES[kind]
        end = {"in (": ")", "between ": f" and {value}"}.get(operator, "")
        parse_filter(f"f {operator}{value}{end}", {"f": kind})


def test_suggested_fields_are_written_as_the_language_reads_them(call: Callable[..., Any]) -> None:
    fields = dict.fromkeys(NAMES, "integer")
    for name in NAMES:
        for typed in (name[:1], field_reference(name)[:2]):
            found = call(
                "search/filter-suggestions.js", "suggest", f"plain == 1 and {typed}", fields
            )
            written = f"{field_reference(name)} "
            assert written in [one["text"] for one in found["options"]]
            text = f"plain == 1 and {typed}"[: found["from"]] + written
            parse_filter(f"{text}== 2", fields)  # type: ignore[arg-type]

"""The parser of filters at its limits, without a database."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from twinlens.search.errors import FilterError
from twinlens.search.filters import Compare, In, Join, Match, literal, parse_clauses, parse_filter
from twinlens.search.filters.parser import MAX_DEPTH, MAX_LENGTH, MAX_LISTED, MAX_TERMS
from twinlens.search.records import FieldType

FIELDS: Mapping[str, FieldType] = {
    "camera": "text",
    "year": "integer",
    "place": "number",
    "flag": "boolean",
    "taken": "date",
    "mix": "mixed",
    "größe": "integer",
}


def refused(text: str) -> str:
    with pytest.raises(FilterError) as caught:
        parse_filter(text, FIELDS)
    return str(caught.value)


def test_the_longest_filter() -> None:
    text = "year == 1"
    assert parse_filter(text.ljust(MAX_LENGTH), FIELDS) == Compare("year", "==", 1)
    assert "at most 50,000 are allowed" in refused(text.ljust(MAX_LENGTH + 1))


def test_parentheses_beside_each_other_are_not_nested() -> None:
    parsed = parse_filter(" or ".join(["(year == 1)"] * (MAX_DEPTH + 1)), FIELDS)
    assert isinstance(parsed, Join)
    assert len(parsed.nodes) == MAX_DEPTH + 1


def test_values_count_where_each_is_a_comparison() -> None:
    numbers = ", ".join(map(str, range(MAX_TERMS + 1)))
    assert isinstance(parse_filter(f"year in ({numbers})", FIELDS), In)
    assert f"more than {MAX_TERMS} comparisons" in refused(f"größe in ({numbers})")
    assert f"more than {MAX_TERMS} comparisons" in refused(f"mix in ({numbers})")


def test_a_date_and_a_time_may_have_a_space_between() -> None:
    for text in ("2020-05-17 08:30", "2020-05-17T08:30"):
        parsed = parse_filter(f"taken >= '{text}'", FIELDS)
        assert parsed == Compare("taken", ">=", "2020-05-17T08:30")


@pytest.mark.parametrize(("day", "valid"), [("31", True), ("32", False), ("00", False)])
def test_days_are_checked(day: str, valid: bool) -> None:
    if valid:
        assert parse_filter(f"taken == '2020-01-{day}'", FIELDS)
    else:
        assert "not a valid date" in refused(f"taken == '2020-01-{day}'")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("2.0", 2),
        ("9007199254740992.0", 2**53),
        ("1e16", 1e16),
        ("-2.5e0", -2.5),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_numbers_without_a_fraction_are_integers_where_floats_are_exact(
    number: str, value: float
) -> None:
    parsed = parse_filter(f"place == {number}", FIELDS)
    assert isinstance(parsed, Compare)
    assert (parsed.value, type(parsed.value)) == (value, type(value))


def test_between_takes_both_ends() -> None:
    low, high = Compare("year", ">=", 1), Compare("year", "<=", 3)
    assert parse_filter("year between 1 and 3", FIELDS) == Join("and", (low, high))


def test_a_message_quotes_at_most_40_characters() -> None:
    for length, quoted in ((40, "x" * 40), (41, "x" * 39 + "…")):
        assert refused("x" * length + " == 1").startswith(f"the filter is wrong at {quoted}, ")


@pytest.mark.parametrize("half", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_halves_of_characters_are_refused(half: int) -> None:
    assert "not valid Unicode" in refused(f"camera == '{chr(half)}'")


def test_characters_around_them_are_taken() -> None:
    for character in ("\ud7ff", "\ue000", "😀"):
        assert parse_filter(f"camera contains '{character}'", FIELDS) == Match(
            "camera", "contains", character
        )


def test_a_message_lists_a_bounded_number_of_fields() -> None:
    for count, more in ((MAX_LISTED, False), (MAX_LISTED + 1, True)):
        fields: dict[str, FieldType] = {f"field{number:03}": "text" for number in range(count)}
        with pytest.raises(FilterError, match="there is no field other") as caught:
            parse_filter("other == 'x'", fields)
        assert str(caught.value).endswith(", …") is more


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("yaer == 1", "at yaer, column 1"),
        ("year == 1 and yaer == 1", "at yaer, column 15"),
        ("year == 1 year", "at year, column 11"),
        ("year ==", "at its end"),
    ],
)
def test_a_message_says_where(text: str, where: str) -> None:
    assert refused(text).startswith(f"the filter is wrong {where}:")


def test_values_have_the_type_of_their_field() -> None:
    assert 'write flag == true, not "true"' in refused('flag == "true"')
    assert 'write year >= 2020, not "1"' in refused('year == "1"')
    assert 'write camera == "x", not 1' in refused("camera == 1")
    assert "write flag == true, not 1" in refused("flag == 1")


def test_a_doubled_quotation_mark_does_not_close_a_text() -> None:
    assert refused('camera == "a""') == (
        'the filter is wrong at "a"", column 11: the text is not closed: write " at its end'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (1, "1"), (2.5, "2.5"), ('a "b"', '"a ""b"""')],
)
def test_literals(value: bool | float | str, text: str) -> None:
    assert literal(value) == text
    parsed = parse_filter(f"mix == {text}", FIELDS)
    assert parsed == Compare("mix", "==", value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" year == 1 ", ["year == 1"]),
        ("year == 1 and  (camera == 'a and b' or flag==true) AND not year in (1, 2)",
         ["year == 1", "(camera == 'a and b' or flag==true)", "not year in (1, 2)"]),
        ("year between 1 and 2 and flag == true", ["year between 1 and 2", "flag == true"]),
        ("(year == 1 and flag == true)", ["(year == 1 and flag == true)"]),
        ("year == 1 and flag == true or year == 2 ", ["year == 1 and flag == true or year == 2"]),
    ],
)  # fmt: skip
def test_a_filter_is_split_where_and_joins_it(text: str, parts: list[str]) -> None:
    clauses = parse_clauses(text, FIELDS)
    assert [written for written, _ in clauses] == parts
    assert [node for _, node in clauses] == [parse_filter(part, FIELDS) for part in parts]


def test_a_filter_that_cannot_be_split_is_refused() -> None:
    for text in ("year == 1 and", "year == 1 flag", "year == 1 or and", "yera == 1"):
        with pytest.raises(FilterError):
            parse_clauses(text, FIELDS)

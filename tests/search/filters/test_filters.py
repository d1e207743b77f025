"""Filters: what they compile to, which rows they match on a real Milvus, and injection attempts.

Milvus Lite and a server run the same tests: see the fixture ``server``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.colours import ColourEncoder

import twinlens
import twinlens.search.milvus.fields
from twinlens.search import filters
from twinlens.search.errors import FilterError, UnsupportedError
from twinlens.search.filters import (
    Compare,
    HasField,
    In,
    Join,
    Match,
    Negation,
    Node,
    compile_filter,
    literal,
)
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database
from twinlens.search.records import FIXED_FIELDS, FieldType, Row, dynamic_types

LITE = Capabilities.of("milvus_lite-3.2.2")
OLD = Capabilities.of("v2.3.5")
FIELDS: Mapping[str, FieldType] = {
    "id": "text",
    "path": "path",
    "relative_path": "text",
    "captions": "list",
    "width": "integer",
    "mtime": "number",
    "camera": "text",
    "year": "integer",
    "place": "number",
    "flag": "boolean",
    "taken": "date",
    "mix": "mixed",
    "in": "text",
    "_seq": "integer",
}


# What a filter compiles to


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("", ""),
        ("  \n", ""),
        ("year = 2020", '$meta["year"] == 2020'),
        ("year>=-5 AND width<3", '($meta["year"] >= -5) and (width < 3)'),
        ("year != 1", '(exists $meta["year"]) and (not ($meta["year"] == 1))'),
        ("not year < 1", 'not ((exists $meta["year"]) and ($meta["year"] < 1))'),
        ("not width < 1", "not (width < 1)"),
        ("camera in ('a', \"b\", 'a')", '$meta["camera"] in ["a", "b"]'),
        ("camera not in ['a']", '(exists $meta["camera"]) and (not ($meta["camera"] in ["a"]))'),
        ("in in ('a', 'b')", '$meta["in"] in ["a", "b"]'),
        ("`in` == 'and'", '$meta["in"] == "and"'),
        ("camera == 'it''s \"x\"'", '$meta["camera"] == "it\'s \\"x\\""'),
        ("place in (1, 2.5)", '$meta["place"] in [1] or $meta["place"] in [2.5]'),
        ("place == 2.0", '$meta["place"] == 2'),
        ("width < 3.5", "width <= 3"),
        ("width >= 3.5", "width >= 4"),
        ("width == 3.5", 'id == ""'),
        ("width < 1e300", 'id != ""'),
        ("mtime > 9007199254740993", "mtime > 9007199254740992.0"),
        ("mtime >= 9007199254740993", "mtime > 9007199254740992.0"),
        ("mtime <= 9007199254740995", "mtime < 9007199254740996.0"),
        ("mtime < 9007199254740992", "mtime < 9007199254740992.0"),
        ("mtime == 9007199254740993", 'id == ""'),
        ("mtime in (1, 9007199254740993)", "mtime in [1.0]"),
        ("year between 1 and 3", '($meta["year"] >= 1) and ($meta["year"] <= 3)'),
        ("flag == TRUE", '$meta["flag"] == true'),
        ("taken >= '2020-05'", '$meta["taken"] >= "2020-05"'),
        ("taken <= '2020-05'", '$meta["taken"] < "2020-06"'),
        ("taken == '2019'", '$meta["taken"] >= "2019" and $meta["taken"] < "201:"'),
        ("path == 'a/b.jpg'", 'relative_path == "a/b.jpg"'),
        ("path == '/a/b.jpg'", 'path == "/a/b.jpg"'),
        ("path == 's3://x/b.jpg'", 'path == "s3://x/b.jpg"'),
        ("path in ('a', '/b')", 'relative_path in ["a"] or path in ["/b"]'),
        ("path startswith 'trips/'", 'relative_path >= "trips/" and relative_path < "trips0"'),
        ("path contains 'b_c'", 'relative_path like "%b\\\\_c%"'),
        ("path endswith '.jpg'", 'relative_path like "%.jpg"'),
        ("captions contains 'dog'", 'array_contains(captions, "dog")'),
        ("captions has 'dog'", 'array_contains(captions, "dog")'),
        ("captions has 'é'", 'array_contains(captions, "é")'),
        (
            "camera HAS 'a_b'",
            '($meta["camera"] == "a_b") or ($meta["camera"] >= "a_b, " and '
            '$meta["camera"] < "a_b,!") or '
            '($meta["camera"] like "%, a\\\\_b") or ($meta["camera"] like "%, a\\\\_b, %")',
        ),
        ("captions is known", "not (array_length(captions) == 0)"),
        ("camera is unknown", 'not (exists $meta["camera"])'),
        ("width is known", "width != 0"),
        ("mix == 1", '$meta["mix"] == 1 or $meta["mix"] == true'),
        (
            "year == 1 or year == 2 and not (width == 3 or width == 4)",
            '($meta["year"] == 1) or (($meta["year"] == 2) and '
            "(not ((width == 3) or (width == 4))))",
        ),
    ],
)
def test_compiles(text: str, expression: str) -> None:
    assert compile_filter(text, FIELDS) == expression


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yaer == 1", "at yaer, column 1: there is no field yaer: did you mean year? The fields"),
        ("YEAR == 1", "did you mean year?"),
        ("zebra == 1", "there is no field zebra. The fields are: _seq, camera, captions, flag"),
        ('year >= "2020"', 'column 9: year is a number: write year >= 2020, not "2020"'),
        ("camera == 5", 'camera is text: write camera == "x", not 5'),
        ("camera == true", "camera is text"),
        ("flag == 1", "flag is true or false: write flag == true, not 1"),
        ("flag < true", "flag is true or false"),
        ("captions == 'x'", 'captions is a list: write captions has "x"'),
        ("captions startswith 'x'", "captions is a list"),
        ("captions in ('x')", "captions is a list"),
        ("year contains '2'", "year is a number"),
        ("year has '2'", "year is a number"),
        ("path has 'a'", 'path is a path: write path startswith "trips/"'),
        ("taken has '2020'", "taken is a date"),
        ("camera has X", "write the text in quotes"),
        ("camera == X100", 'write the text in quotes: "X100"'),
        ("camera contains X", "write the text in quotes"),
        ('camera == "X100', "the text is not closed"),
        ('camera == "a\\"b"', "the text is not closed"),
        ("taken == '2020-13'", "this is not a valid date"),
        ("taken == 'May'", 'taken is a date: write "2020"'),
        ("taken == 2020", "taken is a date"),
        ("2020 <= year", "write the field first"),
        ("year", "expected a comparison: write, for example, year >= 2020"),
        ("year >=", "at its end: expected a value"),
        ("year == 1 and", "the filter ends where a field was expected"),
        ("(year == 1", 'the parenthesis of column 1 is not closed: write ")"'),
        ("year == 1)", 'expected "and", "or" or the end'),
        ("year == 1 year == 2", 'expected "and", "or" or the end'),
        ("year == 1 && year == 2", "at &&, column 11: write and instead"),
        ("!(year == 1)", "write not instead"),
        ("year <> 1", "write != instead"),
        ("camera like 'x%'", "write startswith or contains instead"),
        ("year is 3", "write year is known, or year is unknown"),
        ("year in 3", "write the values in parentheses: year in (…, …)"),
        ("year in ()", "the list is empty and matches nothing"),
        ("year in (1, 2]", 'expected "," or the end of the list'),
        ("year in (1 2)", 'expected "," or the end of the list'),
        ("year between 1", '"between" needs two values'),
        ("year == 1e999", "the number is too large"),
        ("year == 9223372036854775808", "the number is too large"),
        ("year == -9223372036854775808", "the number is too large"),
        ("year == " + 5_000 * "9", "the number is too large"),
        ("year == nan", "expected a value"),
        ("year == 2020x", "this is not part of a filter"),
        ("year == 1; drop", "at ; drop, column 10: this is not part of a filter"),
        ("camera == '\ud800'", "not valid Unicode"),
        ("camera == '" + filters.MAX_LENGTH * "x" + "'", "at most 50,000"),
        (10_000 * "(" + "year == 1", "deeper than 16 levels"),
        (10_000 * "not " + "year == 1", "deeper than 16 levels"),
        (" or ".join(["year == 1"] * 201), 'put values into one "in" list'),
        (f"year in ({', '.join(map(str, range(1001)))})", "more than 1,000 values"),
        (f"mix in ({', '.join(map(str, range(201)))})", "more than 200 comparisons"),
    ],
)
def test_errors_are_one_line_that_says_where_and_what_to_do(text: str, says: str) -> None:
    with pytest.raises(FilterError, match=re.escape(says)) as caught:
        compile_filter(text, FIELDS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    ["year", "camera", "captions", "and", "or", "not", "in", "between", "is", "known", "(", ")",
     "[", "]", ",", "==", "<", "contains", "startswith", "1", "-2.5", '"x"', "'", "true", "`"]
)).map(" ".join))  # fmt: skip
def test_whatever_is_typed_compiles_or_is_refused_in_one_line(text: str) -> None:
    refused = ""
    try:
        expression = compile_filter(text, FIELDS)
        assert bool(expression) == bool(text.strip())
    except FilterError as error:
        refused = str(error)
    assert len(refused.splitlines()) <= 1


def test_an_old_server_is_not_asked_to_look_within_texts() -> None:
    assert compile_filter("captions contains 'x' and path startswith 'a_b'", FIELDS, OLD)
    with pytest.raises(UnsupportedError, match=r"server 2\.3\.5 cannot search within a text"):
        compile_filter("path endswith '.jpg'", FIELDS, OLD)
    with pytest.raises(UnsupportedError, match=r"use startswith, or a Milvus server 2\.4"):
        compile_filter("camera contains 'x'", FIELDS, OLD)


def test_milvus_lite_is_not_asked_for_escapes_where_it_takes_none() -> None:
    for text in ("path contains 'a_b'", "camera contains '5%' and year == 1"):
        assert "\\\\" in compile_filter(text, FIELDS, LITE)
    assert compile_filter("camera in ('x')", FIELDS, LITE) == 'camera in ["x"]'
    assert compile_filter("in in ('x')", FIELDS, LITE) == '($meta["in"] == "x")'
    for text in (
        "captions contains 'x'",
        "captions is known",
        "mix == 1",
        "mix is known",
        "mix is unknown",
        "in contains 'x'",
        "camera in ('x')",
    ):
        assert compile_filter(f"path contains 'ab' and {text}", FIELDS, LITE)
        with pytest.raises(UnsupportedError, match='Milvus Lite cannot search for "_"'):
            compile_filter(f"path contains 'a_b' and {text}", FIELDS, LITE)


# What a filter means


def holds(node: Node, row: Row, types: Mapping[str, FieldType]) -> bool:
    """Whether a row satisfies a filter, in plain Python."""
    if isinstance(node, Join):
        return (all if node.word == "and" else any)(holds(n, row, types) for n in node.nodes)
    if isinstance(node, Negation):
        return not holds(node.node, row, types)
    stored = row.get(node.field)
    if isinstance(node, HasField):
        return (
            (stored not in (None, "", 0, []) or types[node.field] == "boolean") == node.known
            if node.field in FIXED_FIELDS
            else (stored is not None) == node.known
        )
    if stored is None:
        return False
    if isinstance(node, In):
        matched = [holds(Compare(node.field, "==", v), row, types) for v in node.values]
        return any(matched) != node.negated
    value = node.value
    if types[node.field] == "path" and isinstance(value, str):
        stored = row["path" if re.match(r"/|[a-z0-9]+://", value) else "relative_path"]
    if isinstance(node, Match):
        if isinstance(stored, list):
            return value in stored
        if node.how == "has":
            return isinstance(stored, str) and f", {value}, " in f", {stored}, "
        how = {"startswith": str.startswith, "endswith": str.endswith, "contains": str.__contains__}
        return isinstance(stored, str) and how[node.how](stored, value)
    if isinstance(stored, str) != isinstance(value, str):
        return node.op == "!="
    if types[node.field] == "date":
        stored = stored[: len(value)]
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    return compare[node.op](stored, value)


#: Texts that escaping, patterns and parsers get wrong.
HOSTILE = [
    "X100", "a\"b", "a'b", "a\\b", "a\\", "\\", "\\\\", "\\n", "\\u0041", "new\nline", "tab\t",
    "cr\r", "100%", "a_b", "axb", "a\\_b", "%", "_", "\\%", "é日本😀", "nul\0x", "\x01", "\x7f",
    "' or 1==1 or '", '" or id != "', '"] or id != "" or camera in ["', "%' --", "$meta", "{}",
    "[a]", "(a)", "a.b", "a*b", "^a", "a|b", "\u2028", "\u202e", "\ud7ff", "\ue000", "\uffff",
    "\U0010ffff", "a\U0010ffff", "b", "a_b, b", "X100, %, b",
    "b, X100", "trips/a_b.jpg", "/data/trips/a.jpg", "s3://b/a", "ISO", "",
]  # fmt: skip
TEXTS = st.sampled_from(HOSTILE)
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 7, 2020, -(2**53), 2**53 - 1, 2**53 + 2, 2**62, -(2**60), 2**63 - 1]
) | st.sampled_from([0.5, -0.5, 1.5, 2.25, 1e-7, 1e300, -1e300, 1234.5])
DATES = ["2019-12-31T23:59:59", "2020-01-01T00:00:00", "2020-05-17T08:30:00", "2021-09-30T10:00:00"]
PARTS = ["2019", "2020", "2020-01", "2020-05", "2020-05-17", "2020-05-17T08", "2021-09-30T10:00:00"]
SCHEMA: Mapping[str, FieldType] = {
    "id": "text", "path": "path", "relative_path": "text", "paths": "list", "captions": "list",
    "width": "integer", "mtime": "number", "format": "text", "camera": "text", "note": "text",
    "year": "integer", "place": "number", "flag": "boolean", "taken": "date", "mix": "mixed",
    "in": "text", "_seq": "integer", "like": "mixed", "big": "number", "whole": "integer",
    "array_contains": "integer", "json_contains": "text",
}  # fmt: skip


def _rows() -> list[Row]:
    """Rows with every hostile text in every type of field, and some missing fields."""
    dice = np.random.default_rng(11)
    rows: list[Row] = []
    for number in range(3 * len(HOSTILE)):
        text, other = HOSTILE[number % len(HOSTILE)], HOSTILE[dice.integers(len(HOSTILE))]
        row: Row = {
            "id": f"{number:032}",
            "vector": _unit(dice),
            "path": f"/data/{text}",
            "relative_path": text,
            "paths": [f"/data/{text}", other],
            "captions": [text, other][: number % 3],
            "width": [0, 1, 2, 3, 2020, 2**53 - 1][number % 6],
            "height": 1,
            "bytes": 1,
            "mtime": [0.0, 0.5, 1.0, 2.25, 1e300, -1e300, 1e-7][number % 7],
            "format": "JPEG",
        }
        values = {
            "camera": text,
            "note": other,
            "year": [0, 1, -1, 2020, -(2**53), 2**53 - 1][dice.integers(6)],
            "place": [0.5, -0.5, 1, 2, 1e300, 1e-7, 1234.5][dice.integers(7)],
            "flag": bool(dice.integers(2)),
            "taken": DATES[dice.integers(4)],
            "mix": [text, 0, 1, True, False, 0.5, 7][dice.integers(7)],
            "in": other,
            "_seq": int(dice.integers(4)),
            "like": [text, 1, 0.5][dice.integers(3)],
            "big": [2**62, 2.5, 3, -0.5, -(2**60)][dice.integers(5)],
            "whole": [2**62, 3, -(2**60)][dice.integers(3)],
            "array_contains": int(dice.integers(4)),
            "json_contains": text,
        }
        rows.append(
            row | {name: v for name, v in values.items() if v != "" and dice.random() < 0.7}
        )
    return rows


def _unit(dice: np.random.Generator) -> np.ndarray:
    row = dice.normal(size=16)
    return (row / np.linalg.norm(row)).astype(np.float32)


@pytest.fixture(scope="module", params=["lite", "server"])
def collection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collection]:
    """All rows of ``_rows``, a third of them written separately, so that batches lack fields."""
    if request.param == "server":
        uri = request.getfixturevalue("server")
    else:
        uri = str(tmp_path_factory.mktemp("db") / "filters.db")
    name = f"filters_{uuid.uuid4().hex[:8]}"
    with Database(uri) as database:
        made = database.create(name, ColourEncoder().fingerprint)
        rows = _rows()
        made.upsert("images", [row for row in rows if "camera" not in row])
        made.upsert("images", [row for row in rows if "camera" in row])
        yield made
        database.drop(name)


ROWS = _rows()


def _found(collection: Collection, expression: str) -> set[str]:
    rows = collection.query("images", expression, ["id"], 1_000)
    return {row["id"] for row in rows}


def _asked(collection: Collection, node: Node) -> tuple[set[str], str]:
    """The rows that match a filter, and its text."""
    expression = compile_filter(written(node), SCHEMA, collection.capabilities)
    return _found(collection, expression), expression


def _expected(node: Node) -> set[str]:
    return {row["id"] for row in ROWS if holds(node, row, SCHEMA)}


def _values(field: str) -> st.SearchStrategy[Any]:
    kind = SCHEMA[field]
    if kind in ("integer", "number"):
        return NUMBERS
    if kind == "mixed":
        return NUMBERS | TEXTS | st.booleans()
    if kind == "path":
        return TEXTS | TEXTS.map("/data/".__add__)
    return {"boolean": st.booleans(), "date": st.sampled_from(PARTS)}.get(kind, TEXTS)


def _terms(field: str) -> st.SearchStrategy[Node]:
    kind, values = SCHEMA[field], _values(field)
    known = st.builds(HasField, st.just(field), st.booleans())
    if kind == "list":
        hows = st.sampled_from(["contains", "has"])
        return known | st.builds(Match, st.just(field), hows, TEXTS)
    ops = ["==", "!="] if kind == "boolean" else ["==", "!=", "<", "<=", ">", ">="]
    terms: st.SearchStrategy[Node] = (
        known
        | st.builds(Compare, st.just(field), st.sampled_from(ops), values)
        | st.builds(In, st.just(field), st.lists(values, min_size=1).map(tuple), st.booleans())
    )
    if kind in ("text", "path", "mixed"):
        one = [] if kind == "path" else ["has"]
        hows = st.sampled_from(["startswith", "endswith", "contains", *one])
        return terms | st.builds(Match, st.just(field), hows, TEXTS)
    return terms


NODES: st.SearchStrategy[Node] = st.recursive(
    st.sampled_from(sorted(SCHEMA)).flatmap(_terms),
    lambda nodes: (
        st.builds(Negation, nodes)
        | st.builds(
            Join, st.sampled_from(["and", "or"]), st.lists(nodes, min_size=2, max_size=3).map(tuple)
        )
    ),
    max_leaves=6,
)


def written(node: Node) -> str:
    """Write a tree as a filter that a person would type."""
    if isinstance(node, Join):
        return f" {node.word} ".join(f"({written(part)})" for part in node.nodes)
    if isinstance(node, Negation):
        return f"not ({written(node.node)})"
    name = f"`{node.field}`"
    if isinstance(node, HasField):
        return f"{name} is {'known' if node.known else 'unknown'}"
    if isinstance(node, In):
        values = ", ".join(map(literal, node.values))
        return f"{name} {'not ' * node.negated}in ({values})"
    return f"{name} {node.op if isinstance(node, Compare) else node.how} {literal(node.value)}"


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(NODES)
@example(Negation(Compare("year", "==", 2020)))
@example(Compare("mix", "!=", 1))
@example(Match("relative_path", "contains", "a_b"))
@example(Match("camera", "contains", "\\"))
@example(Match("camera", "has", "b"))
@example(Negation(Match("camera", "has", "X100")))
@example(Match("mix", "has", "b"))
@example(Match("camera", "endswith", "\\"))
@example(Match("camera", "contains", "a\\b"))
@example(
    Join("and", (Match("relative_path", "contains", "\\"), Match("captions", "contains", "%")))
)
@example(Join("and", (Match("camera", "contains", "_"), HasField("mix"))))
@example(Join("or", (Match("camera", "contains", "_"), HasField("mix", known=False))))
@example(Join("or", (Match("camera", "contains", "_"), Compare("big", "==", 3))))
@example(Join("or", (Match("camera", "contains", "_"), HasField("big", known=False))))
@example(Join("or", (Match("camera", "contains", "_"), Compare("whole", ">", 2.5))))
@example(Join("or", (Match("camera", "contains", "_"), Compare("place", "<", 2**62))))
@example(
    Join("and", (Match("camera", "contains", "_"), Negation(Match("camera", "endswith", "_b"))))
)
@example(Compare("mtime", "<", 2**62))
@example(In("array_contains", (2, 3)))
@example(In("json_contains", ("X100",), negated=True))
def test_a_filter_finds_what_it_says(collection: Collection, node: Node) -> None:
    try:
        found, expression = _asked(collection, node)
    except UnsupportedError:
        assume(False)
    assert found == _expected(node), expression


@pytest.mark.parametrize("text", ["_", "%", "a_b", "_b", "\\"])
@pytest.mark.parametrize("field", ["camera", "relative_path"])
def test_signs_of_patterns_are_found_as_they_are(
    collection: Collection, field: str, text: str
) -> None:
    """A batch of rows without the field does no harm."""
    alone = Match(field, "contains", text)
    if not collection.capabilities.infix:
        with pytest.raises(UnsupportedError, match="use startswith"):
            _asked(collection, alone)
        return
    for node in (alone, Negation(alone), Join("or", (alone, Compare("year", "==", 2020)))):
        found, expression = _asked(collection, node)
        assert found == _expected(node), expression


def test_a_sign_of_patterns_is_refused_where_only_values_tell(collection: Collection) -> None:
    sign = Match("relative_path", "contains", "_")
    for other in (HasField("big"), Compare("big", "==", 3), Compare("whole", ">", 2.5)):
        with pytest.raises(UnsupportedError):
            _asked(collection, Join("or", (sign, other)))


@pytest.mark.parametrize("field", ["camera", "relative_path", "path", "mix", "in"])
def test_a_value_matches_itself_only(collection: Collection, field: str) -> None:
    for text in HOSTILE:
        for node in (
            Compare(field, "==", text),
            In(field, (text,)),
            Match(field, "startswith", text),
        ):
            expression = compile_filter(written(node), SCHEMA, collection.capabilities)
            assert _found(collection, expression) == _expected(node), expression


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_no_text_whatsoever_is_more_than_a_value(collection: Collection, text: str) -> None:
    for field in ("camera", "format", "captions"):
        node: Node = Match(field, "contains", text) if field == "captions" else In(field, (text,))
        expression = compile_filter(written(node), SCHEMA, collection.capabilities)
        assert _found(collection, expression) == _expected(node), expression


def test_the_deepest_and_longest_filters_are_answered(collection: Collection) -> None:
    deep = filters.MAX_DEPTH // 2 * "not (" + "year == 2020" + filters.MAX_DEPTH // 2 * ")"
    everything = [
        (deep, lambda row: row.get("year") == 2020),
        (" or ".join(["year == 2020"] * filters.MAX_TERMS), lambda row: row.get("year") == 2020),
        (
            f"camera in ({', '.join(literal(f'no {n}') for n in range(filters.MAX_LIST))})",
            lambda row: False,
        ),
        (f"camera == {literal('x' * 49_000)}", lambda row: False),
    ]
    for text, wanted in everything:
        expression = compile_filter(text, SCHEMA, collection.capabilities)
        assert _found(collection, expression) == {row["id"] for row in ROWS if wanted(row)}


def test_a_search_takes_as_many_conditions_as_a_filter_may_have(collection: Collection) -> None:
    """A server's searches, unlike its queries, failed from fifty conditions on."""
    texts = [f"no {n}" for n in range(filters.MAX_TERMS - 1)]
    year = Compare("year", "==", 2020)
    dates = tuple(f"{1000 + n}-05" for n in range(filters.MAX_LIST - 1))
    for node in (
        Join("or", (*(Compare("camera", "==", text) for text in texts), year)),
        Join("and", (*(Compare("camera", "!=", text) for text in texts), year)),
        In("taken", (*dates, "2020")),
    ):
        expression = compile_filter(written(node), SCHEMA, collection.capabilities)
        (hits,) = collection.search("images", ROWS[0]["vector"][None], 100, expression=expression)
        assert {row["id"] for row, _ in hits} == _expected(node)


def test_a_selective_filter_still_returns_k(collection: Collection) -> None:
    node = In("camera", ("X100", "a_b", '" or id != "'))
    expression = compile_filter(written(node), SCHEMA, collection.capabilities)
    wanted = _expected(node)
    assert 1 < len(wanted) < 10
    query = _unit(np.random.default_rng(3))[None]
    (hits,) = collection.search("images", query, len(wanted), fields=["id"], expression=expression)
    assert {row["id"] for row, _ in hits} == wanted
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)


def test_a_selective_filter_on_a_graph_index_still_returns_k(server: str) -> None:
    """HNSW, all rows near the query filtered out; for ``ef`` see docs/reference/filters.md."""
    from pymilvus import DataType

    name, dice = f"filters_{uuid.uuid4().hex[:8]}", np.random.default_rng(5)
    vectors = np.stack([_unit(dice) for _ in range(6_000)])
    query = vectors[0]
    order = np.argsort(vectors @ query)
    with Database(server) as database:
        client = database.client
        schema = client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.VARCHAR, max_length=32, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=16)
        client.create_collection(name, schema=schema, consistency_level="Strong")
        try:
            rows = [
                {"id": str(row), "vector": vectors[row], "year": rank}
                for rank, row in enumerate(order)
            ]
            client.insert(name, rows)
            client.flush(name)
            index = client.prepare_index_params()
            index.add_index(
                "vector",
                index_type="HNSW",
                metric_type="IP",
                params={"M": 16, "efConstruction": 100},
            )
            client.create_index(name, index)
            client.load_collection(name)
            for matching in (1, 10, 300, 1_500):
                limit = min(matching, 50)
                expression = compile_filter(f"year < {matching}", FIELDS, database.capabilities)
                hits = client.search(
                    name,
                    data=[query],
                    filter=expression,
                    limit=limit,
                    search_params={"metric_type": "IP", "params": {"ef": 1_024}},
                )[0]
                nearest = [str(row) for row in order[:matching][::-1][:limit]]
                assert len(hits) == limit
                assert len({hit["id"] for hit in hits} & set(nearest)) >= 0.9 * limit
        finally:
            client.drop_collection(name)


def test_pages_go_on_after_a_hostile_path(collection: Collection) -> None:
    paths = sorted({f"/data/{text}" for text in HOSTILE})
    ledger = [
        {
            "path": path, "image_id": "", "texts": [], "size": 0, "mtime_ns": 0, "digest": "",
            "status": "ok", "reason": "", "root": "/data",
        }
        for path in paths
    ]  # fmt: skip
    collection.upsert("files", ledger)
    pages = list(islice(collection.scan("files", ["path"], batch=1), 2 * len(paths)))
    assert sorted(row["path"] for page in pages for row in page) == paths


# Which fields there are


def test_fields_are_learned_from_rows_and_kept(collection: Collection) -> None:
    fields = collection.fields("images")
    assert {name: fields[name] for name in SCHEMA} == SCHEMA
    assert collection.fields("texts").keys() == {"id", "text", "image_id", "path", "relative_path"}
    again = Collection(
        collection.client, collection.name, collection.generation, collection.capabilities
    )
    assert again.fields("images") == fields


def test_writers_add_to_one_another(tmp_path: Path) -> None:
    with Database(str(tmp_path / "two.db")) as database:
        first = database.create("corpus", ColourEncoder().fingerprint)
        second = database.collection("corpus")
        first.register_fields("texts", [{"a": 1}])
        second.register_fields("texts", [{"b": "x", "a": 2.5}])
        first.register_fields(
            "texts", [{"c": True, "b": 3, "vector": [1.0], "width": 4, "d": None}]
        )
        learned = {"a": "number", "b": "mixed", "c": "boolean"}
        for collection in (first, second):
            fields = collection.fields("texts")
            assert {name: fields[name] for name in learned} == learned
            assert "d" not in fields


def test_only_news_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(str(tmp_path / "news.db")) as database:
        collection = database.create("corpus", ColourEncoder().fingerprint)
        monkeypatch.setattr(twinlens.search.milvus.fields, "MAX_FIELDS", 3)
        collection.register_fields("images", [{"a": 1, "b": 1}, {"a": 2}])
        # Without a connection, what is known already must still do.
        client, collection.client = collection.client, None
        collection.register_fields("images", [{"a": 5}, {"b": 7, "vector": np.zeros(2)}])
        with pytest.raises(AttributeError):
            collection.register_fields("images", [{"c": 1}])
        collection.client = client
        collection.register_fields("images", [{"c": 1, "d": 1}])
        assert {"a", "b", "c"} <= collection.fields("images").keys()
        assert "d" not in collection.fields("images")


def test_types_of_rows() -> None:
    rows: list[Row] = [{"a": 1, "b": True, "c": [1], "id": "x"}, {"a": 1.5, "d": "x", "e": None}]
    assert dynamic_types(rows) == {
        ("a", "integer"), ("a", "number"), ("b", "boolean"), ("d", "text")
    }  # fmt: skip


# From the front door


def test_where_filters_a_search(index: twinlens.Index, photos: Path) -> None:
    (photos / "captions.csv").write_text(
        "file_name,caption,year,camera\nred.png,a red thing,2021,X100\nblue.png,blue,2019,R5\n"
    )
    index.ingest(photos)
    index.ingest(photos / "captions.csv")
    hits = index.search("red", where='path == "red.png" or path endswith "ue.png"')
    assert [Path(hit.path).name for hit in hits] == ["red.png", "blue.png"]
    assert [hit.text for hit in index.search("x", target="texts", where='text == "blue"')] == [
        "blue"
    ]
    with pytest.raises(FilterError, match="there is no field widht: did you mean width"):
        index.search("red", where="widht > 3")
    assert index.search("red", where="width > 4000") == []


def test_delete_below_a_folder_takes_its_name_as_it_is(
    index: twinlens.Index, paint: Callable[..., Path], tmp_path: Path
) -> None:
    folders = ["my_photos", "myxphotos", "100%", "100x", "back\\slash"]
    for number, folder in enumerate(folders):
        paint("red", f"all/{folder}/a.png", size=(9 + number, 9))
    index.ingest(tmp_path / "all")
    for folder in ("my_photos", "100%", "back\\slash"):
        assert index.delete(tmp_path / "all" / folder) == 1
    assert {Path(hit.path).parent.name for hit in index.search("red")} == {"myxphotos", "100x"}

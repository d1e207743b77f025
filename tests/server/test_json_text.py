"""JSON that is costly to parse is refused before it is parsed, on every route that takes any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from support.serving import serving

from twinlens.server import json_text
from twinlens.server.json_text import MAX_DEPTH, MAX_KEYS, MAX_VALUES, check_json
from twinlens.server.problems import MAX_ERRORS, Problem
from twinlens.server.schemas.requests import MAX_DELETED, MAX_POINTS, SignIn

JSON = {"Content-Type": "application/json"}
KEYS = {"keys": ("writer:write:write-key-0123456789",)}
KEY = {"Authorization": "Bearer write-key-0123456789"}
#: What a text may hold; many of these mean something in JSON outside of strings.
CHARACTERS = st.sampled_from('[]{},:"\\NI\n x1\u00e9\U0001f600')
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(CHARACTERS), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("json") / "json.db", **KEYS) as opened:
        yield opened


def refusal(data: bytes) -> Problem:
    with pytest.raises(Problem) as raised:
        check_json(data)
    return raised.value


@given(value=VALUES)
def test_json_is_accepted_whatever_its_strings_contain(value: Any) -> None:
    check_json(json.dumps(value).encode())
    check_json(json.dumps(value, ensure_ascii=False, indent=1).encode())


@given(value=VALUES)
def test_values_are_counted_as_a_parser_counts_them(value: Any) -> None:
    """Members and elements of everything, and the brackets around them."""
    counted = _count(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "MAX_VALUES", counted + 1)
        check_json(json.dumps(value).encode())
        if counted:
            patch.setattr(json_text, "MAX_VALUES", counted)
            assert refusal(json.dumps(value).encode()).status_code == 413


def _count(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(0, len(value) - 1) + sum(map(_count, inner))


@given(data=st.binary(max_size=200) | st.text(CHARACTERS).map(str.encode))
def test_anything_else_is_left_to_the_parser_or_refused(data: bytes) -> None:
    with suppress(Problem):  # the only error, however malformed it is
        check_json(data)


def test_the_limits_are_exact() -> None:
    check_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert refusal(b"[" * (MAX_DEPTH + 1)).status_code == 400
    check_json(b"{" + b",".join([b'"a":1'] * MAX_KEYS) + b"}")
    assert refusal(b"{" + b",".join([b'"a":1'] * (MAX_KEYS + 1)) + b"}").status_code == 413
    check_json(b"[" + b",".join([b"1"] * (MAX_VALUES - 1)) + b"]")
    assert refusal(b"[" + b",".join([b"1"] * MAX_VALUES) + b"]").status_code == 413


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_have_is_refused(word: str) -> None:
    assert refusal(f'{{"a": [1, {word}]}}'.encode()).status_code == 400
    check_json(f'{{"{word}": ["{word}"]}}'.encode())


@pytest.mark.parametrize("tail", [b"", b'"', b"\\", b'\\"', b"\xff"])
def test_a_long_string_is_one_piece(tail: bytes) -> None:
    """Brackets and commas within a string do not count, not even in one without an end."""
    check_json(b'{"query": "' + b"[{,N" * 1_000_000 + tail)


def test_a_key_is_bounded_before_it_is_known_who_sends_it(client: TestClient) -> None:
    """Anybody may send to /v1/session: a body of 27 MB took 12 processor seconds and 2.6 GB."""
    key = "k" * 1_024
    assert client.post("/v1/session", json={"key": key}).status_code == 401
    escaped = "".join(f"\\u{ord(one):04x}" for one in key)
    answer = client.post("/v1/session", content=f'{{"key": "{escaped}"}}', headers=JSON)
    assert answer.status_code == 401
    assert SignIn.model_json_schema()["properties"]["key"]["maxLength"] == len(key)
    answer = client.post("/v1/session", json={"key": key, "a": " " * 8_192})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


def test_a_body_that_is_too_large_for_its_route_is_not_read(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 1
            yield b" " * 4_096

    sent = 0
    answer = client.post("/v1/session", content=chunks(), headers=JSON)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def bodies(client: TestClient) -> dict[str, dict[str, Any]]:
    """The routes that take a body, with what the OpenAPI document says of it, and their method."""
    paths = client.get("/openapi.json").json()["paths"]
    return {
        path: operation["requestBody"] | {"method": method}
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "requestBody" in operation
    }


def test_no_route_parses_more_than_the_limits(client: TestClient) -> None:
    routes = bodies(client)
    assert {"/v1/search", "/v1/items", "/v1/session"} <= routes.keys()
    wide = b"{" + b",".join(b'"k%d":1' % n for n in range(MAX_KEYS + 1)) + b"}"
    for path, body in routes.items():
        send = partial(client.request, body["method"], path)
        deep = send(content=b"[" * 40_000, headers=JSON | KEY)
        assert deep.status_code in (400, 413), path
        assert send(content=wide, headers=JSON | KEY).status_code == 413, path
        unknown = send(json={f"k{n}": 1 for n in range(500)}, headers=KEY)
        assert unknown.status_code in (400, 422), path
        assert len(unknown.json().get("errors", ())) <= MAX_ERRORS
        assert len(unknown.content) < 10_000


def test_the_first_mistake_of_a_list_ends_its_validation(client: TestClient) -> None:
    body = {"query": [{"vector": ["a"] * 30_000}, {"text": ""}]}
    answer = client.post("/v1/search", json=body, headers=KEY)
    assert answer.status_code == 422
    assert [one["at"] for one in answer.json()["errors"]] == ["query.0.vector.0"]
    answer = client.post("/v1/items", json={"items": [{}] * 200}, headers=KEY)
    assert [one["at"] for one in answer.json()["errors"]] == ["items.0.uri"]


def test_a_form_is_in_utf_8(client: TestClient) -> None:
    """Python decodes Punycode in quadratic time: 400 kB took three seconds, 8 MB hours."""
    form = b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n{"query": "a"}\r\n--x--'
    kind = "multipart/form-data; boundary=x"
    for charset in ("punycode", '"Punycode"', "idna", "utf-7"):
        headers = KEY | {"Content-Type": f"{kind}; charset={charset}"}
        assert client.post("/v1/search", content=form, headers=headers).status_code == 415
    for good in (kind, f"{kind}; charset=UTF-8", f'{kind};charset="utf-8"'):
        headers = KEY | {"Content-Type": good}
        assert client.post("/v1/search", content=form, headers=headers).status_code == 404


def test_the_largest_lists_of_short_routes_fit(client: TestClient) -> None:
    """The limit in bytes of a route is no smaller than what its model allows."""
    ids = {"ids": ["0f" * 16] * MAX_POINTS}
    assert client.post("/v1/map/pictures", json=ids, headers=KEY).status_code == 404
    ids = {"ids": ["0f" * 16] * MAX_DELETED, "decision": "held"}
    assert client.post("/v1/review", json=ids, headers=KEY).status_code == 404
    paths = {"paths": ["p" * 4_096] * MAX_DELETED}
    assert client.post("/v1/items/gone", json=paths, headers=KEY).status_code == 404


def test_every_route_says_how_large_a_body_may_be(client: TestClient) -> None:
    said = {path: body["description"] for path, body in bodies(client).items()}
    assert said["/v1/session"] == "At most 8,192 bytes."
    assert said["/v1/search"] == f"At most {32 << 20:,} bytes."
    page = (Path(__file__).parents[2] / "docs" / "operations" / "serve.md").read_text()
    for path, text in said.items():
        if text != said["/v1/search"]:
            size = int(text.split()[2].replace(",", ""))
            unit = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
            listed = [line for line in page.splitlines() if unit in line and f"`{path}`" in line]
            assert listed, f"docs/operations/serve.md does not say: {path} takes {unit}"

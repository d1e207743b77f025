"""Keys: reading, writing, tenants, and the cookie for browsers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient
from support.colours import ColourEncoder
from support.serving import READ, WRITE, bearer, paint, serving

import twinlens
from twinlens.remote.client import HttpClient
from twinlens.search.errors import UsageError
from twinlens.search.milvus.tenants import check_tenant
from twinlens.search.records import image_id
from twinlens.server.auth import COOKIE, SESSION_SECONDS, Key, Keys, read_keys

#: Method, path and JSON of everything that takes a key for reading, and for writing.
READING = (
    ("GET", "/v1/collections", None),
    ("GET", "/v1/collections/twinlens", None),
    ("POST", "/v1/search", {"query": "red"}),
    ("POST", "/v1/search/many", {"queries": ["red"]}),
    ("POST", "/v1/embed", {"texts": ["red"]}),
    ("POST", "/v1/classify", {"labels": ["red", "blue"], "ids": ["ID"]}),
    ("POST", "/v1/describe", {"ids": ["ID"]}),
    ("POST", "/v1/match", {"texts": ["red", "blue"], "ids": ["ID"]}),
    ("GET", "/v1/items/ID", None),
    ("GET", "/v1/items/ID/thumbnail", None),
    ("GET", "/v1/items/ID/image", None),
)
WRITING = (("DELETE", "/v1/items/ID", None), ("DELETE", "/v1/collections/other", None))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("auth") / "photos")


@pytest.fixture(scope="module")
def key(photos: Path) -> str:
    return image_id((photos / "red.png").read_bytes())


@pytest.fixture(scope="module")
def client(photos: Path) -> Iterator[TestClient]:
    db = photos.parent / "auth.db"
    for name in ("twinlens", "other"):
        with twinlens.open(db, name, model=ColourEncoder()) as index:
            index.ingest(photos)
    with serving(db, keys=(READ, WRITE)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def signed_out(client: TestClient) -> None:
    client.cookies.clear()


@pytest.mark.parametrize(("method", "path", "body"), [*READING, *WRITING])
def test_requests_without_a_key_are_refused(
    client: TestClient, key: str, method: str, path: str, body: object
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"},
                    {"Authorization": "Bearer"}, {"Cookie": f"{COOKIE}=reader.9.0"}):  # fmt: skip
        answer = client.request(method, path.replace("ID", key), json=body, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["type"] == "/problems/key"


@pytest.mark.parametrize(("method", "path", "body"), READING)
def test_a_key_for_reading_reads(
    client: TestClient, key: str, method: str, path: str, body: dict[str, object] | None
) -> None:
    if body is not None and "ids" in body:
        body = body | {"ids": [key]}
    for entry in (READ, WRITE):
        headers = bearer(entry)
        answer = client.request(method, path.replace("ID", key), json=body, headers=headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("method", "path", "body"), WRITING)
def test_a_key_for_reading_does_not_write(
    client: TestClient, key: str, method: str, path: str, body: object
) -> None:
    answer = client.request(method, path.replace("ID", key), json=body, headers=bearer(READ))
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/scope")


def test_a_key_for_writing_writes(photos: Path, tmp_path: Path, key: str) -> None:
    with twinlens.open(tmp_path / "w.db", model=ColourEncoder()) as index:
        index.ingest(photos)
    with serving(tmp_path / "w.db", keys=(WRITE,)) as client:
        assert client.delete(f"/v1/items/{key}", headers=bearer(WRITE)).json()["deleted"] == 1


def test_health_needs_no_key(client: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_metrics_need_a_key_if_other_machines_can_reach_the_server(photos: Path) -> None:
    db = photos.parent / "metrics.db"
    with serving(db, host="0.0.0.0", keys=(READ,)) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer(READ)).status_code == 200


def test_a_browser_signs_in_and_out(client: TestClient) -> None:
    secret = WRITE.split(":")[2]
    answer = client.post("/v1/session", json={"key": secret})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert secret not in cookie
    for flag in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert flag in cookie
    assert client.post("/v1/search", json={"query": "red"}).status_code == 200
    refused = client.delete("/v1/collections/other")  # a cookie may read only
    assert refused.status_code == 403
    assert client.delete("/v1/session").status_code == 204
    assert client.post("/v1/search", json={"query": "red"}).status_code == 401


def test_a_wrong_key_does_not_sign_in(client: TestClient) -> None:
    answer = client.post("/v1/session", json={"key": "wrong-key-0123456789"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def cookie(value: str) -> Headers:
    return Headers({"Cookie": f"theme=dark; {COOKIE}={value}; a=b"})


def test_a_changed_cookie_is_refused() -> None:
    keys = Keys([READ, WRITE])
    reader = keys.find(READ.split(":")[2])
    assert reader is not None
    good = keys.session(reader)
    assert keys.of(cookie(good)) == reader
    name, until, signature = good.split(".")
    later = f"{name}.{int(until) + 1}.{signature}"
    others = f"writer.{until}.{signature}"
    old = keys.session(reader, now=1_000_000_000 - SESSION_SECONDS)
    for bad in (later, others, old, "", ".", "..", "reader", good[:-1], good + "0",
                f"{name}.{until}.\u00e9", f"{name}.{'9' * 40}.{signature}"):  # fmt: skip
        assert keys.of(cookie(bad)) is None


@pytest.mark.parametrize(
    "header",
    [
        'a="' + "\\" * 15_000 + '"',
        'a="' + '\\"' * 7_000 + '"',
        f'{COOKIE}="' + "\\" * 15_000 + '"',
        f"x{COOKIE}=a; ={COOKIE}; {COOKIE}",
        ";" * 15_000,
    ],
)
def test_a_hostile_cookie_costs_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    """Unquoting one takes quadratic time (CVE-2024-7592), and anybody may send it."""

    def never(_: str) -> str:
        raise AssertionError

    monkeypatch.setattr("http.cookies._unquote", never)
    for path in ("/v1/collections", "/v1/items", "/metrics", "/v1/nothing", "/"):
        answer = client.get(path, headers={"Cookie": header})
        assert answer.status_code in (200, 401, 404)
    assert (
        client.post("/v1/session", json={"key": "x"}, headers={"Cookie": header}).status_code == 401
    )


def test_a_cookie_of_a_write_key_only_reads() -> None:
    keys = Keys([WRITE])
    writer = keys.find(WRITE.split(":")[2])
    assert writer is not None
    assert writer.scope == "write"
    found = keys.of(cookie(keys.session(writer)))
    assert found is not None
    assert found.scope == "read"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("", "NAME:SCOPE:KEY"),
        ("name", "is read or write"),
        ("0123456789abcdef", "is read or write"),
        ("0123456789abcdef:read", "a key must have 16 to 512"),
        ("name:0123456789abcdef", "the key name is not written NAME:SCOPE:KEY"),
        ("0123456789abcdef:read:page", "a key must have 16 to 512"),
        ("0123456789abcdef:read:0123456789abcdef:_", "the tenant of a key"),
        ("read:0123456789abcdef:acme", "is read or write"),
        ("na me:read:0123456789abcdef", "NAME:SCOPE:KEY"),
        ("name:admin:0123456789abcdef", "is read or write"),
        ("name:read:short", "16 to 512"),
        ("name:read:" + "x" * 513, "16 to 512"),
        ("name:read:0123456789 abcdef", "without spaces"),
        ("name:read:0123456789abcdé", "ASCII"),
        ("name:read:0123456789\ud800bcdef", "ASCII"),
        ("name:read:0123456789abcdef:no tenant", "tenant"),
        ("name:read:0123456789abcdef:_acme", "begin with a letter"),
        ("name:read:a-key-with-a-colon:0123456789/x", r"letters, digits and _ \. @ -"),
    ],
)
def test_malformed_keys_are_refused(entry: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        Key.parse(entry)
    assert "0123456789" not in str(raised.value)


def test_two_keys_with_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="same name"):
        Keys([READ, READ])


def test_keys_come_from_a_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").write_text(f"# ours\n\n  {READ}\n{WRITE}:acme\n")
    monkeypatch.setenv("TWINLENS_KEYS", "env:read:0123456789abcdef; ;")
    entries = read_keys(tmp_path / "keys")
    assert entries == ("env:read:0123456789abcdef", READ, f"{WRITE}:acme")
    found = Keys(entries).find(WRITE.split(":")[2])
    assert found is not None
    assert (found.name, found.scope, found.tenant) == ("writer", "write", "acme")
    assert WRITE.split(":")[2] not in repr(found)


def test_a_file_of_keys_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the keys"):
        read_keys(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_keys(tmp_path / "bytes")


def test_a_tenants_key_sees_its_own_rows_only(photos: Path, tmp_path: Path, key: str) -> None:
    db = tmp_path / "tenants.db"
    one, two = f"one:write:{'1' * 16}:acme", f"two:write:{'2' * 16}:bolt"
    with twinlens.open(db, model=ColourEncoder(), tenant="acme") as index:
        index.ingest(photos / "red.png")
    with twinlens.open(db, model=ColourEncoder(), tenant="bolt") as index:
        index.ingest(photos / "blue.png")
    with twinlens.open(db, "whole", model=ColourEncoder()) as index:
        index.ingest(photos / "green.png")
    with serving(db, keys=(one, two)) as client:

        def found(entry: str, **asked: object) -> list[str]:
            answer = client.post("/v1/search", json=asked, headers=bearer(entry))
            assert answer.status_code == 200, answer.text
            return [Path(hit["path"]).stem for hit in answer.json()["hits"]]

        assert found(one, query="blue") == ["red"]
        assert found(two, query="red") == ["blue"]
        assert client.get(f"/v1/items/{key}", headers=bearer(one)).status_code == 200
        assert client.get(f"/v1/items/{key}", headers=bearer(two)).status_code == 404
        for picture in ("thumbnail", "image"):
            address = f"/v1/items/{key}/{picture}"
            assert client.get(address, headers=bearer(one)).status_code == 200
            assert client.get(address, headers=bearer(two)).status_code == 404
        assert client.delete(f"/v1/items/{key}", headers=bearer(two)).status_code == 404
        listed = client.get("/v1/collections", headers=bearer(one)).json()["collections"]
        assert [(one["name"], one["images"]) for one in listed] == [("twinlens", 1)]
        asked = {"query": "green", "collection": "whole"}
        refused = client.post("/v1/search", json=asked, headers=bearer(one))
        assert (refused.status_code, "green" in refused.text) == (404, False)
        assert client.delete("/v1/collections/twinlens", headers=bearer(two)).status_code == 204
        assert found(one, query="red") == ["red"]
        assert found(two, query="red") == []


def test_the_tenant_of_a_key_must_be_a_valid_tenant() -> None:
    for tenant in ("acme", "a.b-c_d", "alice@example.org", "0"):
        check_tenant(tenant)
        assert Key.parse(f"{READ}:{tenant}").tenant == tenant


def test_the_operator_sees_a_collection_of_tenants(photos: Path, tmp_path: Path) -> None:
    db = tmp_path / "operator.db"
    acme = f"acme:write:{'1' * 16}:acme"
    for tenant, colour in (("acme", "red"), ("bolt", "blue")):
        (photos / f"{colour}.json").write_text(f'{{"of_{tenant}": 1}}')
        with twinlens.open(db, model=ColourEncoder(), tenant=tenant) as index:
            index.ingest(photos / f"{colour}.png")
        (photos / f"{colour}.json").unlink()
    with serving(db, keys=(READ, WRITE, acme)) as client:
        (one,) = client.get("/v1/collections", headers=bearer(READ)).json()["collections"]
        assert one == client.get("/v1/collections/twinlens", headers=bearer(READ)).json()
        assert (one["images"], one["texts"], one["files"]) == (2, 2, 2)
        assert one["tenants"] == ["acme", "bolt"]
        assert {"of_acme", "of_bolt"} <= one["fields"]["images"].keys()
        (its,) = client.get("/v1/collections", headers=bearer(acme)).json()["collections"]
        assert (its["images"], its["tenants"]) == (1, None)
        assert "of_bolt" not in its["fields"]["images"]
        assert "bolt" not in str(its)
        with twinlens.RemoteIndex(HttpClient("http://127.0.0.1:9")) as far:
            far._client.get = lambda path: {"collections": [one]}  # type: ignore[method-assign,assignment]
            assert far.collections()[0].tenants == ("acme", "bolt")


def test_a_tenant_does_not_see_the_names_of_other_collections(photos: Path, tmp_path: Path) -> None:
    db = tmp_path / "names.db"
    acme = f"acme:write:{'1' * 16}:acme"
    with twinlens.open(db, "secret", model=ColourEncoder()) as index:
        index.ingest(photos / "red.png")
    with serving(db, keys=(READ, acme)) as client:
        for method, path, body in (
            ("GET", "/v1/collections/none", None),
            ("POST", "/v1/search", {"query": "red", "collection": "none"}),
            ("DELETE", "/v1/collections/none", None),
            ("GET", f"/v1/items/{'0' * 32}?collection=none", None),
        ):
            answer = client.request(method, path, json=body, headers=bearer(acme))
            assert answer.status_code == 404, answer.text
            assert "secret" not in answer.text
        told = client.get("/v1/collections/none", headers=bearer(READ)).json()["detail"]
        assert "the database has: secret" in told


def test_a_tenant_is_refused_the_metrics_wherever_the_server_listens(
    photos: Path, tmp_path: Path
) -> None:
    db = tmp_path / "metrics.db"
    acme = f"acme:write:{'1' * 16}:acme"
    with twinlens.open(db, model=ColourEncoder(), tenant="acme") as index:
        index.ingest(photos / "red.png")
    for host, without in (("127.0.0.1", 200), ("0.0.0.0", 401)):
        with serving(db, keys=(READ, acme), host=host, hosts=("127.0.0.1",)) as client:
            assert client.get("/metrics").status_code == without
            assert client.get("/metrics", headers=bearer(READ)).status_code == 200
            assert client.get("/metrics", headers=bearer(acme)).status_code == 403


def test_metrics_need_a_key_behind_a_proxy(tmp_path: Path) -> None:
    with serving(tmp_path / "metrics.db", keys=(READ,), proxies=("127.0.0.1",)) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer(READ)).status_code == 200
        assert client.get("/healthz").status_code == 200

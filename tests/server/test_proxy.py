"""Behind a proxy on the same machine, limits apply to its clients, and keys are demanded."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.serving import painted_db, served

from twinlens.search.errors import UsageError
from twinlens.server.run import check_open
from twinlens.server.settings import DEFAULT_RATE, Settings

LOOPBACK = ("127.0.0.1",)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("proxy"))


def statuses(address: str, *forwarded: str) -> Iterator[int]:
    """The statuses of requests, each with its own X-Forwarded-For."""
    host, _, port = address.removeprefix("http://").partition(":")
    for value in forwarded:
        with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            connection.request("GET", "/v1/collections", headers={"X-Forwarded-For": value})
            yield connection.getresponse().status


def test_a_proxy_needs_keys() -> None:
    with pytest.raises(UsageError, match=r"through its proxy, .*--keys FILE, or --no-auth"):
        check_open(Settings(proxies=LOOPBACK))
    check_open(Settings(proxies=LOOPBACK, open=True))
    check_open(Settings(proxies=LOOPBACK, keys=("me:read:0123456789abcdef",)))


def test_a_proxys_clients_have_a_rate_limit() -> None:
    assert Settings(proxies=LOOPBACK).per_minute == DEFAULT_RATE
    assert Settings(proxies=LOOPBACK, rate=0).per_minute == 0


def test_each_client_of_a_proxy_has_a_limit_of_its_own(db: Path) -> None:
    with served(db, proxies=LOOPBACK, open=True, rate=6, burst=1) as address:
        asked = ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2",
                 "203.0.113.9, 192.0.2.1")  # fmt: skip
        # What a client writes itself stands left of what the proxy adds.
        assert list(statuses(address, *asked)) == [200, 429, 200, 200, 429, 429]


def test_others_cannot_forward(db: Path) -> None:
    with served(db, proxies=("10.0.0.0/8",), open=True, rate=6, burst=1) as address:
        assert list(statuses(address, "192.0.2.1", "192.0.2.2")) == [200, 429]

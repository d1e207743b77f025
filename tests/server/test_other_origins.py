"""What pages of other sites may do, in a browser; ``--cors`` lists their origins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import listening, visiting
from support.serving import READ, bearer, painted_db
from support.serving import serving as api
from support.web import serving

#: What OpenAI's JavaScript client adds to a request in a browser.
STAINLESS = {
    "X-Stainless-Arch": "unknown",
    "X-Stainless-Lang": "js",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Package-Version": "6.9.1",
    "X-Stainless-Retry-Count": "0",
    "X-Stainless-Runtime": "browser:chrome",
    "X-Stainless-Runtime-Version": "142.0.0",
    "X-Stainless-Timeout": "600",
    "OpenAI-Organization": "none",
}
#: Asks for the models, for an embedding, and for the models with a wrong key.
ASK = """async ([address, headers]) => {
  const models = await fetch(`${address}/v1/models`, { headers });
  const made = await fetch(`${address}/v1/embeddings`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify({ input: ["red"], model: "twinlens" }),
  });
  const wrong = { ...headers, Authorization: "Bearer none" };
  const refused = await fetch(`${address}/v1/models`, { headers: wrong });
  return [
    (await models.json()).data[0].id,
    (await made.json()).data[0].embedding.length,
    (await refused.json()).error.code,
  ];
}"""
#: The status of an answer, or the error of a page that may not have it.
TRY = """([address, headers]) =>
  fetch(`${address}/v1/models`, { headers }).then(
    (answer) => answer.status,
    (error) => error.name,
  )"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of another site, with an empty page."""
    with serving() as web:
        web.serve("/", b"<!doctype html><title>Another site</title>", Content_Type="text/html")
        yield web.url


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("origins"))


def test_openais_client_works_in_a_page_of_a_listed_origin(
    browser: Any, db: Path, site: str
) -> None:
    headers = STAINLESS | bearer(READ)
    with listening(db, keys=(READ,), cors=(site,)) as address, visiting(browser, site) as visit:
        answers = visit().evaluate(ASK, [address, headers])
    assert answers == ["colours:none", 16, "invalid_api_key"]


def test_pages_of_other_origins_get_no_answer(browser: Any, db: Path, site: str) -> None:
    with listening(db, cors=("https://friend.example",)) as address:
        page = browser.new_page()
        page.goto(site)
        assert page.evaluate(TRY, [address, {}]) == "TypeError"
        assert page.evaluate(TRY, [address, STAINLESS]) == "TypeError"
        page.close()


def test_a_page_of_the_web_may_reach_the_loopback_if_its_origin_is_listed(db: Path) -> None:
    with api(db, cors=("https://friend.example",)) as client:
        preflight = client.options(
            "/v1/models",
            headers={
                "Origin": "https://friend.example",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization,x-stainless-lang",
                "Access-Control-Request-Private-Network": "true",
            },
        )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-private-network"] == "true"
    allowed = preflight.headers["access-control-allow-headers"]
    assert {"authorization", "x-stainless-lang"} <= set(allowed.replace(" ", "").split(","))

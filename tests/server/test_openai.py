"""``/v1/embeddings`` and ``/v1/models``, asked by OpenAI's own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.colours import ColourEncoder
from support.serving import READ, WRITE, bearer, painted_db, served, serving

import twinlens

openai = pytest.importorskip("openai", reason="the package openai is not installed")
OTHER = "other:read:other-key-0123456789:ann"
MODEL = "colours:none"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_db(tmp_path_factory.mktemp("openai"))


@pytest.fixture(scope="module")
def address(db: Path) -> Iterator[str]:
    """A server with keys and small limits."""
    with served(db, keys=(READ, WRITE, OTHER), max_embed=4, max_body=1 << 20) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    key = READ.split(":")[2]
    with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def picture(db: Path) -> str:
    """The data URL of a red picture."""
    data = (db.parent / "photos" / "red.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_texts_get_the_models_rows(client: Any) -> None:
    texts = ["a red picture", "blue, and green"]
    made = client.embeddings.create(model=MODEL, input=texts)
    assert [one.index for one in made.data] == [0, 1]
    rows = np.array([one.embedding for one in made.data], dtype=np.float32)
    assert rows == pytest.approx(ColourEncoder().texts(texts), abs=1e-7)
    assert (made.object, made.model) == ("list", MODEL)
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (7, 7)
    (single,) = client.embeddings.create(model="", input=texts[0]).data
    assert single.embedding == made.data[0].embedding


def test_numbers_and_base64_are_the_same_vectors(address: str, client: Any) -> None:
    def sent(encoding: str | None) -> Any:
        raw = client.embeddings.with_raw_response
        body = {"model": MODEL, "input": "red", "encoding_format": encoding}
        return raw.create(**body).http_response.json()["data"][0]["embedding"]

    bits = np.frombuffer(base64.b64decode(sent("base64")), dtype="<f4")
    numbers = np.array(sent("float"), dtype=np.float32)
    assert numbers.shape == (16,)
    assert np.array_equal(bits, numbers)
    # The client itself asks for base64 and decodes it where nothing was asked for.
    (own,) = client.embeddings.create(model=MODEL, input="red").data
    assert np.array_equal(np.array(own.embedding, dtype=np.float32), bits)


def test_pictures_and_texts_can_be_mixed(client: Any, picture: str) -> None:
    inputs: Any = [
        "a red picture",
        picture,
        {"type": "image_url", "image_url": {"url": picture}},
        {"image": picture},
    ]
    made = client.embeddings.create(model=MODEL, input=inputs)
    rows = np.array([one.embedding for one in made.data])
    assert rows[0] @ rows[1] > 0.9
    assert np.array_equal(rows[1], rows[2])
    assert np.array_equal(rows[1], rows[3])
    assert made.usage.prompt_tokens == 3
    # As vLLM and infinity take them.
    content = {"type": "image_url", "image_url": {"url": picture}}
    chat = {"messages": [{"role": "user", "content": [content]}]}
    spoken = client.post("/embeddings", body={"model": MODEL, **chat}, cast_to=object)
    assert spoken["data"][0]["embedding"] == rows[1].tolist()
    more = {"modality": "image"}
    (same,) = client.embeddings.create(model=MODEL, input=[picture], extra_body=more).data
    assert same.embedding == rows[1].tolist()


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"dimensions": 8}, "dimensions", "16 dimensions"),
        ({"input": ["a"] * 5}, "input", "at most 4 inputs"),
        ({"input": []}, "input", "send input"),
        ({"input": ""}, "input", "at least 1"),
        ({"input": [[1, 2, 3]]}, "input.0", "token ids are not taken"),
        ({"input": [1, 2]}, "input.0", "token ids are not taken"),
        ({"input": ["a" * 10_001]}, "input", "10,000 characters"),
        ({"input": ["data:image/png;base64,"]}, "input", "empty"),
        ({"input": ["data:image/png;base64,@@@@"]}, None, "not valid base64"),
        ({"input": ["data:image/png;base64,AAAAAAAA"]}, None, "image"),
        ({"input": ["data:image/png,AAAA"]}, "input", "base64,"),
        ({"input": [{"image": "file:///etc/passwd"}]}, "input", "data URL"),
        ({"input": [{"image": "https://example.org/a.png"}]}, None, "does not fetch"),
        ({"input": [{"image_url": {"uri": "x"}}]}, "input.0.image_url", "Field required"),
        ({"encoding_format": "int8"}, "encoding_format", "base64"),
        ({"truncate": True}, "truncate", "Extra inputs"),
    ],
)
def test_mistakes_are_errors_as_openai_sends_them(
    client: Any, body: dict[str, Any], param: str | None, says: str
) -> None:
    whole = {"model": MODEL, "input": "red"} | body
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/embeddings", body=whole, cast_to=object)
    error = caught.value
    assert says in error.body["message"]
    assert error.type == "invalid_request_error"
    assert (error.param or "").startswith(param or "")
    assert set(error.body) == {"message", "type", "param", "code"}


def test_dimensions_of_the_model_are_fine(client: Any) -> None:
    (one,) = client.embeddings.create(model=MODEL, input="red", dimensions=16).data
    assert len(one.embedding) == 16


def test_models_are_listed_and_found(client: Any) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "twinlens")
    assert (model.dimensions, model.collections) == (16, ["twinlens"])
    assert client.models.retrieve(MODEL) == model
    assert client.models.retrieve("twinlens") == model  # a collection stands for its model
    by_collection = client.embeddings.create(model="twinlens", input="red")
    assert by_collection.model == MODEL
    for ask in (
        lambda: client.models.retrieve("gpt/4"),
        lambda: client.embeddings.create(model="text-embedding-3-small", input="red"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_wrong_key_and_large_bodies_are_errors_of_the_client(address: str, picture: str) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
    key = READ.split(":")[2]
    with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as large:
            client.embeddings.create(model=MODEL, input="data:image/png;base64," + "A" * (1 << 20))
        assert large.value.status_code == 413
        assert "larger than" in large.value.body["message"]  # type: ignore[index]


def test_a_tenants_key_sees_no_other_collection(address: str) -> None:
    key = OTHER.split(":")[2]
    with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as client:
        assert client.models.list().data == []
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model=MODEL, input="red")


def test_a_tenants_key_sees_the_models_of_its_collections(tmp_path: Path, db: Path) -> None:
    tenants = tmp_path / "tenants.db"
    for name, tenant in (("shared", "ann"), ("bobs", "bob")):
        with twinlens.open(tenants, name, model=ColourEncoder(), tenant=tenant) as index:
            index.ingest(db.parent / "photos" / "red.png")
    with serving(tenants, keys=(OTHER, READ), collection="shared") as client:
        (model,) = client.get("/v1/models", headers=bearer(OTHER)).json()["data"]
        assert model["collections"] == ["shared"]
        asked = {"input": "red", "model": "bobs"}
        refused = client.post("/v1/embeddings", json=asked, headers=bearer(OTHER))
        assert refused.status_code == 404
        asked["model"] = "shared"
        made = client.post("/v1/embeddings", json=asked, headers=bearer(OTHER))
        assert made.json()["model"] == MODEL


def test_the_client_waits_as_long_as_the_rate_limit_says(db: Path) -> None:
    with serving(db, rate=60, burst=1, keys=(READ,)) as client:
        headers = bearer(READ)
        assert client.get("/v1/models", headers=headers).status_code == 200
        refused = client.get("/v1/models", headers=headers)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_an_empty_server_has_no_models(tmp_path: Path) -> None:
    with serving(tmp_path / "empty.db") as client:
        assert client.get("/v1/models").json() == {"object": "list", "data": []}
        refused = client.post("/v1/embeddings", json={"input": "red"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")

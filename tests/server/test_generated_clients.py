"""Clients that are generated from the OpenAPI document work with a real server."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import urlopen

import pytest
from support import ROOT
from support.colours import COLOURS, ColourEncoder
from support.serving import WRITE, paint, served

import twinlens

KEY = WRITE.split(":")[2]
#: Where `make test` puts it; it cannot share our environment.
GENERATORS = ROOT / ".venv" / "generators" / "bin"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("generated") / "photos")


@pytest.fixture(scope="module")
def address(photos: Path) -> Iterator[str]:
    db = photos.parent / "generated.db"
    with twinlens.open(db, model=ColourEncoder()) as index:
        index.ingest(photos)
    with served(db, keys=(WRITE,)) as found:
        yield found


@pytest.fixture(scope="module")
def document(address: str) -> dict[str, Any]:
    with urlopen(f"{address}/openapi.json") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_operations_have_short_names(document: dict[str, Any]) -> None:
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert {"search", "list_items", "put_items", "embeddings"} < set(names)
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and len(name) < 25 for name in names)


@pytest.fixture(scope="module")
def package(document: dict[str, Any], photos: Path) -> Iterator[ModuleType]:
    """The package that openapi-python-client makes."""
    program = shutil.which("openapi-python-client") or str(GENERATORS / "openapi-python-client")
    if not Path(program).exists():
        pytest.skip("openapi-python-client is not installed: make .venv/generators")
    folder = photos.parent / "package"
    described = photos.parent / "openapi.json"
    described.write_text(json.dumps(document))
    subprocess.run(
        [program, "generate", "--path", described, "--output-path", folder, "--meta", "none"],
        check=True,
        capture_output=True,
    )
    folder.rename(photos.parent / "generated_client")
    sys.path.insert(0, str(photos.parent))
    yield importlib.import_module("generated_client")
    sys.path.remove(str(photos.parent))
    for name in [one for one in sys.modules if one.split(".")[0] == "generated_client"]:
        del sys.modules[name]


def test_every_module_of_a_generated_client_can_be_imported(package: ModuleType) -> None:
    names = [one.name for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    assert len(names) > 60
    for name in names:
        importlib.import_module(name)


def test_a_generated_client_searches(package: ModuleType, address: str, photos: Path) -> None:
    models = importlib.import_module("generated_client.models")
    types = importlib.import_module("generated_client.types")

    def api(path: str) -> Any:
        return importlib.import_module(f"generated_client.api.{path}")

    with package.AuthenticatedClient(base_url=address, token=KEY) as client:
        query = models.SearchBody(query="a red picture", limit=2)
        found = api("search.search").sync(client=client, body=query)
        assert Path(found.hits[0].path).stem == "red"
        assert len(found.hits) == 2
        # With a picture, as a form.
        with (photos / "blue.png").open("rb") as file:
            form = models.SearchFilesBody(
                request=models.SearchBody(limit=1),
                image=[types.File(payload=file, file_name="blue.png", mime_type="image/png")],
            )
            by_picture = api("search.search").sync(client=client, body=form)
        (hit,) = by_picture.hits
        assert Path(hit.path).stem == "blue"
        assert api("items.show_item").sync(hit.id, client=client).captions == ["a blue picture"]
        listed = api("items.list_items").sync(client=client, where='path == "blue.png"')
        assert [one.id for one in listed.items] == [hit.id]
        small = api("items.thumbnail").sync_detailed(hit.id, client=client)
        assert small.content.startswith(b"\xff\xd8")
        made = api("models.embed").sync(client=client, body=models.EmbedBody(texts=["red"]))
        assert (made.dim, len(made.vectors[0])) == (16, 16)
        wrong = api("search.search").sync(
            client=client, body=models.SearchBody(query="a", where="x")
        )
        assert (wrong.status, wrong.type_) == (400, "/problems/filter")


def test_models_of_datamodel_codegen_take_real_answers(
    document: dict[str, Any], address: str, tmp_path: Path
) -> None:
    generator = pytest.importorskip("datamodel_code_generator")
    generator.generate(
        json.dumps(document),
        input_file_type=generator.InputFileType.OpenAPI,
        output=tmp_path / "generated_models.py",
        output_model_type=generator.DataModelType.PydanticV2BaseModel,
        formatters=[],
    )
    sys.path.insert(0, str(tmp_path))
    try:
        models = importlib.import_module("generated_models")
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("generated_models", None)
    query = models.SearchBody(query=["a red picture", models.NotPart(**{"not": "blue"})])
    sent = query.model_dump_json(exclude_unset=True, by_alias=True)
    import httpx

    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    answer = httpx.post(f"{address}/v1/search", content=sent, headers=headers)
    found = models.SingleSearchOut.model_validate_json(answer.content)
    assert len(found.hits) == len(COLOURS)
    assert Path(found.hits[0].path).stem == "red"
    refused = httpx.post(f"{address}/v1/search", content="{}", headers=headers)
    assert models.Problem.model_validate_json(refused.content).status == 400

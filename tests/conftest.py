"""The fixtures that the tests share: an encoder, pictures, a Milvus Lite file for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image
from support import ROOT
from support.colours import COLOURS, ColourEncoder
from support.hub import make_tiny_model
from support.milvus_server import NoServerError, running_server

import twinlens

# A busy machine is slow: no test fails for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait for a server or a browser."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of exported models for all tests, also those of other workers and processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "model-cache"
    os.environ["TWINLENS_CACHE"] = str(folder)
    return folder


@pytest.fixture
def encoder() -> ColourEncoder:
    return ColourEncoder()


@pytest.fixture
def paint(tmp_path: Path) -> Callable[..., Path]:
    """Makes a picture of one colour: ``paint("red", "photos/a.png")``."""

    def make(colour: str, name: str = "", size: tuple[int, int] = (40, 30)) -> Path:
        path = tmp_path / (name or f"photos/{colour}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, COLOURS[colour]).save(path)
        return path

    return make


@pytest.fixture
def photos(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """A folder with one picture of each colour, each with a sidecar caption."""
    for colour in COLOURS:
        paint(colour).with_suffix(".txt").write_text(f"a {colour} picture\n")
    return tmp_path / "photos"


@pytest.fixture
def index(tmp_path: Path, encoder: ColourEncoder) -> Iterator[twinlens.Index]:
    """An empty collection in a Milvus Lite file of its own."""
    with twinlens.open(tmp_path / "test.db", model=encoder) as opened:
        yield opened


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a Milvus server that other tests use at the same time.

    ``TWINLENS_TEST_SERVER``, or one that all workers and runs share. Give what you create a name of
    its own, remove it afterwards, and expect that of others to be there.
    """
    try:
        with running_server() as address:
            yield address
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["lite", "server"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both homes that a collection can have, one after the other."""
    if request.param == "lite":
        return str(tmp_path / "backend.db")
    address: str = request.getfixturevalue("server")
    return address


@pytest.fixture
def either(backend: str, encoder: ColourEncoder) -> Iterator[twinlens.Index]:
    """An empty collection on either backend, gone afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with twinlens.open(backend, name, model=encoder) as opened:
        yield opened
        opened._database.drop(name)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up OpenCLIP model as a folder; ``local-dir:`` before it makes it a model's name."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def corpora() -> Path:
    """Real pictures to test against, where they are there (``TWINLENS_CORPORA`` says where)."""
    default = ROOT.parent / "shared" / "corpora"
    folder = Path(os.environ.get("TWINLENS_CORPORA", default))
    if not (folder / "flickr8k" / "captions.jsonl").is_file():
        pytest.skip("the development corpora are not here; TWINLENS_CORPORA names their folder")
    return folder

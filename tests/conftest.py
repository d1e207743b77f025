"""What the tests share: a tiny deterministic encoder, pictures, a Milvus Lite file each."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hub import make_tiny_model
from PIL import Image
from server import NoServerError, running_server

import twinlens
from search.encoder import Pixels, Rows
from search.models import Fingerprint

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 60, 220),
    "yellow": (235, 220, 40),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
    "orange": (240, 140, 20),
    "purple": (130, 40, 160),
}
SIDE = 8

#: For what keeps an old server busy for minutes, and is seen quicker elsewhere for the most part.
patient = pytest.mark.skipif(
    not os.environ.get("TWINLENS_PATIENT"),
    reason="takes a 2.3.5 server a minute and more: TWINLENS_PATIENT=1 waits for it",
)


class ColourEncoder:
    """Sees colours and reads their names: a joint space, without weights.

    A picture's embedding is its mean colour's likeness to each colour of ``COLOURS``, a text's the
    colours it names; the other dimensions tell apart what is otherwise alike.
    """

    def __init__(self, name: str = "colours", dim: int = 16) -> None:
        self.fingerprint = Fingerprint(name, "none", dim, SIDE, "{}")
        self.image_batch = 4
        self.images_seen = 0
        self.texts_seen = 0

    def prepare(self, image: Image.Image) -> Pixels:
        return np.asarray(image.resize((SIDE, SIDE)))

    def images(self, pixels: Pixels) -> Rows:
        self.images_seen += len(pixels)
        means = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        palette = np.array(list(COLOURS.values()), dtype=np.float64)
        distances = np.linalg.norm(means[:, None] - palette, axis=2)
        return self._unit(np.exp(-distances / 40), [row.tobytes() for row in pixels])

    def texts(self, texts: Sequence[str]) -> Rows:
        self.texts_seen += len(texts)
        named = [[float(colour in text.lower()) for colour in COLOURS] for text in texts]
        return self._unit(np.array(named), [text.encode() for text in texts])

    def _unit(self, meaning: np.ndarray, keys: list[bytes]) -> Rows:
        rest = self.fingerprint.dim - len(COLOURS)
        seeds = [int.from_bytes(hashlib.sha256(key).digest()[:4]) for key in keys]
        noise = np.stack([np.random.default_rng(seed).normal(size=rest) for seed in seeds])
        rows = np.concatenate([meaning, 0.05 * noise], axis=1)
        unit: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Milvus server: ``TWINLENS_TEST_SERVER``, or one started for the session."""
    try:
        with running_server(tmp_path_factory.mktemp("server")) as address:
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
        opened._store.drop(name)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up OpenCLIP model as a folder; ``local-dir:`` before it makes it a model's name."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def corpora() -> Path:
    """Real pictures to test against, where they are there (``TWINLENS_CORPORA`` says where)."""
    default = Path(__file__).parents[2] / "shared" / "corpora"
    folder = Path(os.environ.get("TWINLENS_CORPORA", default))
    if not (folder / "flickr8k" / "captions.jsonl").is_file():
        pytest.skip("the development corpora are not here; TWINLENS_CORPORA names their folder")
    return folder

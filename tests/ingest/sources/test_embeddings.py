"""Embeddings made elsewhere: their layouts, the model they are declared to be of, hostile rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from support.colours import ColourEncoder
from support.hub import make_tiny_model

import twinlens
from twinlens.ingest.sample import Failure, Sample
from twinlens.ingest.sources import open_sources
from twinlens.search.errors import ModelError, ModelMismatchError, SourceError
from twinlens.search.models.catalogue import STARTER
from twinlens.search.models.config import fingerprint_from_config
from twinlens.search.models.load import open_encoder

DIM = 16


def embed(encoder: ColourEncoder, *words: str) -> np.ndarray[Any, Any]:
    """Embeddings as such tools write them: half precision, not always of length 1."""
    return (3 * encoder.texts(list(words))).astype(np.float16)


@pytest.fixture
def retrieval(tmp_path: Path, encoder: ColourEncoder) -> Path:
    """clip-retrieval's layout in two parts; rows of the second are numbered from 0 again."""
    folder = tmp_path / "embeddings"
    for part, colours in enumerate([("red", "green"), ("blue",)]):
        rows = {
            "image_path": [f"{part}{i}" for i in range(len(colours))],
            "url": [f"https://a.example/{colour}.jpg" for colour in colours],
            "caption": [f"a {colour} thing" for colour in colours],
            "similarity": [0.3] * len(colours),
            "status": ["success"] * len(colours),
        }
        (folder / "metadata").mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(rows), folder / f"metadata/metadata_{part:02d}.parquet")
        for name in ("img_emb", "text_emb"):
            (folder / name).mkdir(exist_ok=True)
            np.save(folder / name / f"{name}_{part}.npy", embed(encoder, *colours))
    encoder.texts_seen = 0
    return folder


@pytest.fixture
def pair(tmp_path: Path, encoder: ColourEncoder) -> Path:
    np.save(tmp_path / "mine.npy", embed(encoder, "red", "blue"))
    parquet.write_table(pa.table({"name": ["one", "two"]}), tmp_path / "mine.parquet")
    return tmp_path / "mine.npy"


def test_they_are_stored_and_found_without_encoding_anything(
    retrieval: Path, index: twinlens.Index, encoder: ColourEncoder
) -> None:
    report = index.ingest(retrieval, embeddings_model=encoder.fingerprint)
    assert (report.images, report.texts) == (3, 3)
    assert (encoder.images_seen, encoder.texts_seen) == (0, 0)
    best = index.search(encoder.texts(["blue"])[0], limit=1)[0]
    assert best.path == "https://a.example/blue.jpg"
    assert best.captions == ("a blue thing",)
    assert best.metadata["similarity"] == pytest.approx(0.3)
    assert best.score == pytest.approx(1.0, abs=1e-3)
    assert index.search("blue", target="texts", limit=1)[0].text == "a blue thing"
    again = index.ingest(retrieval, embeddings_model=encoder.fingerprint)
    assert (again.unchanged, again.images, again.texts) == (3, 0, 0)


def test_new_embeddings_take_the_place_of_old_ones(
    pair: Path, index: twinlens.Index, encoder: ColourEncoder
) -> None:
    index.ingest(pair, embeddings_model=encoder.fingerprint)
    np.save(pair, embed(encoder, "red", "green"))
    report = index.ingest(pair, embeddings_model=encoder.fingerprint)
    assert (report.images, report.removed, index.info().images) == (1, 1, 2)
    assert index.search("green", limit=1)[0].path == f"{pair}!1"


def test_captions_without_embeddings_are_encoded(
    pair: Path, index: twinlens.Index, encoder: ColourEncoder
) -> None:
    rows = {"image": ["a.jpg", "b.jpg"], "caption": ["a red thing", "a blue thing"]}
    parquet.write_table(pa.table(rows), pair.with_suffix(".parquet"))
    encoder.texts_seen = 0
    report = index.ingest(pair.parent, embeddings_model=encoder.fingerprint)
    assert (report.images, report.texts, encoder.texts_seen) == (2, 2, 2)
    assert index.search("red", limit=1)[0].metadata["relative_path"] == "mine.npy!a.jpg"


def test_rows_are_of_length_one_and_named_by_what_there_is(
    pair: Path, encoder: ColourEncoder
) -> None:
    there = pair.parent / "there.png"
    Image.new("RGB", (4, 4)).save(there)
    names = ["there.png", "../../../../etc/passwd"]
    parquet.write_table(pa.table({"path": names}), pair.with_suffix(".parquet"))
    items = list(open_sources([pair], embeddings=encoder.fingerprint))
    assert [item.uri for item in items] == [str(there), f"{pair}!../../../../etc/passwd"]
    for item in items:
        assert isinstance(item, Sample)
        assert item.vector is not None
        assert item.vector.dtype == np.float32
        assert np.linalg.norm(item.vector) == pytest.approx(1.0, abs=1e-6)


def test_an_address_that_comes_twice_is_two_rows(pair: Path, encoder: ColourEncoder) -> None:
    urls = ["https://a.example/x.jpg"] * 2
    parquet.write_table(pa.table({"url": urls}), pair.with_suffix(".parquet"))
    items = open_sources([pair], embeddings=encoder.fingerprint)
    assert [item.uri for item in items] == [urls[0], f"{pair}!1"]


def test_rows_that_are_no_embeddings_fail_alone(
    pair: Path, index: twinlens.Index, encoder: ColourEncoder
) -> None:
    matrix = np.ones((2, DIM), dtype=np.float32)
    matrix[0] = 0
    for bad, reason in [(0.0, "zero"), (np.nan, "finite"), (np.inf, "finite")]:
        matrix[0] = bad
        np.save(pair, matrix)
        items = list(open_sources([pair], embeddings=encoder.fingerprint))
        assert isinstance(items[0], Failure)
        assert reason in items[0].reason
        assert isinstance(items[1], Sample)


def test_what_does_not_fit_is_refused_before_anything_is_stored(
    pair: Path, retrieval: Path, index: twinlens.Index, encoder: ColourEncoder
) -> None:
    def refused(path: Path, reason: str) -> None:
        with pytest.raises(SourceError, match=reason):
            index.ingest(path, embeddings_model=encoder.fingerprint)

    with pytest.raises(SourceError, match="--embeddings-model"):
        index.ingest(pair)
    alone = pair.with_name("alone.npy")
    np.save(alone, np.ones((2, DIM), dtype=np.float32))
    refused(alone, "needs alone.parquet")
    np.save(pair, np.ones((2, 512), dtype=np.float32))
    refused(pair, "512 numbers, but those of colours:none have 16")
    np.save(pair, np.ones((3, DIM), dtype=np.float32))
    refused(pair, "has 3 rows, but mine.parquet has 2")
    np.save(pair, np.array([[object()] * DIM] * 2), allow_pickle=True)
    refused(pair, "cannot be read")
    np.save(pair, np.ones(DIM, dtype=np.float32))
    refused(pair, "is not a matrix of floats")
    pair.write_bytes(b"\x93NUMPY\x01")
    refused(pair, "cannot be read")
    (retrieval / "metadata/metadata_01.parquet").unlink()
    refused(retrieval, "embeddings 1 have no metadata")


def test_another_model_than_the_collections_is_refused(
    pair: Path, photos: Path, index: twinlens.Index
) -> None:
    other = ColourEncoder("others").fingerprint
    with pytest.raises(ModelMismatchError):
        index.ingest(pair, embeddings_model=other)
    index.ingest(photos)
    with pytest.raises(ModelMismatchError):
        index.ingest(pair, embeddings_model=other)


def test_the_fingerprint_from_config_is_the_loaded_models(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    name = f"local-dir:{folder}"
    loaded = open_encoder(name, device="cpu").fingerprint
    assert fingerprint_from_config(name) == loaded
    assert fingerprint_from_config(str(folder)).digest == loaded.digest

    weights = folder / "open_clip_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.write_bytes(b"other weights")
    assert fingerprint_from_config(name).digest != loaded.digest


def test_the_fingerprint_from_config_of_a_checkpoint_is_the_loaded_models(tmp_path: Path) -> None:
    import open_clip
    import torch

    model = open_clip.create_model("RN50-quickgelu")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    name = f"RN50-quickgelu:{tmp_path}/weights.pt"
    assert fingerprint_from_config(name) == open_encoder(name, device="cpu").fingerprint


def test_the_fingerprint_from_config_of_tagged_weights_needs_no_weights() -> None:
    siglip = fingerprint_from_config("siglip2-b32")
    assert (siglip.dim, siglip.image_size, siglip.weights) == (768, 256, "webli")
    # SigLIP's own mean and resizing, not CLIP's.
    assert '"mean":[0.5,0.5,0.5]' in siglip.preprocess
    assert '"resize_mode":"squash"' in siglip.preprocess
    clip = fingerprint_from_config("openai-b32")
    assert (clip.dim, clip.image_size) == (512, 224)
    assert clip.preprocess != siglip.preprocess


def test_the_starters_fingerprint_from_config() -> None:
    try:
        loaded = open_encoder(STARTER, device="cpu").fingerprint
    except ModelError:
        pytest.skip("the small encoder is not installed")
    assert fingerprint_from_config(STARTER) == loaded


def test_a_model_declared_by_name_makes_the_collection_without_its_weights(
    tmp_path: Path,
) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    np.save(tmp_path / "x.npy", np.eye(DIM, dtype=np.float32)[:3])
    parquet.write_table(pa.table({"key": ["a", "b", "c"]}), tmp_path / "x.parquet")
    with twinlens.open(tmp_path / "t.db") as index:
        assert index.ingest(tmp_path / "x.npy", embeddings_model=str(folder)).images == 3
        assert index._model.loaded is None
        # The collection knows its model: words are encoded with the declared one.
        assert len(index.search("anything", limit=3)) == 3
        assert index.info().fingerprint == open_encoder(str(folder), device="cpu").fingerprint

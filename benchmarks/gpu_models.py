"""Encoders with random weights for ``gpu.py``: as quick as trained ones, and no download."""

from __future__ import annotations

import json
import logging
import os
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.search.models.base import Precision
from twinlens.search.models.compiled import ENVIRONMENT
from twinlens.search.models.fingerprint import Fingerprint, preprocess_digest
from twinlens.search.models.openclip import OpenClipEncoder
from twinlens.search.models.precision import loaded_precision, tune

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Model:
    """An architecture of OpenCLIP.

    Attributes:
        name: for the report.
        architecture: OpenCLIP's name.
        tokenizer: whether its tokenizer comes with OpenCLIP; others would be downloaded, so random
            tokens stand for their texts.
    """

    name: str
    architecture: str
    tokenizer: bool = True


MODELS = {
    one.name: one
    for one in (
        Model("b32", "ViT-B-32"),
        Model("siglip2-b16", "ViT-B-16-SigLIP2-256", tokenizer=False),
        Model("l14", "ViT-L-14"),
        Model("tiny", "Tiny-twinlens"),
    )
}
#: For trying the benchmark itself.
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
WORDS = (
    "a dog",
    "two men",
    "runs over the snow",
    "on a red boat",
    "near water",
    "while children",
    "play",
    "in front of",
    "an old building",
    "at night",
    "and people",
    "walk down a street",
)


def random_model(model: Model, device: torch.device, precision: Precision) -> tuple[Any, Any]:
    """A model of OpenCLIP with random weights on a device, and its tokenizer."""
    import open_clip
    import torch

    if model.name == "tiny":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{model.architecture}.json"
            path.write_text(json.dumps(TINY))
            open_clip.add_model_config(path)
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # that there are no weights
    try:
        made = open_clip.create_model(
            model.architecture,
            pretrained=None,
            precision=loaded_precision(precision, device),
            device=device,
        )
    finally:
        logging.disable(logging.NOTSET)
    if model.tokenizer:
        return made, open_clip.get_tokenizer(
            "ViT-B-32" if model.name == "tiny" else model.architecture
        )
    config = open_clip.get_model_config(model.architecture)["text_cfg"]

    def tokens(texts: list[str]) -> torch.Tensor:
        return torch.randint(3, config["vocab_size"], (len(texts), config["context_length"]))

    return made, tokens


def random_encoder(model: Model, device: str, precision: Precision) -> OpenClipEncoder:
    """An encoder of twinlens with random weights, which does not compile by itself.

    Args:
        model: the architecture.
        device: as torch names it.
        precision: as twinlens has it; "auto": bf16 on a GPU.
    """
    import torch

    where = torch.device(device)
    made, tokenizer = random_model(model, where, precision)
    tuned = tune(made, where, precision)
    config = made.visual.preprocess_cfg
    size = config["size"]
    side = size if isinstance(size, int) else size[0]
    with torch.inference_mode():
        dim = made.eval().encode_text(tokenizer(["a"]).to(device)).shape[-1]
    fingerprint = Fingerprint(model.architecture, "random", dim, side, preprocess_digest(config))
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = "never"
    try:
        return OpenClipEncoder(
            made, tokenizer, fingerprint, where, tuned.dtype, bulk_bf16=tuned.bulk_bf16
        )
    finally:
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Captions of the usual lengths: 11 words on average."""
    dice = random.Random(seed)
    lengths = [min(12, max(1, round(dice.gauss(5, 2)))) for _ in range(count)]
    return [" ".join(dice.choices(WORDS, k=length)) for length in lengths]

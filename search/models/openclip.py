"""Encode images and texts with an OpenCLIP model on one device."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import ModelError, first_line
from twinlens.search.models.base import MAX_TEXT, Pixels, Rows
from twinlens.search.models.catalogue import DIR_PREFIX, HUB_PREFIX, ModelSpec, import_openclip
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.openvino import MIN_BATCH, OpenVinoTower
from twinlens.search.models.preprocess import preparation
from twinlens.search.models.weights import fetch, hub_offline

if TYPE_CHECKING:
    import torch
    from PIL import Image

    Tokenize = Callable[[list[str]], torch.Tensor]


class OpenClipEncoder:
    """Any model with OpenCLIP's interface, on one device.

    Args:
        model: the loaded model; it must offer ``encode_image``, ``encode_text`` and ``visual``.
        tokenizer: ``list[str]`` → int64 ``[n, length]``.
        fingerprint: what to store with the collection.
        device: where the model is.
        dtype: what pixels are cast to before the image tower.
        openvino: encodes large batches of images instead of the model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenize,
        fingerprint: Fingerprint,
        device: torch.device,
        dtype: torch.dtype,
        openvino: OpenVinoTower | None = None,
    ) -> None:
        import torch

        self._model = model.eval()
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self._device = device
        self._dtype = dtype
        self._openvino = openvino
        config = model.visual.preprocess_cfg
        self._prepare = preparation(config)
        self._mean = torch.tensor(config["mean"], device=device).view(1, 3, 1, 1) * 255.0
        self._std = torch.tensor(config["std"], device=device).view(1, 3, 1, 1) * 255.0
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def image_batch(self) -> int:
        return 256 if self._device.type == "cuda" else 32

    @property
    def device(self) -> str:
        """Where the model is, as torch names it."""
        return str(self._device)

    @property
    def sigmoid(self) -> tuple[float, float] | None:
        """Scale and bias that turn a cosine into log odds; None for models other than SigLIP."""
        bias = getattr(self._model, "logit_bias", None)
        if bias is None:
            return None
        return float(self._model.logit_scale.detach().float().exp()), float(bias.detach())

    @property
    def logit_scale(self) -> float | None:
        """The factor on cosines before the softmax in training; None if the model has none."""
        scale = getattr(self._model, "logit_scale", None)
        return None if scale is None else float(scale.detach().float().exp())

    @property
    def model(self) -> Any:
        """The model itself, with OpenCLIP's methods."""
        return self._model

    @property
    def tokenizer(self) -> Tokenize:
        """The model's own tokenizer."""
        return self._tokenizer

    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """OpenCLIP's evaluation transform: an image → normalised float32 ``[3, side, side]``."""
        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = PreprocessCfg(**self._model.visual.preprocess_cfg)
        whole: Callable[[Image.Image], torch.Tensor] = image_transform_v2(config, is_train=False)
        return whole

    def prepare(self, image: Image.Image) -> Pixels:
        return self._prepare(image)

    def images(self, pixels: Pixels) -> Rows:
        import torch

        batch = torch.from_numpy(np.ascontiguousarray(pixels))
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        with self._lock, torch.inference_mode():
            batch = batch.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
            normalised = ((batch - self._mean) / self._std).to(self._dtype)
            if self._openvino is not None and len(normalised) >= MIN_BATCH:
                return _unit_rows(self._openvino(normalised))
            return _unit_rows(self._model.encode_image(normalised))

    def texts(self, texts: Sequence[str]) -> Rows:
        import torch

        tokens = self._tokenizer([text[:MAX_TEXT] for text in texts])
        with self._lock, torch.inference_mode():
            return _unit_rows(self._model.encode_text(tokens.to(self._device)))


def load_openclip(spec: ModelSpec, device: torch.device, precision: str) -> tuple[Any, Tokenize]:
    """Load a model and its tokenizer, fetching the weights if necessary.

    Raises:
        ModelError: the weights cannot be fetched, or do not fit the architecture.
    """
    open_clip = import_openclip()

    fetch(spec)
    has_scheme = spec.source.startswith((HUB_PREFIX, DIR_PREFIX))
    architecture = spec.source if has_scheme else spec.architecture
    weights = None if has_scheme else str(spec.checkpoint or spec.weights)
    with warnings.catch_warnings(), _without_logging(), hub_offline():
        warnings.simplefilter("ignore")
        try:
            model = open_clip.create_model(
                architecture,
                pretrained=weights,
                precision=precision,
                device=device,
                require_pretrained=True,
            )
            tokenizer = open_clip.get_tokenizer(architecture)
        except Exception as error:
            reason = first_line(error, 200)
            raise ModelError(f"{spec.source} does not load as {architecture}: {reason}") from error
    return model, tokenizer


@contextmanager
def _without_logging() -> Iterator[None]:
    """Silence OpenCLIP, which logs each of its attempts on the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _unit_rows(rows: torch.Tensor) -> Rows:
    import torch

    unit = torch.nn.functional.normalize(rows.float(), dim=-1)
    return unit.cpu().numpy()

"""Encode images and texts with an OpenCLIP model on one device."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import ModelError, first_line
from twinlens.search.models.base import PendingRows, Pixels, Rows
from twinlens.search.models.batch_size import BatchSize, is_out_of_memory
from twinlens.search.models.catalogue import DIR_PREFIX, HUB_PREFIX, ModelSpec, import_openclip
from twinlens.search.models.compiled import CompiledFunction, seconds_until_compiled
from twinlens.search.models.devices import Device, Mark, copy_module
from twinlens.search.models.encoding_queue import largest_batch
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.openvino import MIN_BATCH, OpenVinoTower
from twinlens.search.models.preprocess import Preparation, preparation
from twinlens.search.models.text_batches import MIN_BULK_TEXTS, TextBatches
from twinlens.search.models.weights import fetch, hub_offline

if TYPE_CHECKING:
    import torch
    from PIL import Image

    Tokenize = Callable[[list[str]], torch.Tensor]

_log = logging.getLogger("twinlens")
#: The most images that are tried at once on a GPU; fewer where those would take much memory.
MOST_IMAGES = 2_048


class OpenClipEncoder:
    """Any model with OpenCLIP's interface, on one device.

    Args:
        model: the loaded model; it must offer ``encode_image``, ``encode_text`` and ``visual``.
        tokenizer: ``list[str]`` → int64 ``[n, length]``.
        fingerprint: what to store with the collection.
        device: where the model is.
        dtype: what pixels are cast to before the image tower.
        bulk_bf16: compute many texts at once in bfloat16, on a CPU.
        openvino: encodes large batches of images instead of the model.

    Raises:
        UsageError: ``TWINLENS_COMPILE`` has an unknown value.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenize,
        fingerprint: Fingerprint,
        device: torch.device | Device,
        dtype: torch.dtype,
        *,
        bulk_bf16: bool = False,
        openvino: OpenVinoTower | None = None,
    ) -> None:
        import torch

        self._model = model.eval()
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self._device = device if isinstance(device, Device) else Device(device)
        self._dtype = dtype
        self._bulk_bf16 = bulk_bf16
        self._openvino = openvino
        where = self._device.where
        config = model.visual.preprocess_cfg
        self._prepare = preparation(config)
        self._mean = torch.tensor(config["mean"], device=where).view(1, 3, 1, 1) * 255.0
        self._std = torch.tensor(config["std"], device=where).view(1, 3, 1, 1) * 255.0
        gpu = where.type == "cuda"
        most = min(MOST_IMAGES, largest_batch(fingerprint.image_size))
        self._images = BatchSize(min(256, most), most) if gpu else BatchSize(32, 32)
        self._texts = BatchSize(1024, 1024) if gpu else BatchSize(64, 64)
        self._image_tower = CompiledFunction(self._image_rows, seconds_until_compiled(where))
        self._device_seconds = 0.0
        self._text_batches = TextBatches(model, tokenizer)
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def image_batch(self) -> int:
        """How many images are encoded at once; it grows on a GPU while that pays and fits."""
        return self._images.size

    @property
    def text_batch(self) -> int:
        """How many texts to encode at once for full speed."""
        return self._texts.size

    @property
    def image_tower(self) -> CompiledFunction:
        """uint8 ``[n, side, side, 3]`` on the device → float32 unit rows there, for benchmarks."""
        return self._image_tower

    @property
    def device_seconds(self) -> float:
        """Time that the device has spent on images, as it measured itself."""
        return self._device_seconds

    @property
    def device(self) -> str:
        """Where the model is, as torch names it."""
        return str(self._device.where)

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

    @property
    def preparation(self) -> Preparation:
        """``prepare`` for other processes."""
        return self._prepare

    def prepare(self, image: Image.Image) -> Pixels:
        return self._prepare(image)

    def images(self, pixels: Pixels) -> Rows:
        return self.begin_images(pixels)()

    def texts(self, texts: Sequence[str]) -> Rows:
        return self.begin_texts(texts)()

    def begin_images(self, pixels: Pixels | Sequence[Pixels]) -> PendingRows:
        """Hand any number of images to the device; the caller may change the pixels afterwards.

        Args:
            pixels: uint8 ``[n, side, side, 3]``, or a list of images.

        Returns:
            A function that waits for the rows, float32 ``[n, dim]``.

        Raises:
            ModelError: the device has too little memory for one image.
        """
        import torch

        launched: list[PendingRows] = []
        with self._lock, self._device.streams.current(), torch.inference_mode():
            start = 0
            while start < len(pixels):
                part = pixels[start : start + self._images.size]
                rows = self._unless_full(self._images, len(part), partial(self._launch, part))
                if rows is not None:
                    launched.append(rows)
                    start += len(part)
        return partial(self._joined, launched)

    def begin_texts(self, texts: Sequence[str]) -> PendingRows:
        """Hand any number of texts to the device, in batches of similar length.

        Returns:
            A function that waits for the rows, float32 ``[n, dim]``.

        Raises:
            ModelError: the device has too little memory for one text.
        """
        import torch

        if not texts:
            return partial(self._joined, [])
        launched: list[PendingRows] = []
        orders = []
        with self._lock, self._device.streams.current(), torch.inference_mode():
            for order, tokens in self._text_batches.split(texts, self._texts.size):
                waiting = [tokens]
                while waiting:
                    part = waiting[0]
                    launch = partial(self._launch_texts, part, len(texts) >= MIN_BULK_TEXTS)
                    rows = self._unless_full(self._texts, len(part), launch)
                    if rows is None:
                        waiting[:1] = part.chunk(2)
                    else:
                        launched.append(rows)
                        waiting.pop(0)
                orders.append(order)
        places = np.concatenate(orders)

        def wait() -> Rows:
            rows = self._joined(launched)
            sorted_rows = np.empty_like(rows)
            sorted_rows[places] = rows
            return sorted_rows

        return wait

    def copied_to(self, where: torch.device) -> OpenClipEncoder:
        """The same model on another device of the same kind; on a CPU with the same weights."""
        return OpenClipEncoder(
            self._model if where.type == "cpu" else copy_module(self._model, where),
            self._tokenizer,
            self._fingerprint,
            where,
            self._dtype,
            bulk_bf16=self._bulk_bf16,
        )

    def release(self) -> None:
        """Give memory of the device back that is kept for the next batches."""
        self._device.streams.release()

    def _unless_full(
        self, size: BatchSize, count: int, launch: Callable[[], PendingRows]
    ) -> PendingRows | None:
        """Launch a batch; ``None`` if memory ran out, and fewer items may fit."""
        try:
            return launch()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if count == 1:
                raise ModelError(
                    f"the device {self.device} has too little memory for {self._fingerprint.label}:"
                    " use --device cpu, a smaller model, or a device that nobody else uses"
                ) from error
        # Outside of the except clause: the error holds on to the tensors of the batch.
        size.ran_out(count)
        _log.info("out of memory with %d at once on %s: trying %d", count, self.device, size.size)
        self.release()
        return None

    def _launch(self, pixels: Pixels | Sequence[Pixels]) -> PendingRows:
        count = len(pixels)
        images = self._device.upload(pixels)
        began = self._device.streams.mark()
        if self._image_tower.is_due(count):
            with _unlocked(self._lock):  # queries need not wait for a minute
                self._image_tower.compile(images)
        rows = self._image_tower(images)
        done, wait = self._device.download(rows)
        return partial(self._measured, count, began, done, wait)

    def _measured(self, count: int, began: Mark, done: Mark, wait: Callable[[], Rows]) -> Rows:
        rows = wait()
        seconds = done.seconds_since(began)
        self._images.measured(count, seconds, self._device.streams.has_room)
        self._image_tower.worked(count, seconds)
        self._device_seconds += seconds
        return rows

    def _image_rows(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 ``[n, side, side, 3]`` on the device → float32 unit rows."""
        images = pixels.permute(0, 3, 1, 2).float()
        normalised = ((images - self._mean) / self._std).to(self._dtype)
        if self._openvino is not None and len(normalised) >= MIN_BATCH:
            return _unit_rows(self._openvino(normalised))
        return _unit_rows(self._model.encode_image(normalised))

    def _launch_texts(self, tokens: torch.Tensor, bulk: bool) -> PendingRows:
        import torch

        there = self._device.send(tokens)
        # One short text takes longer in bfloat16: the weights are cast for it alone.
        with torch.autocast("cpu", torch.bfloat16, enabled=bulk and self._bulk_bf16):
            rows = self._text_batches.encode(there)
        return self._device.download(_unit_rows(rows))[1]

    def _joined(self, launched: Sequence[PendingRows]) -> Rows:
        parts = [wait() for wait in launched]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, self._fingerprint.dim), dtype=np.float32), *parts])


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


@contextmanager
def _unlocked(lock: threading.Lock) -> Iterator[None]:
    """Release a lock that is held, and acquire it again afterwards."""
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


def _unit_rows(rows: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.normalize(rows.float(), dim=-1)

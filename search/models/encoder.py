"""OpenCLIP's two towers → L2-normalised float32 rows."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from twinlens.search.errors import ModelError, UsageError, first_line
from twinlens.search.models.catalogue import (
    DIR_PREFIX,
    HUB_PREFIX,
    STARTER,
    Fingerprint,
    ModelSpec,
    preprocess_digest,
    resolve,
)
from twinlens.search.models.openvino import BULK, OpenVinoTower

if TYPE_CHECKING:
    import torch
    from PIL import Image

Rows = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
#: A device of its own kind: the CPU, with large batches of pictures on OpenVINO.
OPENVINO = "openvino"
Precision = Literal["auto", "fp32", "fp16", "bf16"]
#: Kinds of device that a name can begin with; whether one is there, loading a model shows.
DEVICES = ("auto", "cpu", "cuda", "mps", OPENVINO, "hpu", "mtia", "npu", "xla", "xpu")
_DEVICE = re.compile(rf"({'|'.join(DEVICES)})(:\d+)?|cuda:all")

#: Texts longer than this many characters are cut before they are tokenised: every CLIP text tower
#: reads at most a few dozen tokens, and tokenisers take quadratic time on hostile input.
MAX_TEXT = 2_000


class Encoder(Protocol):
    """What the engine and the pipeline need of a model; safe to call from any thread."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What the embeddings are comparable with."""

    @property
    def image_batch(self) -> int:
        """How many pictures the device takes at once without waste."""

    def prepare(self, image: Image.Image) -> Pixels:
        """An upright RGB picture → uint8 ``[side, side, 3]``, by the model's own preprocessing."""

    def images(self, pixels: Pixels) -> Rows:
        """uint8 ``[n, side, side, 3]`` → float32 unit rows ``[n, dim]``."""

    def texts(self, texts: Sequence[str]) -> Rows:
        """``n`` texts → float32 unit rows ``[n, dim]``."""


class OpenClipEncoder:
    """Any OpenCLIP model on one device.

    Args:
        model: the loaded model; it must offer ``encode_image``, ``encode_text`` and ``visual``.
        tokenizer: ``list[str]`` → int64 ``[n, length]``.
        fingerprint: what to store with the collection.
        device: where the model lives.
        dtype: what pixels are cast to before the image tower.
        bulk: encodes large batches of pictures in the model's place.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], torch.Tensor],
        fingerprint: Fingerprint,
        device: torch.device,
        dtype: torch.dtype,
        bulk: OpenVinoTower | None = None,
    ) -> None:
        import torch

        self._bulk = bulk

        self._model = model.eval()
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint
        self._device = device
        self._dtype = dtype
        self._prepare = preparation(model.visual.preprocess_cfg)
        config = model.visual.preprocess_cfg
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
        return str(self._device)

    @property
    def sigmoid(self) -> tuple[float, float] | None:
        """Scale and bias that turn a cosine into log odds, of a model trained so (SigLIP)."""
        bias = getattr(self._model, "logit_bias", None)
        if bias is None:
            return None
        return float(self._model.logit_scale.detach().float().exp()), float(bias.detach())

    @property
    def logit_scale(self) -> float | None:
        """What the model's training multiplied cosines with before its softmax, if it says."""
        scale = getattr(self._model, "logit_scale", None)
        return None if scale is None else float(scale.detach().float().exp())

    @property
    def model(self) -> Any:
        """The model itself, with OpenCLIP's methods."""
        return self._model

    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """OpenCLIP's evaluation transform: a picture → normalised float32 ``[3, side, side]``."""
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
            if self._bulk is not None and len(normalised) >= BULK:
                return _unit_rows(self._bulk(normalised))
            return _unit_rows(self._model.encode_image(normalised))

    def texts(self, texts: Sequence[str]) -> Rows:
        import torch

        tokens = self._tokenizer([text[:MAX_TEXT] for text in texts])
        with self._lock, torch.inference_mode():
            return _unit_rows(self._model.encode_text(tokens.to(self._device)))


def check_device(device: str) -> None:
    """Raise ``UsageError`` for what can be no device anywhere; costs nothing."""
    for one in device.split(",") if isinstance(device, str) else [device]:
        if not isinstance(one, str) or (one.strip() and not _DEVICE.fullmatch(one.strip())):
            raise UsageError(
                f"there is no device {str(one)[:60]!r}: use auto, cpu, mps, cuda, cuda:1, "
                "cuda:all or openvino"
            )


def check_precision(precision: str) -> None:
    """Raise ``UsageError`` for a precision that there is not."""
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise UsageError(f"there is no precision {str(precision)[:60]!r}: use {known}")


def open_encoders(
    name: str | ModelSpec, *, device: str = "auto", precision: Precision = "auto"
) -> Encoder:
    """Like ``open_encoder``, on every device of a list: "cuda:0,cuda:1", or "cuda:all".

    Raises:
        UsageError: there is no such precision.
        ModelError: see ``open_encoder``.
    """
    check_precision(precision)
    import torch

    from twinlens.search.models.replicas import ReplicatedEncoder

    if device == "cuda:all":
        device = ",".join(f"cuda:{number}" for number in range(torch.cuda.device_count())) or "cuda"
    devices = [one.strip() for one in device.split(",") if one.strip()] or ["auto"]
    copies = [open_encoder(name, device=one, precision=precision) for one in devices]
    return copies[0] if len(copies) == 1 else ReplicatedEncoder(copies)


def open_encoder(
    name: str | ModelSpec, *, device: str = "auto", precision: Precision = "auto"
) -> OpenClipEncoder:
    """Load a model by name, hub id or checkpoint (see ``models.resolve``), or "auto".

    Raises:
        ModelError: there is no such model or device, or its weights cannot be fetched.
    """
    from twinlens.search.models.weights import LOADING

    with LOADING:
        return _open(name, device, precision)


def _open(name: str | ModelSpec, device: str, precision: Precision) -> OpenClipEncoder:
    from twinlens.search.models.weights import choose_model

    if isinstance(name, str):
        name = choose_model() if name == "auto" else resolve(name)
    spec = name
    bulk_bf16 = device == OPENVINO and precision in ("auto", "bf16") and has_native_bf16()
    if device == OPENVINO:
        # Torch is what it translates from, and what answers single queries.
        device, precision = "cpu", "fp32"
        tower_of: type[OpenVinoTower] | None = OpenVinoTower
    else:
        tower_of = None
    where = pick_device(device)
    if spec.architecture == STARTER:
        model, tokenizer, dtype = _load_starter(where, precision)
    else:
        numbers = _pick_precision(precision, where)
        model, tokenizer = _load_openclip(spec, where, numbers)
        dtype = _dtype(numbers)
        if precision == "auto" and where.type == "cpu" and has_native_bf16():
            # Twice the pictures a second; a short text alone would be slower for it.
            dtype = _dtype("bf16")
            model.visual.to(dtype)
    config = model.visual.preprocess_cfg
    size = config["size"]
    fingerprint = Fingerprint(
        architecture=spec.architecture,
        weights=spec.weights,
        dim=_dimension(model, tokenizer, where),
        image_size=int(size if isinstance(size, int) else size[0]),
        preprocess=preprocess_digest(config),
        source=spec.source,
    )
    tower = tower_of(model, fingerprint.image_size, bf16=bulk_bf16) if tower_of else None
    return OpenClipEncoder(model, tokenizer, fingerprint, where, dtype, tower)


def pick_device(device: str) -> torch.device:
    """ "auto" → cuda, then mps, then cpu; anything else is checked to be there."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"there is no device {device!r} here: use --device auto or cpu") from error
    return chosen


def has_native_bf16() -> bool:
    """Whether this processor computes in bfloat16, not merely emulates it."""
    import torch

    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def _pick_precision(precision: Precision, device: torch.device) -> str:
    import torch

    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "fp32"


def _dtype(precision: str) -> torch.dtype:
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)


def _load_starter(device: torch.device, precision: Precision) -> tuple[Any, Any, torch.dtype]:
    import torch

    from twinlens.search.models.starter import load_starter

    model, tokenizer = load_starter(dtype=None if precision == "auto" else _dtype(precision))
    # It casts to what its image tower computes in by itself.
    return model.to(device), tokenizer, torch.float32


def _load_openclip(
    spec: ModelSpec, device: torch.device, precision: str
) -> tuple[Any, Callable[[list[str]], torch.Tensor]]:
    import open_clip

    from twinlens.search.models.weights import fetch, from_cache

    fetch(spec)
    schema = spec.source.startswith((HUB_PREFIX, DIR_PREFIX))
    architecture = spec.source if schema else spec.architecture
    weights = None if schema else str(spec.checkpoint or spec.weights)
    with warnings.catch_warnings(), _quiet(), from_cache():
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


class _quiet:  # noqa: N801 - reads as a statement where it is used
    """OpenCLIP logs what it tries on the root logger; people only need the outcome."""

    def __enter__(self) -> None:
        self._was = logging.root.manager.disable
        logging.disable(logging.ERROR)

    def __exit__(self, *exc: object) -> None:
        logging.disable(self._was)


def preparation(config: Any) -> Callable[[Image.Image], Pixels]:
    """``Encoder.prepare`` for an OpenCLIP preprocessing configuration.

    OpenCLIP's own evaluation transform up to the last uint8 picture, before tensors begin.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Compose, Normalize, ToTensor

    steps = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms
    if not isinstance(steps[-1], Normalize):
        raise ModelError("this OpenCLIP release preprocesses pictures in an order unknown here")
    resize: Callable[[Image.Image], Image.Image] = Compose(
        [step for step in steps[:-1] if not isinstance(step, ToTensor)]
    )

    def prepare(image: Image.Image) -> Pixels:
        resized = resize(image)
        # A copy: Pillow's own buffer is read-only, which torch will not have.
        return np.array(resized if resized.mode == "RGB" else resized.convert("RGB"))

    return prepare


def _dimension(model: Any, tokenizer: Callable[[list[str]], torch.Tensor], device: Any) -> int:
    import torch

    with torch.inference_mode():
        return int(model.encode_text(tokenizer(["a"]).to(device)).shape[-1])


def _unit_rows(rows: torch.Tensor) -> Rows:
    import torch

    unit = torch.nn.functional.normalize(rows.float(), dim=-1)
    return unit.cpu().numpy()

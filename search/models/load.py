"""Choose a model, an engine, a device and a precision, and load the encoder.

On a CPU queries run on ONNX Runtime, from towers that were exported once; torch is not imported.
Ingest uses torch where there is an accelerator or native bfloat16, else ONNX Runtime as well.
"""

from __future__ import annotations

import ctypes.util
import json
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from twinlens.search.errors import ModelError
from twinlens.search.models.base import OPENVINO, Encoder, Precision, check_precision
from twinlens.search.models.catalogue import (
    RECOMMENDED,
    STARTER,
    ModelSpec,
    has_openclip,
    import_openclip,
    resolve,
)
from twinlens.search.models.fingerprint import Fingerprint, preprocess_digest
from twinlens.search.models.onnx import MANIFEST, find_export, open_export
from twinlens.search.models.openclip import OpenClipEncoder, load_openclip
from twinlens.search.models.openvino import OpenVinoTower
from twinlens.search.models.precision import (
    TunedModel,
    dtype_of,
    has_native_bf16,
    loaded_precision,
    tune,
)
from twinlens.search.models.replicas import ReplicatedEncoder
from twinlens.search.models.starter_export import build_starter, starter_fingerprint
from twinlens.search.models.weights import LOADING, hub_obstacle, is_cached
from twinlens.search.paths import cache_folder

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("twinlens")
#: What the drivers of NVIDIA, AMD, WSL, Intel and Habana devices create on Linux.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/accel", "/dev/hl0")
#: The encoders that something in this process refers to.
_IN_USE: WeakValueDictionary[
    tuple[ModelSpec, tuple[str, ...], Precision], OpenClipEncoder | ReplicatedEncoder
] = WeakValueDictionary()


def open_query_encoder(
    fingerprint: Fingerprint, *, device: str = "auto", precision: Precision = "auto"
) -> Encoder | None:
    """Open a model for queries, from its exported towers on the CPU, without importing torch.

    Returns:
        The encoder; ``None`` if another device or precision is asked for, or there is no export.

    Raises:
        ModelError: it is ``starter``, and its packages are not installed.
    """
    if device.strip() not in ("auto", "cpu", "") or precision not in ("auto", "fp32"):
        return None
    if fingerprint.architecture == STARTER and find_export(fingerprint) is None:
        build_starter(fingerprint)
    return open_export(fingerprint)


def has_accelerator() -> bool:
    """Whether this machine may have a device that torch computes faster on than on the CPU.

    It looks for drivers and does not import torch.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return ctypes.util.find_library("nvcuda") is not None
    return any(Path(driver).exists() for driver in _DRIVERS)


def export_for_queries(fingerprint: Fingerprint) -> None:
    """Export a model's towers, unless they are exported already or have no name to load them by.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if not fingerprint.source or find_export(fingerprint) is not None:
        return
    from twinlens.search.models.export import export_model

    with LOADING:
        encoder = open_encoder(fingerprint.source, device="cpu", precision="fp32")
        if encoder.fingerprint.digest == fingerprint.digest:
            export_model(encoder)


def open_for_queries(name: str, *, device: str = "auto", precision: Precision = "auto") -> Encoder:
    """Open a model for queries by its name, without importing torch if it can do without.

    Raises:
        UsageError, ModelError: see ``open_encoders``.
    """
    check_precision(precision)
    spec = choose_model() if name == "auto" else resolve(name)
    starter = spec.architecture == STARTER
    fingerprint = starter_fingerprint() if starter else _find_exported(spec)
    encoder = None
    if fingerprint is not None:
        encoder = open_query_encoder(fingerprint, device=device, precision=precision)
    return encoder or open_encoders(spec, device=device, precision=precision)


def _find_exported(spec: ModelSpec) -> Fingerprint | None:
    """The fingerprint of a model whose exports can be used, found by its name alone."""
    for file in sorted(cache_folder("models").glob(f"*/{MANIFEST}")):
        try:
            stored = Fingerprint.from_json(
                json.dumps(json.loads(file.read_text("utf-8"))["fingerprint"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged; find_export says so for the model it belongs to
        if (stored.architecture, stored.weights) == (spec.architecture, spec.weights):
            export = find_export(stored)
            if export is not None and not export.problem:
                return stored
    return None


def open_encoders(
    name: str | ModelSpec, *, device: str = "auto", precision: Precision = "auto"
) -> Encoder:
    """Load a model, with a copy on each device of a list: "cuda:0,cuda:1", or "all".

    A model that this process has in use on the same devices is not loaded again. ``starter`` runs
    on ONNX Runtime where there is no accelerator: it is as fast as torch there.

    Raises:
        UsageError: there is no such precision.
        ModelError: see ``open_encoder``.
    """
    check_precision(precision)
    if isinstance(name, str):
        name = choose_model() if name == "auto" else resolve(name)
    if name.architecture == STARTER and (device == "cpu" or not has_accelerator()):
        encoder = open_query_encoder(starter_fingerprint(), device=device, precision=precision)
        if encoder is not None:
            return encoder
    import_openclip()
    devices = _list_devices(device)
    with LOADING:
        key = (name, devices, precision)
        found = _IN_USE.get(key)
        if found is None:
            found = _IN_USE[key] = _open_copies(name, devices, precision)
        return found


def _list_devices(device: str) -> tuple[str, ...]:
    import torch

    if device.strip() == "all":
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) or ("auto",)
    return tuple(one.strip() for one in device.split(",") if one.strip()) or ("auto",)


def _open_copies(
    spec: ModelSpec, devices: Sequence[str], precision: Precision
) -> OpenClipEncoder | ReplicatedEncoder:
    """Load a model on the first device, and copy it to others of its kind."""
    copies = [open_encoder(spec, device=devices[0], precision=precision)]
    for device in devices[1:]:
        alike = device.partition(":")[0] == devices[0].partition(":")[0] != OPENVINO
        copies.append(
            copies[0].copied_to(pick_device(device))
            if alike
            else open_encoder(spec, device=device, precision=precision)
        )
    return copies[0] if len(copies) == 1 else ReplicatedEncoder(copies)


def open_encoder(
    name: str | ModelSpec, *, device: str = "auto", precision: Precision = "auto"
) -> OpenClipEncoder:
    """Load a model on one device.

    Args:
        name: "auto" (see ``choose_model``) or a name that ``catalogue.resolve`` accepts.
        device: as torch names it, "auto" or "openvino".
        precision: "auto" is what the device is fastest with at the same ranking.

    Raises:
        ModelError: there is no such model or device, or its weights cannot be fetched.
    """
    import_openclip()
    with LOADING:
        if isinstance(name, str):
            name = choose_model() if name == "auto" else resolve(name)
        return _open(name, device, precision)


def choose_model(recommended: str = RECOMMENDED) -> ModelSpec:
    """Choose the model of a new collection, for "auto".

    Returns:
        The recommended model if its weights are on this machine or can be fetched; otherwise
        ``starter`` as a fallback, with a log line that says how to get the recommended one.
    """
    if has_openclip():
        best = resolve(recommended)
        if is_cached(best):
            return best
        obstacle = hub_obstacle()
        if not obstacle:
            return best
    else:
        obstacle = "torch and OpenCLIP are not installed"
    try:
        starter = resolve(STARTER)
    except ModelError:
        # No fallback is installed; loading the recommended model will report the obstacle.
        return resolve(recommended)
    _log.warning(
        "using the small built-in encoder, %s: %s is better, but %s. Later, `twinlens reindex "
        "--model %s` changes a collection to it",
        STARTER, recommended, obstacle, recommended,
    )  # fmt: skip
    return starter


def _open(spec: ModelSpec, device: str, precision: Precision) -> OpenClipEncoder:
    import torch

    use_openvino = device == OPENVINO
    bulk_bf16 = use_openvino and precision in ("auto", "bf16") and has_native_bf16()
    if use_openvino:
        # Torch keeps the model that OpenVINO converts, and encodes small batches with it.
        device, precision = "cpu", "fp32"
    where = pick_device(device)
    if spec.architecture == STARTER:
        model, tokenizer = _load_starter(where, precision)
        # Its image tower casts the pixels to its own dtype.
        tuned = TunedModel(torch.float32)
    else:
        model, tokenizer = load_openclip(spec, where, loaded_precision(precision, where))
        tuned = tune(model, where, precision)
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
    tower = OpenVinoTower(model, fingerprint.image_size, bf16=bulk_bf16) if use_openvino else None
    return OpenClipEncoder(
        model,
        tokenizer,
        fingerprint,
        where,
        tuned.dtype,
        bulk_bf16=bulk_bf16 or tuned.bulk_bf16,
        openvino=tower,
    )


def pick_device(device: str) -> torch.device:
    """Choose cuda, else mps, else the CPU for "auto"; check that any other device is present.

    Raises:
        ModelError: this machine has no such device.
    """
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


def _load_starter(device: torch.device, precision: Precision) -> tuple[Any, Any]:
    from twinlens.search.models.starter import load_starter

    chosen = ("bf16" if has_native_bf16() else "fp32") if precision == "auto" else precision
    model, tokenizer = load_starter(dtype=dtype_of(chosen))
    return model.to(device), tokenizer


def _dimension(model: Any, tokenizer: Any, device: torch.device) -> int:
    import torch

    with torch.inference_mode():
        return int(model.encode_text(tokenizer(["a"]).to(device)).shape[-1])

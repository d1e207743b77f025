"""Choose in which number format a model computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinlens.search.models.base import Precision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TunedModel:
    """How a model computes on its device.

    Attributes:
        dtype: of the pixels that its image tower takes.
        bulk_bf16: whether many texts at once are computed in bfloat16, on a CPU.
    """

    dtype: torch.dtype
    bulk_bf16: bool = False


def has_native_bf16() -> bool:
    """Whether this processor computes in bfloat16 itself, rather than emulating it."""
    import torch

    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def loaded_precision(precision: Precision, device: torch.device) -> str:
    """The precision to load a model of OpenCLIP with; "auto" is the quickest of its ranking."""
    import torch

    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "fp32"


def tune(model: Any, device: torch.device, precision: Precision) -> TunedModel:
    """Change a model of OpenCLIP that was loaded with ``loaded_precision`` to run well there."""
    import torch

    if device.type == "cuda":
        # Pixels arrive so; convolutions need not reorder their weights for each batch then.
        model.visual.to(memory_format=torch.channels_last)
    if precision == "auto" and device.type == "cpu" and has_native_bf16():
        # Images take half the time in bfloat16, and many texts too; one short text takes longer.
        model.visual.to(torch.bfloat16)
        return TunedModel(torch.bfloat16, bulk_bf16=True)
    return TunedModel(dtype_of(loaded_precision(precision, device)))


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of a precision that is not "auto"."""
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)

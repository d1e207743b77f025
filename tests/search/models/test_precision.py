"""Choose the number format of a model for its device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.hub import make_tiny_model

from twinlens.search.models.load import open_encoder
from twinlens.search.models.precision import dtype_of, loaded_precision, tune

NATIVE = "twinlens.search.models.precision.has_native_bf16"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_is_the_quickest_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    assert loaded_precision("auto", CUDA) == "bf16"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    assert loaded_precision("auto", CUDA) == "fp16"
    assert loaded_precision("auto", CPU) == "fp32"
    assert loaded_precision("fp16", CUDA) == "fp16"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_pixels_have_the_precision_that_is_asked_for(precision: str, tmp_path: Path) -> None:
    model = open_encoder(str(make_tiny_model(tmp_path / "m")), device="cpu").model
    tuned = tune(model, CUDA, precision)  # type: ignore[arg-type]
    assert (tuned.dtype, tuned.bulk_bf16) == (dtype_of(precision), False)
    assert model.visual.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("native", [False, True])
def test_a_cpu_uses_bfloat16_if_it_computes_in_it(
    native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NATIVE, lambda: native)
    folder = str(make_tiny_model(tmp_path / "m"))
    model = open_encoder(folder, device="cpu", precision="fp32").model
    tuned = tune(model, CPU, "auto")
    assert tuned.dtype == model.visual.conv1.weight.dtype == dtype_of("bf16" if native else "fp32")
    assert tuned.bulk_bf16 is native
    assert model.token_embedding.weight.dtype == torch.float32

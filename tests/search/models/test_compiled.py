"""Compile a tower after a while; where that fails, go on without."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from twinlens.search.errors import UsageError
from twinlens.search.models.compiled import (
    COMPILE_AFTER,
    ENVIRONMENT,
    MIN_COUNT,
    CompiledFunction,
    seconds_until_compiled,
)
from twinlens.search.models.load import open_encoder

BATCH = torch.eye(4)


def unit(batch: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(batch + 1, dim=-1)


def test_it_is_due_after_the_time_and_only_once() -> None:
    function = CompiledFunction(unit, after=10.0, backend="eager")
    for seconds in (4.0, 5.9, 0.2):
        assert not function.is_due(MIN_COUNT)
        function.worked(MIN_COUNT, seconds)
    assert function.is_due(MIN_COUNT)
    function.compile(BATCH)
    assert function.is_compiled
    assert not function.is_due(MIN_COUNT)


def test_it_is_due_for_batches_of_the_usual_size() -> None:
    function = CompiledFunction(unit, after=0.0, backend="eager")
    for count in (512, 256, 256, 256, 100):
        function.worked(count, 1.0)
    assert [count for count in (1, 100, 256, 512) if function.is_due(count)] == [256]


def test_it_is_not_due_for_queries() -> None:
    function = CompiledFunction(unit, after=0.0, backend="eager")
    for _ in range(100):
        function.worked(1, 1.0)
    assert not function.is_due(1)


def test_rows_are_the_same_whether_compiled_for_their_count_or_not() -> None:
    function = CompiledFunction(unit, after=0.0, backend="eager")
    function.compile(BATCH)
    for count in (1, 3, 4):
        torch.testing.assert_close(function(BATCH[:count]), unit(BATCH[:count]))


def test_it_is_never_due_without_a_time() -> None:
    function = CompiledFunction(unit, after=None, backend="eager")
    function.worked(MIN_COUNT, 1e9)
    assert not function.is_due(MIN_COUNT)


def test_a_compiler_that_fails_costs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    function = CompiledFunction(unit, after=0.0, backend=broken)
    with caplog.at_level(logging.WARNING, "twinlens"):
        function.compile(BATCH)
    torch.testing.assert_close(function(BATCH), unit(BATCH))
    assert not function.is_compiled
    assert not function.is_due(MIN_COUNT)
    (record,) = caplog.records
    assert record.getMessage().startswith("the model runs uncompiled: ")
    assert "\n" not in record.getMessage()


def test_a_compiled_model_with_other_rows_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def wrong(module: torch.fx.GraphModule, example: object) -> object:
        return lambda *inputs: [one.flip(1) for one in module(*inputs)]

    function = CompiledFunction(unit, after=0.0, backend=wrong)
    with caplog.at_level(logging.WARNING, "twinlens"):
        function.compile(BATCH)
    torch.testing.assert_close(function(BATCH), unit(BATCH))
    assert not function.is_compiled
    assert "deviates" in caplog.text


def test_an_encoder_compiles_its_image_tower_when_asked(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, "always")
    encoder = open_encoder(str(tiny_model), device="cpu", precision="fp32")
    monkeypatch.setattr(encoder.image_tower, "_backend", "eager")
    pixels = np.random.default_rng(0).integers(0, 256, (33, 32, 32, 3), dtype=np.uint8)
    alone = np.concatenate([encoder.images(pixels[i : i + 1]) for i in range(33)])
    assert not encoder.image_tower.is_compiled  # batches of one are not worth it
    for _ in range(3):
        np.testing.assert_allclose(encoder.images(pixels), alone, rtol=0, atol=1e-5)
    assert encoder.image_tower.is_compiled


def test_only_long_runs_on_a_gpu_are_compiled_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert seconds_until_compiled(gpu) == COMPILE_AFTER
    assert seconds_until_compiled(cpu) is None
    monkeypatch.setenv(ENVIRONMENT, "never")
    assert seconds_until_compiled(gpu) is None
    monkeypatch.setenv(ENVIRONMENT, "always")
    assert seconds_until_compiled(cpu) == 0.0
    monkeypatch.setenv(ENVIRONMENT, "yes")
    with pytest.raises(UsageError, match=f"{ENVIRONMENT} is 'yes': use auto, never or always"):
        seconds_until_compiled(cpu)

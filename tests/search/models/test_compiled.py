"""Compile a tower after a while; where that fails, go on without."""

from __future__ import annotations

import logging

import pytest
import torch

from twinlens.search.errors import UsageError
from twinlens.search.models.compiled import (
    COMPILE_AFTER,
    ENVIRONMENT,
    CompiledFunction,
    seconds_until_compiled,
)

BATCH = torch.eye(4)


def unit(batch: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(batch + 1, dim=-1)


def test_it_is_compiled_with_the_first_full_batch_after_the_time() -> None:
    function = CompiledFunction(unit, after=10.0, backend="eager")
    for seconds in (4.0, 5.9, 0.2):
        torch.testing.assert_close(function(BATCH, full=True), unit(BATCH))
        assert not function.is_compiled
        function.worked(seconds)
    function(BATCH[:2], full=False)
    assert not function.is_compiled
    torch.testing.assert_close(function(BATCH, full=True), unit(BATCH))
    assert function.is_compiled


def test_other_counts_than_the_compiled_one_run_uncompiled() -> None:
    function = CompiledFunction(unit, after=0.0, backend="eager")
    function(BATCH, full=True)
    for count in (1, 3, 4):
        torch.testing.assert_close(function(BATCH[:count], full=False), unit(BATCH[:count]))


def test_it_is_never_compiled_without_a_time() -> None:
    function = CompiledFunction(unit, after=None, backend="eager")
    function.worked(1e9)
    function(BATCH, full=True)
    assert not function.is_compiled


def test_a_compiler_that_fails_costs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    function = CompiledFunction(unit, after=0.0, backend=broken)
    with caplog.at_level(logging.WARNING, "twinlens"):
        for _ in range(3):
            torch.testing.assert_close(function(BATCH, full=True), unit(BATCH))
    assert not function.is_compiled
    (record,) = caplog.records
    assert record.getMessage().startswith("the model runs uncompiled: ")
    assert "\n" not in record.getMessage()


def test_a_compiled_model_with_other_rows_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def wrong(module: torch.fx.GraphModule, example: object) -> object:
        return lambda *inputs: [one.flip(1) for one in module(*inputs)]

    function = CompiledFunction(unit, after=0.0, backend=wrong)
    with caplog.at_level(logging.WARNING, "twinlens"):
        torch.testing.assert_close(function(BATCH, full=True), unit(BATCH))
    assert not function.is_compiled
    assert "deviates" in caplog.text


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

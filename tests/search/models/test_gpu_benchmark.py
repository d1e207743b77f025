"""``benchmarks/gpu.py`` runs without a GPU, too, and reports what it could not measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    return gpu


def test_it_measures_every_part_on_a_cpu(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(benchmark, "measure_decoding", lambda *rest: {"pictures/s": 100.0})
    files = ["--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]
    tiny = ["--device", "cpu", "--quick", "--models", "tiny", "--pictures", "12"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *tiny, *files])
    benchmark.main()
    found = json.loads((tmp_path / "r.json").read_text())
    parts = found["parts"]
    assert not [part for part in parts.values() if "failed" in part or "skipped" in part]
    name = "Tiny-twinlens, random weights, precision auto"
    assert parts[f"{name}, not compiled"]["encoder, images/s"] > 0
    assert parts[f"{name}, a plain loop"]["plain loop, images/s"] > 0
    assert parts[f"{name}, texts"]["ratio"] > 0
    ingest = parts[f"{name}, ingest"]
    assert ingest["pictures"] == 12
    lower = min(ingest["ceiling of the encoder, images/s"], 100)
    assert ingest["ratio to the lower one"] == pytest.approx(ingest["ingest, pictures/s"] / lower)
    assert found["machine"]["pictures"].startswith("12 of 500x375")
    report = (tmp_path / "r.md").read_text()
    assert f"## {name}, ingest" in report
    assert report.strip() in capsys.readouterr().out


def test_a_part_that_fails_or_has_no_time_says_so_and_the_others_follow(benchmark: Any) -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError("no such card\nat all")

    report = benchmark.Report(minutes=1)
    assert report.run("first", fail) == {}
    assert report.run("second", lambda: {"x/s": 12_345.6}) == {"x/s": 12_345.6}
    assert report.run("third", lambda: {"y": 1.0}, needs=3_600) == {}
    assert report.parts["first"] == {"failed": "RuntimeError: no such card"}
    assert report.parts["third"]["skipped"].startswith("needs 3600 s, ")
    text = report.markdown({"processor": "a processor", "date": "today"})
    assert "| x/s | 12,346 |" in text
    assert "processor a processor, date today" in text


def test_an_unknown_model_is_named(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--models", "b99"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "there is no model 'b99': use some of b32, siglip2-b16" in capsys.readouterr().err


def test_the_busy_time_is_the_union_of_kernels(benchmark: Any) -> None:
    import gpu_busy

    assert gpu_busy.length_of([(0, 2), (1, 3), (5, 6), (5.5, 5.6)]) == 4
    assert gpu_busy.length_of([]) == 0


def test_samples_that_are_no_numbers_are_left_out(benchmark: Any) -> None:
    import gpu_busy

    output = "10, 500, 70.5, 1980\n30, 700, [N/A], 1980\n\n"
    assert gpu_busy.means_of(output) == {
        "utilization.gpu": 20.0,
        "memory.used": 600.0,
        "power.draw": 70.5,
        "clocks.sm": 1980.0,
    }
    assert gpu_busy.means_of("") == {}


def test_nothing_is_sampled_without_a_gpu(benchmark: Any) -> None:
    import gpu_busy

    with gpu_busy.sampled("cpu") as samples, gpu_busy.profiled("cpu") as shares:
        pass
    assert samples.means == {}
    assert shares.kernels is None

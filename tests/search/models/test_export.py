"""Models are exported once and run without torch: the same rows, checked, and never half a file."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.hub import make_tiny_model

from twinlens.search.errors import ModelError
from twinlens.search.models import (
    export,
    load,
    onnx,
    starter_export,
    starter_weights,
    towers,
)
from twinlens.search.models.base import MAX_TEXT
from twinlens.search.models.export import PROBE_TEXTS, export_model, probe_images
from twinlens.search.models.onnx import OnnxEncoder, find_export, open_export
from twinlens.search.models.openclip import OpenClipEncoder
from twinlens.search.models.sessions import RUNS_UNTIL_PACKED, Tower, open_session, save_mappable
from twinlens.search.models.tokenizer import ExportedTokenizer, TokenizerSpec
from twinlens.search.models.towers import can_shorten


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def torchs(tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"), seed=3)
    return load.open_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def exported(torchs: OpenClipEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export of the tiny model, to be copied into a test's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLENS_CACHE", str(tmp_path_factory.mktemp("exported")))
        made = export_model(torchs)
    assert made is not None
    return made.folder


@pytest.fixture
def placed(exported: Path, torchs: OpenClipEncoder) -> Path:
    folder = onnx.export_folder(torchs.fingerprint)
    shutil.copytree(exported, folder)
    return folder


def opened(torchs: OpenClipEncoder) -> OnnxEncoder:
    encoder = open_export(torchs.fingerprint)
    assert encoder is not None
    return encoder


def test_rows_are_torchs(torchs: OpenClipEncoder, placed: Path) -> None:
    encoder = opened(torchs)
    texts = list(PROBE_TEXTS)
    np.testing.assert_allclose(encoder.texts(texts), torchs.texts(texts), atol=1e-5)
    pixels = probe_images(32, 32)
    np.testing.assert_allclose(encoder.images(pixels), torchs.images(pixels), atol=1e-5)
    picture = Image.effect_noise((70, 45), 90).convert("RGB")
    np.testing.assert_array_equal(encoder.prepare(picture), torchs.prepare(picture))


def test_it_says_of_itself_what_torchs_says(torchs: OpenClipEncoder, placed: Path) -> None:
    encoder = opened(torchs)
    assert encoder.fingerprint == torchs.fingerprint
    assert encoder.sigmoid == torchs.sigmoid
    assert encoder.logit_scale == torchs.logit_scale
    assert encoder.device == "cpu"
    assert encoder.texts([]).shape == (0, torchs.fingerprint.dim)


def test_hostile_texts_are_cut_before_they_are_read(torchs: OpenClipEncoder, placed: Path) -> None:
    encoder, long = opened(torchs), "ab" * MAX_TEXT
    np.testing.assert_array_equal(encoder.texts([long]), encoder.texts([long[:MAX_TEXT]]))


def test_the_deviation_is_recorded(torchs: OpenClipEncoder, placed: Path) -> None:
    found = find_export(torchs.fingerprint)
    assert found is not None
    assert found.problem == ""
    assert 0 <= found.text_deviation < 1e-4
    assert 0 <= found.image_deviation < 1e-4


def test_a_model_is_exported_once(
    torchs: OpenClipEncoder, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "export_tower", lambda *_: pytest.fail("exported again"))
    assert export_model(torchs) == find_export(torchs.fingerprint)


def test_rows_that_deviate_are_not_used(
    torchs: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "MIN_COSINE", 1.1)
    with caplog.at_level(logging.WARNING, "twinlens"):
        made = export_model(torchs)
    assert made is not None
    assert "deviates" in made.problem
    assert "queries will load torch" in caplog.text
    assert [path.name for path in made.folder.iterdir()] == [onnx.MANIFEST]
    assert open_export(torchs.fingerprint) is None
    monkeypatch.setattr(export, "export_tower", lambda *_: pytest.fail("tried again"))
    assert export_model(torchs) == made


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / onnx.TEXT).write_bytes(b"short"),
        lambda folder: (folder / onnx.IMAGE).unlink(),
        lambda folder: (folder / onnx.TOKENIZER).unlink(),
        lambda folder: (folder / onnx.MANIFEST).write_text("{"),
        lambda folder: (folder / onnx.MANIFEST).write_text("[]"),
        lambda folder: (folder / onnx.MANIFEST).unlink(),
    ],
    ids=["cut", "no image tower", "no tokenizer", "half a manifest", "another's", "no manifest"],
)
def test_a_damaged_export_is_not_used_and_made_again(
    torchs: OpenClipEncoder,
    placed: Path,
    exported: Path,
    damage: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def copy(folder: Path, *_: object) -> float:
        ignored = shutil.ignore_patterns(onnx.MANIFEST)
        shutil.copytree(exported, folder, ignore=ignored, dirs_exist_ok=True)
        return 0.0

    # Exporting takes seconds; the files are those of an export.
    monkeypatch.setattr(export, "_export_text", copy)
    monkeypatch.setattr(export, "_export_image", copy)
    damage(placed)
    assert open_export(torchs.fingerprint) is None
    assert export_model(torchs) is not None
    assert open_export(torchs.fingerprint) is not None


def test_weights_lie_beside_the_graphs(placed: Path) -> None:
    for name in (onnx.IMAGE, onnx.TEXT):
        graph, weights = placed / name, (placed / name).with_suffix(".weights")
        assert graph.stat().st_size < weights.stat().st_size
    assert [path for path in placed.iterdir() if path.is_dir()] == []


def test_texts_are_not_padded_where_that_changes_nothing(
    torchs: OpenClipEncoder, placed: Path
) -> None:
    assert can_shorten(torchs.model)
    spec = TokenizerSpec(**json.loads((placed / onnx.TOKENIZER).read_text()))
    tokens = ExportedTokenizer(spec)
    assert tokens(["a"]).shape == (1, 3)
    assert tokens(["a", "a dog"]).tolist()[0][3:] == [0]
    assert tokens(["word " * 200]).shape == (1, spec.length)
    assert tokens([]).shape == (0, 0)
    torchs.model.text_pool_type, pooled = "last", torchs.model.text_pool_type
    try:
        assert not can_shorten(torchs.model)
    finally:
        torchs.model.text_pool_type = pooled


def test_another_exporter_is_tried_if_the_first_one_fails(
    torchs: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def failing(*_: object) -> None:
        tried.append("first")
        raise RuntimeError("an operator without ONNX form")

    def second(tower: Any, example: Any, name: str, free: dict[int, str], path: Path) -> None:
        tried.append("second")
        towers.write_by_tracing(tower, example, name, free, path)

    monkeypatch.setattr(towers, "EXPORTERS", (failing, second))
    made = export_model(torchs)
    assert made is not None
    assert made.problem == ""
    assert tried == ["first", "second"] * 2
    shutil.rmtree(made.folder)
    monkeypatch.setattr(towers, "EXPORTERS", (failing,))
    made = export_model(torchs)
    assert made is not None
    assert made.problem == "an operator without ONNX form"
    assert "queries will load torch" in caplog.text


def test_the_newer_exporter_gives_the_same_rows(torchs: OpenClipEncoder, tmp_path: Path) -> None:
    pixels = probe_images(32, 32)
    tower = towers.image_tower(torchs.model)
    example = torch.from_numpy(pixels[:2])
    towers.write_with_dynamo(tower, example, "pixels", {0: "batch"}, tmp_path / "whole.onnx")
    save_mappable(tmp_path / "whole.onnx", tmp_path / "image.onnx")
    rows = Tower(tmp_path / "image.onnx")(pixels)
    np.testing.assert_allclose(rows, torchs.images(pixels), atol=1e-5)


def test_many_runs_give_the_same_rows(torchs: OpenClipEncoder, placed: Path) -> None:
    tower = Tower(placed / onnx.IMAGE)
    pixels = probe_images(32, 32)
    first = tower(pixels)
    unpacked = tower._session
    for _ in range(RUNS_UNTIL_PACKED):
        np.testing.assert_allclose(tower(pixels), first, atol=1e-6)
    assert tower._session is not unpacked


def test_fixed_texts_are_encoded_once(
    torchs: OpenClipEncoder, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a dog", "two dogs"]
    rows = opened(torchs).fixed_texts(texts)
    np.testing.assert_allclose(rows, torchs.texts(texts), atol=1e-5)
    other = opened(torchs).fixed_texts(["a dog", "a cat"])
    assert not np.allclose(other, rows)
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEncoder, "texts", lambda *_: pytest.fail("encoded again"))
        np.testing.assert_array_equal(opened(torchs).fixed_texts(texts), rows)
    for file in placed.glob("texts-*.npy"):
        file.write_bytes(file.read_bytes()[:-7])
    np.testing.assert_array_equal(opened(torchs).fixed_texts(texts), rows)
    assert find_export(torchs.fingerprint) is not None


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08nothing")
    with pytest.raises(ModelError, match="cannot be loaded") as raised:
        open_session(tmp_path / "a.onnx")
    assert "\n" not in str(raised.value)


def test_another_version_or_model_is_not_taken(torchs: OpenClipEncoder, placed: Path) -> None:
    manifest = placed / onnx.MANIFEST
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"version": onnx.VERSION + 1}))
    assert find_export(torchs.fingerprint) is None
    manifest.write_text(
        json.dumps(fields | {"fingerprint": fields["fingerprint"] | {"weights": "other"}})
    )
    assert find_export(torchs.fingerprint) is None


def test_a_cache_that_cannot_be_written_is_said(
    torchs: OpenClipEncoder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "twinlens"):
        assert export_model(torchs) is None
    assert "cannot be exported" in caplog.text


def test_nothing_is_left_of_an_export_that_is_broken_off(
    torchs: OpenClipEncoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_export_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_model(torchs)
    assert list((cache / "models").iterdir()) == []


def test_queries_ask_for_other_devices_in_vain(torchs: OpenClipEncoder, placed: Path) -> None:
    query = load.open_query_encoder
    assert isinstance(query(torchs.fingerprint), OnnxEncoder)
    assert isinstance(query(torchs.fingerprint, device="cpu", precision="fp32"), OnnxEncoder)
    assert query(torchs.fingerprint, device="cuda") is None
    assert query(torchs.fingerprint, precision="bf16") is None


# ---- starter, which comes ready


def test_starter_is_built_from_its_packages(cache: Path) -> None:
    try:
        fingerprint = starter_export.starter_fingerprint()
    except ModelError as error:
        pytest.skip(str(error))
    ours = load.open_query_encoder(fingerprint)
    assert isinstance(ours, OnnxEncoder)
    theirs = load.open_encoder("starter", device="cpu", precision="fp32")
    assert ours.fingerprint == theirs.fingerprint
    assert ours.logit_scale == pytest.approx(theirs.logit_scale)
    texts, pixels = list(PROBE_TEXTS), probe_images(224, 224)
    assert (ours.texts(texts) * theirs.texts(texts)).sum(1).min() > 0.9999
    assert (ours.images(pixels) * theirs.images(pixels)).sum(1).min() > 0.9999


def test_another_starter_than_the_installed_one_is_not_built(cache: Path) -> None:
    try:
        fingerprint = starter_export.starter_fingerprint()
    except ModelError as error:
        pytest.skip(str(error))
    from dataclasses import replace

    assert load.open_query_encoder(replace(fingerprint, weights="sha256:older")) is None
    assert not cache.exists()


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("harm",)

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(1) * 3 + pickle.dumps({"weight": Harmful()}))
    with pytest.raises(ModelError, match="not a file of weights"):
        starter_weights.read_pickled(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a file of weights"):
        starter_weights.read_pickled(path)


def test_asking_starter_imports_no_torch(cache: Path) -> None:
    script = (
        "import sys\n"
        "from twinlens.search.models.load import open_encoders\n"
        "print(open_encoders('starter', device='cpu').texts(['a dog']).shape)\n"
        "heavy = {'torch', 'open_clip', 'torchvision', 'timm', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if "pip install" in done.stderr:
        pytest.skip("starter is not installed")
    assert done.stdout.splitlines() == ["(1, 384)", "[]"], done.stderr

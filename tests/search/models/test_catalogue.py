"""Resolve the names of models, and tell by fingerprint which embeddings are comparable."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from twinlens.search.errors import ModelError
from twinlens.search.models.catalogue import CATALOGUE, STARTER, ModelSpec, resolve
from twinlens.search.models.fingerprint import Fingerprint, preprocess_digest

FINGERPRINT = Fingerprint(
    "ViT-B-32", "laion2b_s34b_b79k", 512, 224, '{"mean":[0.5]}', source="ViT-B-32:laion2b_s34b_b79k"
)


def test_the_digest_is_stable() -> None:
    # Stored in every collection: if it changed, existing collections could not be opened.
    assert FINGERPRINT.digest == "1afd53797987"


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "ViT-B-16"},
        {"weights": "openai"},
        {"dim": 768},
        {"image_size": 256},
        {"preprocess": "{}"},
        {"normalized": False},
    ],
)
def test_every_part_counts_in_the_digest(change: dict[str, object]) -> None:
    assert replace(FINGERPRINT, **change).digest != FINGERPRINT.digest


def test_the_source_does_not_count_in_the_digest() -> None:
    assert replace(FINGERPRINT, source="ViT-B-32:/elsewhere").digest == FINGERPRINT.digest


def test_a_fingerprint_survives_storage() -> None:
    assert Fingerprint.from_json(FINGERPRINT.to_json()) == FINGERPRINT


def test_a_fingerprint_of_a_later_version_can_be_read() -> None:
    later = FINGERPRINT.to_json().replace("{", '{"colour_space": "sRGB", ', 1)
    assert Fingerprint.from_json(later) == FINGERPRINT


def test_preprocess_digest_does_not_depend_on_order() -> None:
    one = {"mean": (0.5, 0.5), "interpolation": "bicubic", "size": 224}
    assert preprocess_digest(one) == preprocess_digest(dict(reversed(one.items())))
    assert preprocess_digest(one) == preprocess_digest(one | {"mean": [0.5, 0.5]})
    assert preprocess_digest(one) != preprocess_digest(one | {"interpolation": "bilinear"})


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_every_entry_of_the_catalogue_is_known_to_openclip(entry: object) -> None:
    import open_clip

    from twinlens.search.models.catalogue import CatalogueEntry

    assert isinstance(entry, CatalogueEntry)
    if entry.name == STARTER:
        return
    spec = resolve(entry.name)
    assert spec.label == entry.spec
    config = open_clip.get_model_config(spec.architecture)
    assert config["embed_dim"] == entry.dim
    side = open_clip.get_pretrained_cfg(spec.architecture, spec.weights).get("size")
    assert (side or config["vision_cfg"]["image_size"]) == entry.image_size


def test_names_in_the_catalogue_are_unique() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)


def test_resolves_architecture_and_tag() -> None:
    assert resolve("ViT-B-32:openai") == ModelSpec("ViT-B-32", "openai", "ViT-B-32:openai")
    assert resolve("  ViT-B/32:openai ").source == "ViT-B-32:openai"


def test_an_architecture_alone_gets_the_weights_we_recommend() -> None:
    assert resolve("ViT-B-32").label == "ViT-B-32:laion2b_s34b_b79k"


def test_a_hub_name_resolves_to_itself() -> None:
    spec = resolve("hf-hub:someone/model")
    assert spec == ModelSpec("hf-hub:someone/model", "hub", "hf-hub:someone/model")
    assert spec.label == "hf-hub:someone/model"


def test_a_checkpoint_is_identified_by_its_content(tmp_path: Path) -> None:
    one = tmp_path / "weights.pt"
    one.write_bytes(b"numbers")
    moved = tmp_path / "elsewhere" / "renamed.pt"
    moved.parent.mkdir()
    shutil.copy(one, moved)
    first, second = resolve(f"ViT-B-32:{one}"), resolve(f"ViT-B-32:{moved}")
    assert first.weights == second.weights
    assert first.weights.startswith("sha256:")
    assert (first.checkpoint, second.checkpoint) == (one, moved)
    moved.write_bytes(b"other numbers")
    assert resolve(f"ViT-B-32:{moved}").weights != first.weights


def test_a_folder_is_identified_by_its_content(tiny_model: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_model, tmp_path / "another name")
    first, second = resolve(f"local-dir:{tiny_model}"), resolve(str(moved))
    assert (first.architecture, first.weights) == (second.architecture, second.weights)
    assert first.source == f"local-dir:{tiny_model}"
    assert second.label == "local-dir:another name"
    config = moved / "open_clip_config.json"
    config.write_text(config.read_text().replace("bicubic", "bilinear"))
    assert resolve(str(moved)).weights != first.weights


def test_every_source_resolves_to_itself(tiny_model: Path) -> None:
    for name in ("siglip2-b32", "ViT-B-32:openai", "hf-hub:a/b", f"local-dir:{tiny_model}"):
        spec = resolve(name)
        assert resolve(spec.source) == spec


def test_an_unknown_model_lists_the_choices() -> None:
    with pytest.raises(ModelError, match=r"no model called 'vit-x'.*siglip2-b32.*models --all"):
        resolve("vit-x")


@pytest.mark.parametrize("nothing", ["", " ", ":", ":openai"])
def test_an_empty_name_is_rejected(nothing: str) -> None:
    with pytest.raises(ModelError, match="there is no model called ''"):
        resolve(nothing)


def test_an_unknown_tag_lists_the_published_ones() -> None:
    with pytest.raises(ModelError, match=r"no weights 'nonsense'.*published weights: .*openai"):
        resolve("ViT-B-32:nonsense")


def test_a_checkpoint_needs_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"numbers")
    with pytest.raises(ModelError, match=f"Write it as ARCHITECTURE:{path}"):
        resolve(str(path))


def test_a_folder_without_a_configuration_is_rejected(tmp_path: Path) -> None:
    for name in (str(tmp_path), f"local-dir:{tmp_path}", f"local-dir:{tmp_path}/none"):
        with pytest.raises(ModelError, match=r"contains no open_clip_config\.json"):
            resolve(name)

"""Derive a model's fingerprint and preprocessing from its configuration, without its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.search.errors import ModelError, first_line
from twinlens.search.models.catalogue import (
    DIR_PREFIX,
    HUB_PREFIX,
    STARTER,
    ModelSpec,
    import_openclip,
    resolve,
)
from twinlens.search.models.fingerprint import Fingerprint, preprocess_digest
from twinlens.search.models.preprocess import preparation
from twinlens.search.models.starter_export import starter_fingerprint
from twinlens.search.models.starter_weights import PREPROCESS

if TYPE_CHECKING:
    from PIL import Image

    from twinlens.search.models.base import Pixels

#: Pixels; OpenCLIP's default for a configuration without an image size.
_DEFAULT_SIDE = 224


def fingerprint_from_config(name: str) -> Fingerprint:
    """Compute the fingerprint that ``open_encoder(name)`` would have, without loading weights.

    Raises:
        ModelError: there is no such model, or its configuration cannot be fetched or read.
    """
    spec = resolve(name)
    if spec.architecture == STARTER:
        return starter_fingerprint()
    model, preprocess = _configuration(spec)
    try:
        side = model["vision_cfg"].get("image_size", _DEFAULT_SIDE)
        return Fingerprint(
            architecture=spec.architecture,
            weights=spec.weights,
            dim=int(model["embed_dim"]),
            image_size=int(side if isinstance(side, int) else side[0]),
            preprocess=preprocess_digest(_merged(preprocess)),
            source=spec.source,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{spec.label} has no valid OpenCLIP configuration: {error}") from error


def prepare_from_config(name: str) -> Callable[[Image.Image], Pixels]:
    """Make the ``prepare`` that ``open_encoder(name)`` would have, without loading weights.

    Raises:
        ModelError: as for ``fingerprint_from_config``.
    """
    spec = resolve(name)
    if spec.architecture == STARTER:
        return preparation(PREPROCESS)
    config = _merged(_configuration(spec)[1])
    return preparation({**config, "size": fingerprint_from_config(name).image_size})


def _configuration(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's OpenCLIP configuration, and that of its image preprocessing."""
    open_clip = import_openclip()

    if spec.source.startswith((HUB_PREFIX, DIR_PREFIX)):
        try:
            config = json.loads(_config_file(spec).read_text("utf-8"))
            return config["model_cfg"], config.get("preprocess_cfg", {})
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the configuration of {spec.label} cannot be read: {error}"
            ) from error
    model = open_clip.get_model_config(spec.architecture) or {}
    tagged = (
        {} if spec.checkpoint else open_clip.get_pretrained_cfg(spec.architecture, spec.weights)
    )
    return model, tagged or {}


def _config_file(spec: ModelSpec) -> Path:
    if spec.source.startswith(DIR_PREFIX):
        return Path(spec.source.removeprefix(DIR_PREFIX)) / "open_clip_config.json"
    from huggingface_hub import hf_hub_download

    from twinlens.search.models.weights import cannot_fetch

    try:
        repository = spec.source.removeprefix(HUB_PREFIX)
        return Path(hf_hub_download(repository, "open_clip_config.json"))
    except Exception as error:
        reason = first_line(error, 200)
        raise ModelError(cannot_fetch(spec, reason)) from error


def _merged(preprocess: dict[str, Any]) -> dict[str, Any]:
    """Override OpenCLIP's default preprocessing with the model's, as OpenCLIP does."""
    import_openclip()
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged: dict[str, Any] = merge_preprocess_dict(asdict(PreprocessCfg()), preprocess)
    return merged

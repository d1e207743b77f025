"""What is known of a model without loading its weights: its fingerprint, how it sees pictures."""

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
    Fingerprint,
    ModelSpec,
    preprocess_digest,
    resolve,
)

if TYPE_CHECKING:
    from PIL import Image

    from twinlens.search.models.encoder import Pixels

#: OpenCLIP's, for a configuration that does not say.
_DEFAULT_SIDE = 224


def declared_fingerprint(name: str) -> Fingerprint:
    """What ``open_encoder(name).fingerprint`` would be, from the model's configuration alone.

    Raises:
        ModelError: there is no such model, or its configuration cannot be had.
    """
    spec = resolve(name)
    if spec.architecture == STARTER:
        # It is small, and comes with its package.
        from twinlens.search.models.encoder import open_encoder

        return open_encoder(spec, device="cpu").fingerprint
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
        raise ModelError(f"the configuration of {spec.label} is not OpenCLIP's: {error}") from error


def declared_prepare(name: str) -> Callable[[Image.Image], Pixels]:
    """``open_encoder(name).prepare``, from the model's configuration alone.

    Raises:
        ModelError: as for ``declared_fingerprint``.
    """
    from twinlens.search.models.encoder import open_encoder, preparation

    spec = resolve(name)
    if spec.architecture == STARTER:
        return open_encoder(spec, device="cpu").prepare
    config = _merged(_configuration(spec)[1])
    return preparation({**config, "size": declared_fingerprint(name).image_size})


def _configuration(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's configuration, and how it wants pictures prepared."""
    import open_clip

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
    """OpenCLIP's defaults with what the model says otherwise, as it merges them itself."""
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged: dict[str, Any] = merge_preprocess_dict(asdict(PreprocessCfg()), preprocess)
    return merged

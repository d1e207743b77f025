"""List the recommended models, and resolve a model's name to architecture and weights."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlens.search.errors import ModelError
from twinlens.search.paths import expand_home

HUB_PREFIX = "hf-hub:"
DIR_PREFIX = "local-dir:"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One recommended model.

    ``text_to_image`` and ``image_to_text`` are zero-shot COCO recall@1 in per cent, as published
    by the model's authors or in OpenCLIP's results table (``None`` if not published).
    """

    name: str
    spec: str
    dim: int
    image_size: int
    download_mb: int
    licence: str
    text_to_image: float | None
    image_to_text: float | None
    note: str


#: The default model of a new collection, and the fallback if its weights cannot be fetched.
RECOMMENDED = "siglip2-b32"
STARTER = "starter"
CATALOGUE: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(
        "siglip2-b32", "ViT-B-32-SigLIP2-256:webli", 768, 256, 1510, "Apache-2.0", 47.2, 63.7,
        "recommended: multilingual, quick on a CPU",
    ),
    CatalogueEntry(
        "siglip2-b16", "ViT-B-16-SigLIP2-256:webli", 768, 256, 1500, "Apache-2.0", 53.2, 69.7,
        "multilingual, finds more, four times the work",
    ),
    CatalogueEntry(
        "clip-b32", "ViT-B-32:laion2b_s34b_b79k", 512, 224, 605, "MIT", 39.3, 56.3,
        "small download, English",
    ),
    CatalogueEntry(
        "openai-b32", "ViT-B-32-quickgelu:openai", 512, 224, 605, "MIT", 30.4, 50.1,
        "the original CLIP, for comparison",
    ),
    CatalogueEntry(
        "dfn-h14", "ViT-H-14-378-quickgelu:dfn5b", 1024, 378, 3950, "Apple (research)", 55.6, 71.9,
        "best both ways, needs a GPU; research licence",
    ),
    CatalogueEntry(
        "pe-l14", "PE-Core-L-14-336:meta", 1024, 336, 2690, "Apache-2.0", 57.1, None,
        "best text to image, needs a GPU",
    ),
    CatalogueEntry(
        STARTER, STARTER, 384, 224, 0, "research", None, None,
        "for trying: no download, comes with twinlens[starter]; not for commercial use",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model's architecture and weights.

    Attributes:
        architecture: an OpenCLIP name, an ``hf-hub:`` id, or "local-dir" for a folder (identified
            by its digest, so that it may be moved).
        weights: a pretrained tag, ``sha256:<digest>`` of a checkpoint file or a folder, or "hub".
        source: what to pass as ``--model`` to load the model again.
        checkpoint: the file with the weights, if a file was named.
    """

    architecture: str
    weights: str
    source: str
    checkpoint: Path | None = None

    @property
    def label(self) -> str:
        """The model's name, for messages."""
        if self.weights == "hub" or self.architecture == STARTER:
            return self.architecture
        if self.source.startswith(DIR_PREFIX):
            return f"{DIR_PREFIX}{Path(self.source).name}"
        return f"{self.architecture}:{self.weights}"


def has_openclip() -> bool:
    """Whether torch and OpenCLIP are installed; they are not imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "open_clip"))


def import_openclip() -> Any:
    """Import OpenCLIP, and torch with it, where they are installed.

    Raises:
        ModelError: they are not, as where twinlens is installed for queries only.
    """
    try:
        import open_clip
        import torch  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"this needs torch and OpenCLIP ({error}): pip install torch open_clip_torch. Without "
            "them, models that were exported by an earlier ingest, and starter, can be used"
        ) from error
    return open_clip


def resolve(name: str) -> ModelSpec:
    """Find the architecture and weights of a model's name, without loading them.

    Args:
        name: of the catalogue, or an OpenCLIP ``architecture``, ``architecture:tag``,
            ``architecture:/path/to/checkpoint``, ``hf-hub:owner/repo``, ``local-dir:/path`` or
            the path of a folder.

    Raises:
        ModelError: no such architecture, tag or file; the message lists the choices.
    """
    name = name.strip()
    if name == STARTER:
        from twinlens.search.models.starter_weights import weights_digest

        return ModelSpec(STARTER, f"sha256:{weights_digest()[:16]}", STARTER)
    for entry in CATALOGUE:
        if name == entry.name:
            name = entry.spec
    if name.startswith(HUB_PREFIX):
        return ModelSpec(name, "hub", name)
    if name.startswith(DIR_PREFIX):
        return _resolve_dir(expand_home(name.removeprefix(DIR_PREFIX)))
    architecture, _, weights = name.partition(":")
    path = expand_home(name)
    if name and not weights and path.is_dir():
        return _resolve_dir(path)
    if name and not weights and path.is_file():
        raise ModelError(
            f"{name} is a checkpoint without an architecture. Write it as ARCHITECTURE:{name}, "
            f"for example ViT-B-32:{name}"
        )
    return _resolve_openclip(architecture, weights)


def _resolve_dir(folder: Path) -> ModelSpec:
    if not (folder / "open_clip_config.json").is_file():
        raise ModelError(f"{folder} is not an OpenCLIP model: it contains no open_clip_config.json")
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".safetensors", ".bin", ".pt"}:
            digest.update(_file_digest(file).encode())
    source = f"{DIR_PREFIX}{folder.resolve()}"
    return ModelSpec(DIR_PREFIX.rstrip(":"), f"sha256:{digest.hexdigest()[:16]}", source)


def _resolve_openclip(architecture: str, weights: str) -> ModelSpec:
    open_clip = import_openclip()
    architecture = architecture.replace("/", "-")
    if architecture not in open_clip.list_models():
        names = ", ".join(entry.name for entry in CATALOGUE)
        raise ModelError(
            f"there is no model called {architecture!r}: try one of {names}, "
            "or any name that `twinlens models --all` lists"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights:
        recommended = [
            e.spec.partition(":")[2] for e in CATALOGUE if e.spec.startswith(architecture + ":")
        ]
        if not (recommended or tags):
            raise ModelError(
                f"there are no published weights for {architecture}: name a checkpoint file, "
                f"{architecture}:/path/to/weights.pt"
            )
        weights = (recommended or tags)[0]
    if weights in tags:
        return ModelSpec(architecture, weights, f"{architecture}:{weights}")
    checkpoint = expand_home(weights)
    if checkpoint.is_file():
        digest = f"sha256:{_file_digest(checkpoint)[:16]}"
        source = f"{architecture}:{checkpoint.resolve()}"
        return ModelSpec(architecture, digest, source, checkpoint.resolve())
    raise ModelError(
        f"{architecture} has no weights {weights!r}, and there is no such file; "
        f"published weights: {', '.join(tags) or 'none'}"
    )


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

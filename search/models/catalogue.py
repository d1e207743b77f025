"""The catalogue of recommended encoders, and a model's fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinlens.search.errors import ModelError

HUB_PREFIX = "hf-hub:"
DIR_PREFIX = "local-dir:"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One recommended encoder.

    ``text_to_image`` and ``image_to_text`` are zero-shot COCO recall@1 in per cent as published
    by the model's authors or OpenCLIP's results table (``None`` where nothing is published).
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


#: What a new collection gets where its weights can be had, and where they cannot.
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
        STARTER, STARTER, 384, 224, 0, "for trying", None, None,
        "no download, comes with twinlens[starter]; see its model card",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which network with which weights; ``source`` is what to type to get it again.

    ``architecture`` is an OpenCLIP name, an ``hf-hub:`` id, or "local-dir" for a folder whose
    digest tells it, too, so that it may be moved. ``weights`` is a pretrained tag,
    ``sha256:<digest>`` of a checkpoint file or a folder, or "hub".
    """

    architecture: str
    weights: str
    source: str
    checkpoint: Path | None = None

    @property
    def label(self) -> str:
        """The model as people read it."""
        if self.weights == "hub" or self.architecture == STARTER:
            return self.architecture
        if self.source.startswith(DIR_PREFIX):
            return f"{DIR_PREFIX}{Path(self.source).name}"
        return f"{self.architecture}:{self.weights}"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes two embeddings comparable: everything between the pixels and the unit vector."""

    architecture: str
    weights: str
    dim: int
    image_size: int
    preprocess: str
    normalized: bool = True
    source: str = ""

    @property
    def digest(self) -> str:
        """12 hex digits; equal digests mean comparable embeddings. ``source`` does not count."""
        fields = asdict(self)
        del fields["source"]
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The model as people read it."""
        return ModelSpec(self.architecture, self.weights, self.source).label

    def goes_by(self, name: str) -> bool:
        """Whether a catalogue's name, or a name as ``label`` has it, means this model."""
        specs = {entry.name: entry.spec for entry in CATALOGUE}
        known = {self.label, self.source, self.architecture}
        return name in known or specs.get(name) in known

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        fields = json.loads(text)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


def preprocess_digest(config: Mapping[str, Any]) -> str:
    """Image preprocessing as one canonical line: any change to it changes the fingerprint."""
    kept = {key: config[key] for key in sorted(config) if key != "size"}
    return json.dumps(kept, sort_keys=True, default=list, separators=(",", ":"))


def resolve(name: str) -> ModelSpec:
    """What ``--model`` says, without loading anything.

    Accepts a catalogue name, an OpenCLIP ``architecture``, ``architecture:tag``,
    ``architecture:/path/to/checkpoint``, ``hf-hub:owner/repo`` or ``local-dir:/path``.

    Raises:
        ModelError: no such architecture, tag or file; the message lists what there is.
    """
    name = name.strip()
    if name == STARTER:
        from twinlens.search.models.starter import weights_digest

        return ModelSpec(STARTER, f"sha256:{weights_digest()[:16]}", STARTER)
    for entry in CATALOGUE:
        if name == entry.name:
            name = entry.spec
    if name.startswith(HUB_PREFIX):
        return ModelSpec(name, "hub", name)
    if name.startswith(DIR_PREFIX):
        return _resolve_dir(Path(os.path.expanduser(name.removeprefix(DIR_PREFIX))))
    architecture, _, weights = name.partition(":")
    if name and not weights and Path(os.path.expanduser(name)).is_dir():
        return _resolve_dir(Path(os.path.expanduser(name)))
    if name and not weights and Path(os.path.expanduser(name)).is_file():
        raise ModelError(
            f"{name} is a checkpoint, but of which architecture? Write it as ARCHITECTURE:{name}, "
            "for example ViT-B-32:" + name
        )
    return _resolve_openclip(architecture, weights)


def _resolve_dir(folder: Path) -> ModelSpec:
    if not (folder / "open_clip_config.json").is_file():
        raise ModelError(f"{folder} holds no open_clip_config.json, so it is not an OpenCLIP model")
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".safetensors", ".bin", ".pt"}:
            digest.update(_file_digest(file).encode())
    source = f"{DIR_PREFIX}{folder.resolve()}"
    return ModelSpec(DIR_PREFIX.rstrip(":"), f"sha256:{digest.hexdigest()[:16]}", source)


def _resolve_openclip(architecture: str, weights: str) -> ModelSpec:
    import open_clip

    architecture = architecture.replace("/", "-")
    if architecture not in open_clip.list_models():
        names = ", ".join(entry.name for entry in CATALOGUE)
        raise ModelError(
            f"there is no model called {architecture!r}: try one of {names}, "
            "or any that `twinlens models --all` lists"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights:
        known = [
            e.spec.partition(":")[2] for e in CATALOGUE if e.spec.startswith(architecture + ":")
        ]
        if not (known or tags):
            raise ModelError(
                f"{architecture} comes without weights: name a checkpoint file, "
                f"{architecture}:/path/to/weights.pt"
            )
        weights = (known or tags)[0]
    if weights in tags:
        return ModelSpec(architecture, weights, f"{architecture}:{weights}")
    checkpoint = Path(os.path.expanduser(weights))
    if checkpoint.is_file():
        digest = f"sha256:{_file_digest(checkpoint)[:16]}"
        source = f"{architecture}:{checkpoint.resolve()}"
        return ModelSpec(architecture, digest, source, checkpoint.resolve())
    raise ModelError(
        f"{architecture} has no weights {weights!r} and there is no such file; "
        f"known: {', '.join(tags) or 'none'}"
    )


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

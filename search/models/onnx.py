"""Encode with a model's exported towers on ONNX Runtime: no torch, no OpenCLIP.

``twinlens.search.models.export`` writes the exports that are read here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import first_line
from twinlens.search.models.base import MAX_TEXT, Pixels, Rows
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.preprocess import Preparation, preparation
from twinlens.search.models.sessions import Tower
from twinlens.search.models.tokenizer import ExportedTokenizer, TokenizerSpec
from twinlens.search.paths import cache_folder

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger("twinlens")

#: What a folder of exports is written by; another version is not read, but exported again.
VERSION = 2
MANIFEST = "export.json"
IMAGE, TEXT, TOKENIZER = "image.onnx", "text.onnx", "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Export:
    """What is known of a model's exported towers.

    Attributes:
        folder: where the files are.
        fingerprint: of the model.
        preprocess: OpenCLIP's preprocessing configuration.
        sigmoid, logit_scale: see ``OpenClipEncoder``.
        image_deviation, text_deviation: 1 minus the lowest cosine with torch's rows on the probes.
        problem: why the towers cannot be used; "" where they can.
    """

    folder: Path
    fingerprint: Fingerprint
    preprocess: dict[str, Any]
    sigmoid: tuple[float, float] | None
    logit_scale: float | None
    image_deviation: float = 0.0
    text_deviation: float = 0.0
    problem: str = ""


def export_folder(fingerprint: Fingerprint) -> Path:
    """The folder for a model's exports."""
    return cache_folder("models") / fingerprint.digest


def find_export(fingerprint: Fingerprint) -> Export | None:
    """The exports of a model, if there are any for this version; damaged ones do not count."""
    folder = export_folder(fingerprint)
    try:
        found = json.loads((folder / MANIFEST).read_text("utf-8"))
        stored = Fingerprint.from_json(json.dumps(found["fingerprint"]))
        if found["version"] != VERSION or stored.digest != fingerprint.digest:
            return None
        sigmoid = found["sigmoid"]
        export = Export(
            folder=folder,
            fingerprint=fingerprint,
            preprocess=dict(found["preprocess"]),
            sigmoid=None if sigmoid is None else (float(sigmoid[0]), float(sigmoid[1])),
            logit_scale=found["logit_scale"],
            image_deviation=float(found["image_deviation"]),
            text_deviation=float(found["text_deviation"]),
            problem=str(found["problem"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        _log.warning("the exported model in %s cannot be read: %s", folder, first_line(error))
        return None
    sizes = found["files"]
    if not export.problem and any(_size(folder / name) != size for name, size in sizes.items()):
        _log.warning("the exported model in %s is damaged and is not used", folder)
        return None
    return export


def save_export(
    fingerprint: Fingerprint, write: Callable[[Path], Mapping[str, Any]]
) -> Export | None:
    """Write a model's exports into a temporary folder, and give it its name when it is complete.

    Args:
        fingerprint: of the model.
        write: writes the files into a folder, and returns the fields of ``Export`` beside
            ``folder`` and ``fingerprint``.

    Returns:
        The export; ``None``, with a warning, if the cache cannot be written.
    """
    folder = export_folder(fingerprint)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix="export-", dir=folder.parent, ignore_cleanup_errors=True
        ) as name:
            temporary = Path(name)
            manifest = {
                "version": VERSION,
                "fingerprint": json.loads(fingerprint.to_json()),
                **write(temporary),
                "files": {file.name: file.stat().st_size for file in sorted(temporary.iterdir())},
            }
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
            # Another process may have been faster; its export is as good as this one.
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    except OSError as error:
        _log.warning("the model cannot be exported to %s: %s", folder, first_line(error))
        return None
    return find_export(fingerprint)


def open_export(fingerprint: Fingerprint) -> OnnxEncoder | None:
    """An encoder for a model from its exported towers; ``None`` if there are none to use."""
    export = find_export(fingerprint)
    return OnnxEncoder(export) if export is not None and not export.problem else None


class OnnxEncoder:
    """A model's exported towers on ONNX Runtime; each is loaded when it is first used.

    Args:
        export: a usable one, from ``find_export``.
    """

    def __init__(self, export: Export) -> None:
        self._export = export
        self._prepare = preparation(export.preprocess)
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> Fingerprint:
        return self._export.fingerprint

    @property
    def image_batch(self) -> int:
        return 32

    @property
    def device(self) -> str:
        """Where the model is, as torch names it."""
        return "cpu"

    @property
    def sigmoid(self) -> tuple[float, float] | None:
        """Scale and bias that turn a cosine into log odds; None for models other than SigLIP."""
        return self._export.sigmoid

    @property
    def logit_scale(self) -> float | None:
        """The factor on cosines before the softmax in training; None if the model has none."""
        return self._export.logit_scale

    @property
    def preparation(self) -> Preparation:
        """``prepare`` for other processes."""
        return self._prepare

    def prepare(self, image: Image.Image) -> Pixels:
        return self._prepare(image)

    def images(self, pixels: Pixels) -> Rows:
        with self._lock:
            tower = self._image_tower
        return tower(np.ascontiguousarray(pixels))

    def texts(self, texts: Sequence[str]) -> Rows:
        if not texts:
            return np.empty((0, self.fingerprint.dim), dtype=np.float32)
        with self._lock:
            tokenizer, tower = self._tokenizer, self._text_tower
        return tower(tokenizer([text[:MAX_TEXT] for text in texts]))

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens of the texts the model sees, together."""
        with self._lock:
            tokenizer = self._tokenizer
        return tokenizer.count([text[:MAX_TEXT] for text in texts])

    def fixed_texts(self, texts: Sequence[str]) -> Rows:
        """Encode texts that never change, once for all processes: rows are kept with the export."""
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
        path = self._export.folder / f"texts-{digest}.npy"
        try:
            kept: Rows = np.load(path, allow_pickle=False)
            if kept.shape == (len(texts), self.fingerprint.dim) and kept.dtype == np.float32:
                return kept
        except (OSError, ValueError, EOFError):
            pass
        rows = self.texts(texts)
        # A cache that cannot be written only costs time.
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=path.parent) as folder:
            np.save(Path(folder) / path.name, rows)
            (Path(folder) / path.name).replace(path)
        return rows

    @cached_property
    def _tokenizer(self) -> ExportedTokenizer:
        fields = json.loads((self._export.folder / TOKENIZER).read_text("utf-8"))
        return ExportedTokenizer(TokenizerSpec(**fields))

    @cached_property
    def _image_tower(self) -> Tower:
        return Tower(self._export.folder / IMAGE)

    @cached_property
    def _text_tower(self) -> Tower:
        return Tower(self._export.folder / TEXT)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1

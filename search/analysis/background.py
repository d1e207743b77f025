"""Embed the sentences and pictures that come with twinlens: a model's own background.

215 everyday sentences, and 49 free photographs with captions (``samples/background.py`` makes
them; ``samples/SOURCES.md`` names their authors). Sentences and photographs are unrelated pairs,
a photograph and its captions true ones. A model's embeddings are cached under its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinlens.search.analysis.pictures import encode_images
from twinlens.search.errors import first_line
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.batches import encode_texts
from twinlens.search.paths import cache_folder
from twinlens.search.query.calibration import SENTENCES

_log = logging.getLogger("twinlens")
_FIELDS = ("sentences", "images", "captions")


@dataclass(frozen=True, slots=True)
class BackgroundData:
    """What comes with twinlens.

    Attributes:
        sentences: of everyday things.
        images: encoded photographs.
        captions: what the photographs show.
        owners: for each caption, the number of its photograph.
        digest: of all of it.
    """

    sentences: tuple[str, ...]
    images: tuple[bytes, ...]
    captions: tuple[str, ...]
    owners: tuple[int, ...]
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class ModelBackground:
    """A model's embeddings of ``BackgroundData``.

    Attributes:
        sentences, images, captions: float32 unit rows ``[n, dim]``.
        owners: int ``[captions]``: for each caption, the number of its image.
    """

    sentences: Rows
    images: Rows
    captions: Rows
    owners: npt.NDArray[np.intp]

    @classmethod
    def of(cls, encoder: Encoder) -> ModelBackground:
        """Embed the background, or read its embeddings from the cache."""
        data = read_background()
        folder = cache_folder("background")
        path = folder / f"{encoder.fingerprint.digest}-{data.digest}.npz"
        found = _read(path, data, encoder.fingerprint.dim)
        if found is None:
            found = cls(
                encode_texts(encoder, data.sentences),
                encode_images(encoder, data.images),
                encode_texts(encoder, data.captions),
                np.array(data.owners),
            )
            _write(path, found)
        return found


@cache
def read_background() -> BackgroundData:
    """Read the sentences, photographs and captions from the package."""
    folder = Path(str(resources.files("twinlens.search.analysis") / "data" / "background"))
    text = (folder / "sentences.txt").read_text("utf-8")
    rows = [
        json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()
    ]
    images = tuple((folder / "pictures" / row["image"]).read_bytes() for row in rows)
    sentences = (*SENTENCES, *text.splitlines())
    pairs = [(caption, number) for number, row in enumerate(rows) for caption in row["captions"]]
    digest = hashlib.sha256(json.dumps([sentences, pairs]).encode())
    for image in images:
        digest.update(image)
    return BackgroundData(
        sentences,
        images,
        tuple(caption for caption, _ in pairs),
        tuple(number for _, number in pairs),
        digest.hexdigest()[:12],
    )


def _read(path: Path, data: BackgroundData, dim: int) -> ModelBackground | None:
    """The cached embeddings; ``None`` if there are none, or they are damaged."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            rows = [np.asarray(stored[name], dtype=np.float32) for name in _FIELDS]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        _log.warning("%s is damaged, and is made again", path)
        return None
    shapes = [(len(getattr(data, name)), dim) for name in _FIELDS]
    if [one.shape for one in rows] != shapes or not all(np.isfinite(one).all() for one in rows):
        return None
    sentences, images, captions = rows
    return ModelBackground(sentences, images, captions, np.array(data.owners))


def _write(path: Path, background: ModelBackground) -> None:
    """Write the cache; another process may do so at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez(file, **{name: getattr(background, name) for name in _FIELDS})
        os.replace(file.name, path)
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, first_line(error))

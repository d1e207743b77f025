"""Export a model's towers and tokenizer once, so that queries need neither torch nor OpenCLIP.

An export is written for ``twinlens.search.models.onnx``, checked against torch on probe texts and
images, and kept in the user's cache under the model's fingerprint.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import first_line
from twinlens.search.models import onnx
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.models.sessions import Tower
from twinlens.search.models.tokenizer import ExportedTokenizer, TokenizerSpec
from twinlens.search.models.tokenizer_export import describe_tokenizer
from twinlens.search.models.towers import (
    UnsupportedModelError,
    can_shorten,
    export_tower,
    image_tower,
    text_tower,
)

if TYPE_CHECKING:
    from twinlens.search.models.openclip import OpenClipEncoder

_log = logging.getLogger("twinlens")

#: The lowest cosine of an exported tower's row with torch's at which the export is used.
MIN_COSINE = 0.9999
#: Texts to compare tokenizers and text towers on: plain, long, empty, in many scripts, hostile.
PROBE_TEXTS = (
    "a dog", "two dogs in the snow at night", "A White Castle; towers & trees", "", " ", "!", "a",
    "don't, I'll, we've: it's o'clock", "IMG_2041.JPG 35mm f/2.8", "x" * 300, "word " * 200,
    "ein Hund läuft über die Straße", "un été à la plage, ça va", "чёрная кошка на окне",
    "夕焼けの海と灯台", "雪地里的两只狗", "눈 속의 개", "كلبان في الثلج", "कुत्ता", "σκύλος",
    "👩‍👩‍👧 at the 🏖️ beach", "ﬁne ﬂower Ⅷ ½ İstanbul ß", "e\u0301 \u200d \u200b \ufeff \u00a0 end",
    "&lt;b&gt;bold&lt;/b&gt; &amp;amp; &eacute;", "<start_of_text> a <end_of_text> b",
    "</s> <pad> [SEP]",
    "line one\nline two\ttab", "schÃ¶n â€œquotedâ€", "\x00\x01\x1b[31mred", "a_b-c.d,e:f;g",
)  # fmt: skip


def export_model(encoder: OpenClipEncoder) -> onnx.Export | None:
    """Export a model unless it is exported already; failures are logged, and noted in the export.

    Args:
        encoder: the model, in float32 on the CPU.

    Returns:
        The export, usable if its ``problem`` is ""; ``None`` if it could not be written.
    """
    fingerprint, model, tokenizer = encoder.fingerprint, encoder.model, encoder.tokenizer
    found = onnx.find_export(fingerprint)
    if found is not None:
        return found
    _log.info("exporting %s for quick queries; this is done once", fingerprint.label)

    def write(folder: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "preprocess": dict(model.visual.preprocess_cfg),
            "sigmoid": encoder.sigmoid,
            "logit_scale": encoder.logit_scale,
            "image_deviation": 0.0,
            "text_deviation": 0.0,
            "problem": "",
        }
        try:
            fields["text_deviation"] = _export_text(folder, model, tokenizer)
            fields["image_deviation"] = _export_image(folder, model)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever torch or ONNX Runtime raises
            fields["problem"] = first_line(error)
            for file in folder.iterdir():
                file.unlink()
        return fields

    export = onnx.save_export(fingerprint, write)
    if export is not None and export.problem:
        _log.warning(
            "%s cannot run without torch (%s): queries will load torch",
            fingerprint.label, export.problem,
        )  # fmt: skip
    return export


def _export_text(folder: Path, model: Any, tokenizer: Any) -> float:
    spec = describe_tokenizer(tokenizer)
    for text in PROBE_TEXTS:
        if not np.array_equal(ExportedTokenizer(spec)([text]), tokenizer([text]).numpy()):
            raise UnsupportedModelError(f"its tokenizer reads {text[:20]!r} otherwise")
    if spec.pattern and can_shorten(model):
        try:
            return _export_text_tower(folder, model, tokenizer, replace(spec, padded=False))
        except UnsupportedModelError as error:
            _log.debug("the text tower is exported for padded texts only: %s", error)
    return _export_text_tower(folder, model, tokenizer, spec)


def _export_text_tower(folder: Path, model: Any, tokenizer: Any, spec: TokenizerSpec) -> float:
    import torch

    (folder / onnx.TOKENIZER).write_text(json.dumps(asdict(spec)), "utf-8")
    tokens = ExportedTokenizer(spec)
    short, long = tokens(["a dog"]), tokens(["two dogs in the snow at night " * 3] * 2)
    free = {0: "batch"} if short.shape[1] == long.shape[1] else {0: "batch", 1: "length"}

    def mine(texts: Sequence[str]) -> Rows:
        return Tower(folder / onnx.TEXT)(tokens(texts))

    def theirs(texts: Sequence[str]) -> Rows:
        with torch.inference_mode():
            rows: Rows = text_tower(model)(tokenizer(list(texts))).numpy()
            return rows

    return export_tower(
        text_tower(model, shortened=not spec.padded),
        torch.from_numpy(long),
        "tokens",
        free,
        folder / onnx.TEXT,
        lambda: _compare(mine, theirs, PROBE_TEXTS),
    )


def _export_image(folder: Path, model: Any) -> float:
    import torch

    size = model.visual.preprocess_cfg["size"]
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    probes = probe_images(height, width)
    tower = image_tower(model)

    def mine(pixels: Pixels) -> Rows:
        return Tower(folder / onnx.IMAGE)(pixels)

    def theirs(pixels: Pixels) -> Rows:
        with torch.inference_mode():
            rows: Rows = tower(torch.from_numpy(pixels)).numpy()
            return rows

    return export_tower(
        tower,
        torch.from_numpy(probes[:2]),
        "pixels",
        {0: "batch"},
        folder / onnx.IMAGE,
        lambda: _compare(mine, theirs, probes),
    )


def probe_images(height: int, width: int) -> Pixels:
    """Images to compare image towers on: noise, gradients, flat colours; uint8 ``[8, h, w, 3]``."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width]
    gradient = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1)
    coarse = random.integers(0, 256, (4, 4, 3)).repeat(-(-height // 4), 0).repeat(-(-width // 4), 1)
    images = [
        random.integers(0, 256, (height, width, 3)),
        random.integers(0, 256, (height, width, 3)) // 3 + 100,
        gradient,
        255 - gradient,
        coarse[:height, :width],
        np.zeros((height, width, 3)),
        np.full((height, width, 3), 255),
        np.full((height, width, 3), (220, 30, 30)),
    ]
    return np.stack(images).astype(np.uint8)


def _compare(mine: Callable[..., Rows], theirs: Callable[..., Rows], probes: Any) -> float:
    """1 minus the lowest cosine between both sides' rows; mine come in batches of 1, 2 and more.

    Raises:
        UnsupportedModelError: it is below ``MIN_COSINE``.
    """
    batches = [mine(probes[start:end]) for start, end in ((0, 1), (1, 3), (3, len(probes)))]
    lowest = float((np.concatenate(batches) * theirs(probes)).sum(axis=1).min())
    if not lowest >= MIN_COSINE:
        raise UnsupportedModelError(f"the exported model deviates: lowest cosine {lowest:.6f}")
    return max(0.0, 1.0 - lowest)

"""Encode any number of texts, in batches of a size that suits every encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.search.models.base import Encoder, Rows

#: Texts in a batch, for encoders that do not say how many they like.
TEXT_BATCH = 64


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> Rows:
    """Encode ``n`` texts, at least one, as float32 unit rows ``[n, dim]``.

    Several batches have texts of similar length, because a batch is padded to its longest text.
    """
    if len(texts) <= TEXT_BATCH:
        return encoder.texts(texts)
    order = np.argsort([len(text) for text in texts], kind="stable")
    rows = np.empty((len(texts), encoder.fingerprint.dim), dtype=np.float32)
    for start in range(0, len(texts), TEXT_BATCH):
        batch = order[start : start + TEXT_BATCH]
        rows[batch] = encoder.texts([texts[i] for i in batch])
    return rows

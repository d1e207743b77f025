"""Encode any number of texts, in batches of a size that suits every encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlens.search.models.base import Encoder, Rows

#: Texts in a batch, for encoders that do not say how many they like.
TEXT_BATCH = 64


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> Rows:
    """Encode ``n`` texts, at least one, as float32 unit rows ``[n, dim]``."""
    starts = range(0, len(texts), TEXT_BATCH)
    return np.concatenate([encoder.texts(texts[at : at + TEXT_BATCH]) for at in starts])

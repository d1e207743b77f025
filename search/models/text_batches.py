"""Encode many texts in batches of similar length, without the padding that changes no row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twinlens.search.models.base import MAX_TEXT
from twinlens.search.models.towers import encode_short, text_lengths

if TYPE_CHECKING:
    import torch

    Tokenize = Callable[[list[str]], torch.Tensor]

#: Tokens of a text of usual length.
_USUAL_LENGTH = 32


class TextBatches:
    """Tokenizes texts and splits them into batches.

    Args:
        model: of OpenCLIP, or ``starter``.
        tokenizer: ``list[str]`` → int64 ``[n, length]``.
    """

    def __init__(self, model: Any, tokenizer: Tokenize) -> None:
        self._model = model
        self._tokenizer = tokenizer

    def split(
        self, texts: Sequence[str], most: int
    ) -> Iterator[tuple[npt.NDArray[np.intp], torch.Tensor]]:
        """Yield batches: the numbers of their texts, and tokens cut off at the longest of them.

        Args:
            texts: any number.
            most: texts of 32 tokens in a batch; of shorter ones there are more.
        """
        import torch

        tokens = self._tokenizer([text[:MAX_TEXT] for text in texts])
        lengths = text_lengths(self._model, tokens)
        if lengths is None:
            lengths = torch.full((len(texts),), tokens.shape[1])
        order = lengths.argsort(descending=True, stable=True).numpy()
        start = 0
        while start < len(order):
            # The longest first: if memory does not suffice, it is known at once.
            longest = int(lengths[order[start]])
            count = max(1, most * _USUAL_LENGTH // longest)
            part = order[start : start + count]
            yield part, tokens[torch.from_numpy(part)][:, :longest]
            start += count

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode a batch of ``split`` on the model's device: ``[n, dim]``, not normalised."""
        return encode_short(self._model, tokens)

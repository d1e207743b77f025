"""Encode many texts in batches of similar length, without the padding that changes no row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twinlens.search.models.base import MAX_TEXT
from twinlens.search.models.tokenizer import ExportedTokenizer
from twinlens.search.models.tokenizer_export import describe_tokenizer
from twinlens.search.models.towers import UnsupportedModelError, encode_short, text_lengths

if TYPE_CHECKING:
    import torch

    Tokenize = Callable[[list[str]], torch.Tensor]

#: Texts from which on preparations for many of them pay.
MIN_BULK_TEXTS = 16
#: Texts on which tokenizers are compared.
_COMPARED = 64
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
        self._bulk_tokenizer: Tokenize | None = None

    def split(
        self, texts: Sequence[str], most: int
    ) -> Iterator[tuple[npt.NDArray[np.intp], torch.Tensor]]:
        """Yield batches: the numbers of their texts, and tokens cut off at the longest of them.

        Args:
            texts: any number.
            most: texts of 32 tokens in a batch; of shorter ones there are more.
        """
        import torch

        tokens = self._tokenize([text[:MAX_TEXT] for text in texts])
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
            # contiguous: a copy of parts of rows to a GPU would wait.
            yield part, tokens[torch.from_numpy(part)][:, :longest].contiguous()
            start += count

    def _tokenize(self, texts: list[str]) -> torch.Tensor:
        if len(texts) < MIN_BULK_TEXTS:
            return self._tokenizer(texts)
        if self._bulk_tokenizer is None:
            self._bulk_tokenizer = _quickest(self._tokenizer, texts[:_COMPARED])
        return self._bulk_tokenizer(texts)

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode a batch of ``split`` on the model's device: ``[n, dim]``, not normalised."""
        return encode_short(self._model, tokens)


def _quickest(tokenizer: Tokenize, texts: list[str]) -> Tokenize:
    """The exported form of OpenCLIP's CLIP tokenizer, five times as fast; or the tokenizer."""
    import torch

    if type(tokenizer).__name__ != "SimpleTokenizer":
        return tokenizer  # it runs on the same library
    try:
        quick = ExportedTokenizer(describe_tokenizer(tokenizer))
    except UnsupportedModelError:
        return tokenizer
    if not np.array_equal(quick(texts), tokenizer(texts).numpy()):
        return tokenizer
    return lambda texts: torch.from_numpy(quick(texts))

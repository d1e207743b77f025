"""Tokenize texts exactly as a model's own tokenizer does, without torch, transformers, open_clip.

An export of the model (``twinlens.search.models.export``) describes its tokenizer as data:
``TokenizerSpec``. ``ExportedTokenizer`` runs that description on the ``tokenizers`` library.
"""

from __future__ import annotations

import html
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
Cleaning = Literal["none", "lower", "whitespace", "canonicalize"]
#: Pieces whose ids are kept, and characters of the longest one.
_MOST_KNOWN, _LONGEST_KNOWN = 50_000, 40
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A tokenizer as data, for JSON.

    Attributes:
        pieces: the configuration of a ``tokenizers.Tokenizer``, as JSON; truncation and padding in
            it apply.
        clean: what is done to a text first; OpenCLIP's names.
        pattern: a regular expression (of the package ``regex``, ignoring case) that splits a text
            before ``pieces`` sees it, as CLIP's byte-pair encoding does; "" for none.
        special: pieces of the pattern that are tokens as they are, with their ids.
        length: ids per text, with ``pattern``: longer ones are truncated. Without a pattern
            ``pieces`` decides.
        padded: whether shorter ones are padded to that length with 0, with ``pattern``, rather than
            to the longest text of a batch.
        start, end: ids before and after each text, with ``pattern``.
        blank: an id that is replaced by 0 afterwards; -1 for none.
    """

    pieces: str
    clean: Cleaning = "none"
    pattern: str = ""
    special: dict[str, int] = field(default_factory=dict)
    length: int = 0
    padded: bool = True
    start: int = 0
    end: int = 0
    blank: int = -1


class ExportedTokenizer:
    """Texts → token ids."""

    def __init__(self, spec: TokenizerSpec) -> None:
        from tokenizers import Tokenizer as Pieces

        self._spec = spec
        self._pieces: Any = Pieces.from_str(spec.pieces)
        self._pattern: Any = None
        if spec.pattern:
            import regex

            self._pattern = regex.compile(spec.pattern, regex.IGNORECASE)
        #: Ids of pieces; captions repeat their words.
        self._known: dict[str, Sequence[int]] = {}

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """``n`` texts → int64 ``[n, length]``."""
        cleaned = [clean_text(text, self._spec.clean) for text in texts]
        if self._pattern is not None:
            return self._split(cleaned)
        rows = [encoding.ids for encoding in self._pieces.encode_batch(cleaned)]
        ids = np.array(rows, dtype=np.int64).reshape(len(rows), -1)
        if self._spec.blank >= 0:
            ids[ids == self._spec.blank] = 0
        return ids

    def count(self, texts: Sequence[str]) -> int:
        """How many tokens the texts have together, as the model sees them: without padding."""
        cleaned = [clean_text(text, self._spec.clean) for text in texts]
        if self._pattern is not None:
            return sum(len(self._tokens(text)) for text in cleaned)
        return sum(sum(one.attention_mask) for one in self._pieces.encode_batch(cleaned))

    def _split(self, texts: Sequence[str]) -> Tokens:
        spec = self._spec
        rows = [self._tokens(text) for text in texts]
        width = spec.length if spec.padded else max(map(len, rows), default=0)
        ids = np.zeros((len(rows), width), dtype=np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids

    def _tokens(self, text: str) -> list[int]:
        spec = self._spec
        # A piece has a token at least, so more pieces than tokens fit cannot count.
        pieces = [one.group() for one in self._pattern.finditer(text)][: spec.length]
        tokens = [spec.start]
        for ids in self._ids(pieces):
            tokens += ids
        tokens.append(spec.end)
        if len(tokens) > spec.length:
            tokens[spec.length - 1] = spec.end
        return tokens[: spec.length]

    def _ids(self, pieces: Sequence[str]) -> list[Sequence[int]]:
        """The ids of pieces, most of which are words that occurred before."""
        found = [self._known.get(piece) for piece in pieces]
        if None in found:
            new = [piece for piece, ids in zip(pieces, found, strict=True) if ids is None]
            encodings = self._pieces.encode_batch(new, add_special_tokens=False)
            encoded = {
                piece: [self._spec.special[piece]] if piece in self._spec.special else one.ids
                for piece, one in zip(new, encodings, strict=True)
            }
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            self._known |= {p: ids for p, ids in encoded.items() if len(p) <= _LONGEST_KNOWN}
            found = [encoded.get(p) or ids for p, ids in zip(pieces, found, strict=True)]
        return [ids or () for ids in found]


def clean_text(text: str, how: Cleaning) -> str:
    """A text as OpenCLIP's tokenizers clean it before they split it.

    Args:
        text: any text.
        how: "none"; "whitespace": repair broken Unicode (ftfy), resolve HTML entities, collapse
            white space; "lower": the same in lower case; "canonicalize": lower case, without
            punctuation.
    """
    if how == "none":
        return text
    if "&" in text or not (text.isascii() and text.isprintable()):
        # It takes 40 ms to import, and changes nothing in printable ASCII but HTML entities.
        import ftfy

        text = ftfy.fix_text(text)
    text = html.unescape(html.unescape(text)).strip()
    if how == "canonicalize":
        text = text.replace("_", " ").translate(_PUNCTUATION).lower()
    collapsed = " ".join(text.split())
    return collapsed.lower() if how == "lower" else collapsed

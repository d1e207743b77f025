"""``TokenCoverage``: tell how much of a text a model's tokenizer knows, and what it cuts off."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.search.models.base import MAX_TEXT
from twinlens.search.models.catalogue import STARTER
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.models.onnx import TOKENIZER, find_export
from twinlens.search.models.tokenizer import TokenizerSpec, clean_text

#: SentencePiece's pieces for single bytes.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
#: Letters of these are words or syllables, so that a piece of one is as good as a longer one.
_SYLLABLES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")

#: A token of a text: the text's characters that it covers, and whether it is an unknown piece or a
#: single byte.
_Token = tuple[int, int, bool]


class TokenCoverage:
    """Look at texts as a model's tokenizer splits them; nothing is encoded.

    Args:
        spec: the tokenizer.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        from tokenizers import Tokenizer as Pieces

        self._spec = spec
        self._pieces: Any = Pieces.from_str(spec.pieces)
        self._pieces.no_padding()
        model = json.loads(spec.pieces)["model"]
        self._unknown = str(model.get("unk_token") or "")
        self._pattern: Any = None
        if spec.pattern:
            import regex

            self._pattern = regex.compile(spec.pattern, regex.IGNORECASE)

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> TokenCoverage | None:
        """For a model whose tokenizer is at hand without loading it; ``None`` for others.

        That is ``starter``, and every model that is exported for queries.
        """
        export = find_export(fingerprint)
        if export is not None and not export.problem:
            fields = json.loads((export.folder / TOKENIZER).read_text("utf-8"))
            return cls(TokenizerSpec(**fields))
        if fingerprint.architecture != STARTER:
            return None
        from twinlens.search.models.starter_export import starter_fingerprint, tokenizer_spec

        same = starter_fingerprint().digest == fingerprint.digest
        return cls(tokenizer_spec()) if same else None

    def look(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """How much of each text is spelled out, and whether it is longer than the model reads.

        Returns:
            float64 ``[n]``: the share of letters beyond ASCII that the tokenizer has no word or
            part of a word for: it takes them as unknown, byte by byte, or one letter at a time
            (which counts only in scripts where letters are no words). bool ``[n]``: whether the
            model does not read the end of the text.
        """
        cleaned = [clean_text(text[:MAX_TEXT], self._spec.clean) for text in texts]
        shares, long = [], []
        for text, whole, (tokens, cut) in zip(cleaned, texts, self._split(cleaned), strict=True):
            shares.append(_spelled_out(text, tokens))
            long.append(cut or len(whole) > MAX_TEXT)
        return np.array(shares, dtype=np.float64), np.array(long, dtype=np.bool_)

    def _split(self, texts: Sequence[str]) -> Iterator[tuple[list[_Token], bool]]:
        """The tokens of each text, and whether there are more than the model reads."""
        if self._pattern is None:
            for one in self._pieces.encode_batch(list(texts)):
                yield list(self._tokens(one, 0)), bool(one.overflowing)
            return
        for text in texts:
            found: list[_Token] = []
            limit = self._spec.length - 2
            for match in self._pattern.finditer(text):
                if len(found) > limit:
                    break
                encoding = self._pieces.encode(match.group(), add_special_tokens=False)
                found += self._tokens(encoding, match.start())
            yield found[:limit], len(found) > limit

    def _tokens(self, encoding: Any, start: int) -> Iterator[_Token]:
        for token, (first, end) in zip(encoding.tokens, encoding.offsets, strict=True):
            if end > first:
                unknown = token == self._unknown or _BYTE.fullmatch(token) is not None
                yield start + first, start + end, unknown


def _spelled_out(text: str, tokens: Sequence[_Token]) -> float:
    """The share of letters beyond ASCII that no token knows as a word or a part of one."""
    read = text[: max((end for _, end, _ in tokens), default=0)]
    letters = sum(map(str.isalpha, read))
    if read.isascii() or not letters:
        return 0.0
    pieces = np.zeros(len(text), dtype=np.int64)
    known = np.zeros(len(text), dtype=np.bool_)
    unknown = np.zeros(len(text), dtype=np.bool_)
    for first, end, is_unknown in tokens:
        pieces[first:end] += 1
        known[first:end] |= end - first > 1
        unknown[first:end] |= is_unknown
    for word in _words(read):
        alone = len(word) == 1
        for at in word:
            known[at] |= pieces[at] == 1 and (alone or _is_syllable(read[at]))
    known &= ~unknown
    spelled = sum(ch.isalpha() and not ch.isascii() and not known[at] for at, ch in enumerate(read))
    return spelled / letters


def _words(text: str) -> Iterator[list[int]]:
    """The positions of the letters of each word; marks join letters, as in Hindi."""
    word: list[int] = []
    for at, letter in enumerate(text):
        if letter.isalpha():
            word.append(at)
        elif word and not unicodedata.category(letter).startswith("M"):
            yield word
            word = []
    if word:
        yield word


def _is_syllable(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(_SYLLABLES)

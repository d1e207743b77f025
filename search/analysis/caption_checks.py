"""``CaptionChecks``: find captions that are empty, cut off, or not readable for the model.

These look at the words only. A caption is

- ``empty`` if it has no letter and no digit;
- ``cut-off`` if it fills the longest text that can be stored, ends in an ellipsis, a hyphen, a
  comma or an opening bracket, or ends in a word that no other caption has and that begins a word
  which at least ten captions' words are: "a dog runs on the beac";
- ``script`` if the model's tokenizer spells more than half of its letters, because it has no words
  or parts of words in that script (see ``TokenCoverage``). It says nothing about languages in a
  script that the tokenizer knows;
- ``too-long`` if the model does not read its end.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from twinlens.search.models.coverage import TokenCoverage
from twinlens.search.records import MAX_TEXT_BYTES

CaptionProblem = Literal["empty", "cut-off", "script", "too-long"]
CAPTION_PROBLEMS: tuple[CaptionProblem, ...] = get_args(CaptionProblem)
#: Bits of the problems, in the order of ``CAPTION_PROBLEMS``.
Flags = npt.NDArray[np.uint8]
_BITS = {problem: np.uint8(1 << at) for at, problem in enumerate(CAPTION_PROBLEMS)}

#: The share of spelled letters from which a script counts as unknown.
UNREADABLE = 0.5
#: Bytes by which a text that was cut between characters is shorter than the limit.
_CHARACTER = 4
#: Words that are counted, so that memory stays bounded: about 100 MB. Later ones are not.
MAX_WORDS = 500_000
#: A word is cut off if it begins one that is counted this often.
COMMON = 10
#: The fewest words of a caption, and letters of its last word, to tell a cut word.
_FEWEST_WORDS, _FEWEST_LETTERS = 3, 2
_WORD = re.compile(r"[^\W\d_]+")
_UNFINISHED = re.compile(r"(…|\.\.\.|[-–—,([{&/])$")


class CaptionChecks:
    """Check captions in batches; ``finish`` adds what only all captions together can tell.

    Args:
        coverage: the model's tokenizer; ``None`` if it is not known: two checks are left out.
    """

    def __init__(self, coverage: TokenCoverage | None) -> None:
        self._coverage = coverage
        self._counts: Counter[str] = Counter()
        #: Last words that no caption had before, with the number of their caption.
        self._last: dict[str, int] = {}
        self._checked = 0

    @property
    def reads_tokens(self) -> bool:
        """Whether ``script`` and ``too-long`` are checked."""
        return self._coverage is not None

    def check(self, texts: Sequence[str]) -> Flags:
        """The problems of captions, uint8 ``[n]``."""
        flags = np.zeros(len(texts), dtype=np.uint8)
        for at, text in enumerate(texts):
            if not any(map(str.isalnum, text)):
                flags[at] |= _BITS["empty"]
            elif _is_unfinished(text):
                flags[at] |= _BITS["cut-off"]
            self._count(text, self._checked + at)
        self._checked += len(texts)
        if self._coverage is not None:
            spelled, long = self._coverage.look(texts)
            flags[spelled > UNREADABLE] |= _BITS["script"]
            flags[long] |= _BITS["too-long"]
        return flags

    def finish(self, flags: Flags) -> Flags:
        """All captions' problems, with cut words added to those that ``check`` returned."""
        flags = flags.copy()
        common = sorted(word for word, count in self._counts.items() if count >= COMMON)
        for word, number in self._last.items():
            at = bisect_left(common, word)
            if self._counts[word] <= 1 and at < len(common) and common[at].startswith(word):
                flags[number] |= _BITS["cut-off"]
        return flags

    def _count(self, text: str, number: int) -> None:
        words = _WORD.findall(text.casefold())
        if (
            len(words) >= _FEWEST_WORDS
            and text[-1].isalpha()
            and len(words[-1]) >= _FEWEST_LETTERS
            and words[-1] not in self._counts
            and len(self._last) < MAX_WORDS
        ):
            self._last.setdefault(words[-1], number)
        for word in words:
            if word in self._counts or len(self._counts) < MAX_WORDS:
                self._counts[word] += 1


def has_problem(flags: Flags, problem: CaptionProblem) -> npt.NDArray[np.bool_]:
    """Which captions have a problem: bool ``[n]``."""
    found: npt.NDArray[np.bool_] = (flags & _BITS[problem]) != 0
    return found


def problems_of(flags: int) -> list[CaptionProblem]:
    """The problems of one caption by name."""
    return [problem for problem in CAPTION_PROBLEMS if flags & _BITS[problem]]


def _is_unfinished(text: str) -> bool:
    at_limit = len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES - _CHARACTER
    return at_limit or _UNFINISHED.search(text) is not None

"""A bare word → words that a model trained on captions understands better.

Encoders learn from captions, in which a word seldom stands alone; prompts such as "a photo of"
are the usual remedy (Radford et al., https://arxiv.org/abs/2103.00020, section 3.1.4).
``benchmarks/bare_words.py`` measures what it gains; two words and more are taken as they are.
"""

from __future__ import annotations

import re

from twinlens.search.records import Target

#: English words only: what the phrase around them is.
_BARE = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*")


def phrase(words: str, target: Target) -> str:
    """What to encode for these words: a bare one that looks for pictures is put into a phrase."""
    if target == "images" and _BARE.fullmatch(words):
        return f"a photo of {words}"
    return words

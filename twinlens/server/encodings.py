"""Choose a content coding for a response, and compress with it."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from typing import Literal

Encoding = Literal["br", "gzip"]
HAS_BROTLI = find_spec("brotli") is not None
#: Best first.
_KNOWN: tuple[Encoding, ...] = ("br", "gzip") if HAS_BROTLI else ("gzip",)


def accepted_encoding(header: str) -> Encoding | None:
    """The best content coding that an ``Accept-Encoding`` header names; ``None`` for none."""
    accepted = set()
    for part in header.lower().split(","):
        name, _, parameter = part.partition(";")
        _, _, weight = parameter.replace(" ", "").partition("q=")
        if weight.strip("0.") or not weight:
            accepted.add(name.strip())
    return next((one for one in _KNOWN if one in accepted), None)


def compress(data: bytes, encoding: Encoding) -> bytes:
    """Compress what is sent once: quickly, rather than as small as possible."""
    return brotli_compress(data, 4) if encoding == "br" else gzip.compress(data, 5, mtime=0)


def brotli_compress(data: bytes, quality: int) -> bytes:
    """Compress with brotli, at a quality from 0 to 11."""
    import brotli

    compressed: bytes = brotli.compress(data, quality=quality)
    return compressed

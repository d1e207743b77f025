"""Embed what clients of other servers' APIs send: texts, and pictures as data URLs or addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from twinlens.search.analysis.pictures import encode_images
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.batches import encode_texts
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.query.parts import MAX_QUERY_TEXT
from twinlens.server.problems import Problem
from twinlens.server.query_parts import ImageReader
from twinlens.server.schemas.requests import MAX_URL, Base64Image, UrlImage

#: What begins the address of a picture that is sent inside of it.
DATA_URL = "data:"
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,40}(;[a-z]+=[\w.-]{1,40})*;base64,", re.I | re.A)
_WORDS = re.compile(r"\w+|[^\w\s]")
Source = str | Base64Image | UrlImage


def text_or_picture(sent: str, param: str) -> Source:
    """What a text stands for: itself, or the picture of a data URL.

    Args:
        sent: the text.
        param: of the request, for messages.

    Raises:
        Problem: it is too long, or a data URL that is not valid.
    """
    if sent.startswith(DATA_URL + "image/"):
        return picture(sent, param)
    if len(sent) > MAX_QUERY_TEXT:
        raise refused(f"a text has at most {MAX_QUERY_TEXT:,} characters", param)
    return sent


def picture(url: str, param: str) -> Base64Image | UrlImage:
    """The picture of a data URL, or at an address.

    Raises:
        Problem: neither is valid.
    """
    if not url.startswith(DATA_URL):
        if not url.startswith(("http://", "https://")) or len(url) > MAX_URL:
            raise refused("a picture is a data URL: data:image/jpeg;base64,…", param)
        return UrlImage(url=url)
    head = _DATA_URL.match(url)
    if head is None:
        raise refused("the data URL of a picture begins with data:image/TYPE;base64,", param)
    if len(url) <= head.end() + 3:
        raise refused("the data URL is empty", param)
    return Base64Image(base64=url[head.end() :])


def embed_sources(encoder: Encoder, sources: Sequence[Source], images: ImageReader) -> Rows:
    """Encode ``n`` texts and pictures as float32 unit rows ``[n, dim]``, in order."""
    rows = np.empty((len(sources), encoder.fingerprint.dim), dtype=np.float32)
    texts = {n: one for n, one in enumerate(sources) if isinstance(one, str)}
    if texts:
        rows[list(texts)] = encode_texts(encoder, list(texts.values()))
    pictures = {n: one for n, one in enumerate(sources) if not isinstance(one, str)}
    if pictures:
        data = images.read_all(list(pictures.values()), ())
        rows[list(pictures)] = encode_images(encoder, data)
    return rows


def count_tokens(encoder: Encoder, texts: Sequence[str]) -> int:
    """The tokens of texts; their words and signs where the encoder does not count tokens."""
    with suppress(AttributeError):
        return int(encoder.count_tokens(texts))  # type: ignore[attr-defined]
    return sum(len(_WORDS.findall(text)) for text in texts)


def check_dimensions(wanted: int | None, model: Fingerprint) -> None:
    """Refuse another length of embeddings than that of the model.

    Raises:
        Problem: there is no such length.
    """
    if wanted not in (None, model.dim):
        detail = f"embeddings of {model.label} have {model.dim} dimensions: leave dimensions out"
        raise refused(detail, "dimensions")


def refused(detail: str, param: str, status: int = 400) -> Problem:
    """The problem of a parameter whose value is not valid."""
    return Problem(status, "usage", detail, extra={"param": param})

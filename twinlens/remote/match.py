"""Match pictures and texts on a twinlens server, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import numpy as np

from twinlens.remote.messages import BATCH, BATCH_BYTES, batches, server_name
from twinlens.search.analysis.match import PairMatch
from twinlens.search.analysis.matcher import MatchInput, check_texts
from twinlens.search.errors import ImageError, reason_of
from twinlens.search.images.formats import sniff
from twinlens.search.models.base import Rows
from twinlens.search.query.parts import MAX_QUERY_TEXT

#: Pictures times texts in one request: what a server accepts by default.
MAX_MATCHES = 10_000
#: Sends the JSON and the files of a request, and returns the JSON of the answer.
Post = Callable[[Mapping[str, Any], Sequence[bytes]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Read:
    """A picture to send: its bytes, the id of a stored one, or why it cannot be read."""

    asked: MatchInput
    data: bytes = b""
    id: str = ""
    error: str = ""


def stored_on_server(names: Sequence[str]) -> dict[str, Rows]:
    """Stand-ins for the rows of stored pictures, which only the server has."""
    return {name: np.empty(0, dtype=np.float32) for name in names}


def match(
    post: Post, inputs: Iterable[MatchInput], references: str | Iterable[str]
) -> Iterator[PairMatch]:
    """Have a server score pictures; see ``twinlens.Index.match``.

    Args:
        post: sends to ``/v1/match``.
        inputs: pictures with their texts; each is read when its batch is sent.
        references: reference texts.
    """
    return _match(post, inputs, {"references": check_texts(references)})


def _match(
    post: Post, inputs: Iterable[MatchInput], shared: Mapping[str, Any]
) -> Iterator[PairMatch]:
    for grid, some in groupby(inputs, lambda one: one.alternatives):
        score = _match_grid if grid else _match_pairs
        yield from score(post, map(_read, some), shared)


def _match_grid(
    post: Post, read: Iterator[_Read], shared: Mapping[str, Any]
) -> Iterator[PairMatch]:
    """Score pictures that all have the same texts."""
    first = next(read)
    texts = list(first.asked.texts)
    most = max(1, min(BATCH, MAX_MATCHES // len(texts)))
    for batch in batches(chain([first], read), _size_of, most, BATCH_BYTES):
        ids = [one.id for one in batch if one.id]
        files = [one.data for one in batch if one.data]
        found: list[Any] = []
        if ids or files:
            found = post({**shared, "texts": texts, "ids": ids}, files)["results"]
        stored, sent = iter(found[: len(ids)]), iter(found[len(ids) :])
        for one in batch:
            result = {"error": one.error} if one.error else next(stored if one.id else sent)
            yield from _results(one.asked.image, texts, result)


def _match_pairs(
    post: Post, read: Iterator[_Read], shared: Mapping[str, Any]
) -> Iterator[PairMatch]:
    """Score pairs; a picture with several texts is sent once for each batch."""
    pairs = ((one, text) for one in read for text in one.asked.texts)
    for batch in batches(pairs, lambda pair: _size_of(pair[0]), BATCH, BATCH_BYTES):
        files: list[bytes] = []
        sent: list[dict[str, Any]] = []
        for one, text in batch:
            if one.error:
                continue
            pair: dict[str, Any] = {"text": text[:MAX_QUERY_TEXT]}
            if one.id:
                pair["id"] = one.id
            else:
                if not (files and files[-1] is one.data):
                    files.append(one.data)
                pair["image"] = {"file": len(files) - 1}
            sent.append(pair)
        results = iter(post({**shared, "pairs": sent}, files)["results"] if sent else ())
        for one, text in batch:
            result = {"error": one.error} if one.error else next(results)
            yield from _results(one.asked.image, [text], result)


def _read(asked: MatchInput) -> _Read:
    if asked.row is not None:
        return _Read(asked, id=server_name(asked.image))
    assert asked.load is not None
    try:
        data = asked.load()
    except (ImageError, OSError) as error:
        return _Read(asked, error=reason_of(error))
    if sniff(data) is None:
        # A file that is no picture is not sent anywhere.
        return _Read(asked, error="not an image in a format that can be read here")
    return _Read(asked, data)


def _size_of(one: _Read) -> int:
    return len(one.data)


def _results(image: str, texts: Sequence[str], result: Mapping[str, Any]) -> Iterator[PairMatch]:
    error = str(result.get("error") or "")
    if error:
        for text in texts:
            yield PairMatch(image, text, error=error)
        return
    for text, found in zip(texts, result["matches"], strict=True):
        yield PairMatch(image, text, **{name: found[name] for name in found if name != "text"})

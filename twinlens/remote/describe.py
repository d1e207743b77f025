"""Describe pictures on a twinlens server, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from twinlens.ingest.sample import Item, Sample
from twinlens.remote.messages import BATCH, BATCH_BYTES, batches
from twinlens.search.analysis.describe import Described, Proposal
from twinlens.search.errors import ImageError, reason_of
from twinlens.search.images.formats import sniff
from twinlens.search.records import image_id

#: Sends the JSON and the files of a request to ``/v1/describe``, and returns the results.
Post = Callable[[Mapping[str, Any], Sequence[bytes]], Sequence[Mapping[str, Any]]]


def describe_files(post: Post, items: Iterable[Item]) -> Iterator[Described]:
    """Describe pictures that are read here; those with captions are not sent."""
    for batch in batches(_read(items), lambda one: len(one[1]), BATCH, BATCH_BYTES):
        files = [data for _, data in batch if data]
        results = iter(post({}, files) if files else ())
        for one, data in batch:
            yield _described(one.path, image_id(data), next(results)) if data else one


def describe_stored(
    post: Post, pages: Iterable[Sequence[Mapping[str, Any]]]
) -> Iterator[Described]:
    """Describe stored pictures, given as pages of objects with id and path."""
    for page in pages:
        for start in range(0, len(page), BATCH):
            batch = page[start : start + BATCH]
            results = post({"ids": [one["id"] for one in batch]}, ())
            for one, result in zip(batch, results, strict=True):
                yield _described(one["path"], one["id"], result)


def _read(items: Iterable[Item]) -> Iterator[tuple[Described, bytes]]:
    """Pictures with their bytes; without bytes, a result that needs no server."""
    for item in items:
        if item.load is None:
            continue
        if isinstance(item, Sample) and item.captions:
            yield Described(item.uri, captions=item.captions), b""
            continue
        try:
            data = item.load()
        except (ImageError, OSError) as error:
            yield Described(item.uri, error=reason_of(error)), b""
            continue
        if sniff(data) is None:
            # A file that is no picture is not sent anywhere.
            error_text = "not an image in a format that can be read here"
            yield Described(item.uri, error=error_text), b""
        else:
            yield Described(item.uri), data


def _described(path: str, key: str, result: Mapping[str, Any]) -> Described:
    if result.get("error"):
        return Described(path, error=str(result["error"]))
    proposals = (Proposal(one["text"], one["probability"]) for one in result.get("proposals", ()))
    return Described(path, key, tuple(proposals), tuple(result.get("captions") or ()))

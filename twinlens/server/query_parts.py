"""Turn the query of a request into the engine's parts. A query cannot name a file of the server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from twinlens.search.errors import ImageError, UsageError
from twinlens.search.images.fetch import Fetcher, FetchLimits
from twinlens.search.query.parts import Id, Image, Not, Part, Plain, Text, Vector
from twinlens.server.schemas import requests
from twinlens.server.settings import Settings


class ImageReader:
    """Reads the images of requests; thread-safe.

    Args:
        settings: whether URLs are allowed, and how large an image may be.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _fetcher(self) -> Fetcher:
        settings = self._settings
        return Fetcher(
            FetchLimits(
                networks=settings.networks,
                max_bytes=settings.max_body,
                tries=1,
                connect_seconds=5.0,
                read_seconds=10.0,
                total_seconds=20.0,
            )
        )

    def read(self, source: requests.ImageSource, files: Sequence[bytes]) -> bytes:
        """The encoded bytes of an image.

        Raises:
            UsageError: the base64 is not valid, the form has no such file, or URLs are not allowed.
            ImageError: the image cannot be fetched.
        """
        if isinstance(source, requests.Base64Image):
            try:
                return base64.b64decode(source.base64, validate=True)
            except (binascii.Error, ValueError):
                raise UsageError("the image is not valid base64") from None
        if isinstance(source, requests.FileImage):
            if source.file >= len(files):
                raise UsageError(f"the form has no file {source.file}: it has {len(files)}")
            return files[source.file]
        if not self._settings.allow_urls:
            raise UsageError("this server does not fetch images from URLs: send the image itself")
        try:
            return self._fetcher.fetch(source.url)
        except OSError as error:
            raise ImageError(f"cannot fetch the image: {error}") from None

    def read_all(
        self, sources: Sequence[requests.ImageSource], files: Sequence[bytes]
    ) -> list[bytes]:
        """The images of the JSON, then the files that it does not name."""
        images = [self.read(source, files) for source in sources]
        named = {source.file for source in sources if isinstance(source, requests.FileImage)}
        return images + [data for number, data in enumerate(files) if number not in named]


@dataclass(frozen=True, slots=True)
class QueryInput:
    """A query as it was sent, with the files of the form."""

    query: requests.Query | None
    files: tuple[bytes, ...] = ()

    @property
    def quick(self) -> bool:
        """Whether ``parts`` is fast, with no image to read."""
        return not any(_image_of(one) for one in _listed(self.query))

    def parts(self, images: ImageReader) -> list[Part] | None:
        """The engine's parts, then the files that no part names. ``None`` for an empty query.

        Raises:
            UsageError, ImageError: see ``ImageReader.read``.
        """
        listed = _listed(self.query)
        sources = map(_image_of, listed)
        named = {source.file for source in sources if isinstance(source, requests.FileImage)}
        parts = [_part(one, self.files, images) for one in listed]
        parts += [Image(data) for n, data in enumerate(self.files) if n not in named]
        return parts or None


def _listed(query: requests.Query | None) -> list[requests.PartOrWords]:
    if query is None:
        return []
    return list(query) if isinstance(query, list) else [query]


def _part(sent: requests.PartOrWords, files: Sequence[bytes], images: ImageReader) -> Part:
    if isinstance(sent, requests.NotPart):
        inner = _part(sent.not_, files, images)
        assert not isinstance(inner, Not)
        return Not(inner, sent.weight)
    return _plain(sent, files, images)


def _plain(sent: str | requests.Plain, files: Sequence[bytes], images: ImageReader) -> Plain:
    if isinstance(sent, str):
        return Text(sent)
    if isinstance(sent, requests.TextPart):
        return Text(sent.text, sent.weight)
    if isinstance(sent, requests.ImagePart):
        return Image(images.read(sent.image, files), sent.weight)
    if isinstance(sent, requests.IdPart):
        return Id(sent.id, sent.weight)
    return Vector(np.array(sent.vector, dtype=np.float64), sent.weight)


def _image_of(sent: requests.PartOrWords) -> requests.ImageSource | None:
    inner = sent.not_ if isinstance(sent, requests.NotPart) else sent
    return inner.image if isinstance(inner, requests.ImagePart) else None

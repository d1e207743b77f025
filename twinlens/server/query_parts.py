"""Pictures and parts of a request → what the engine takes. Never a path: that would be a leak."""

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


class Pictures:
    """Gets at the bytes of pictures; from any thread.

    Args:
        settings: say whether addresses are allowed, and how large a picture may be.
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
        """The encoded bytes of a picture.

        Raises:
            UsageError: no base64, no such file in the form, or addresses are not allowed.
            ImageError: the address gives no picture.
        """
        if isinstance(source, requests.Base64Image):
            try:
                return base64.b64decode(source.base64, validate=True)
            except (binascii.Error, ValueError):
                raise UsageError("a picture's base64 is none") from None
        if isinstance(source, requests.FileImage):
            if source.file >= len(files):
                raise UsageError(f"the form has no file {source.file}: it has {len(files)}")
            return files[source.file]
        if not self._settings.allow_urls:
            raise UsageError("this server takes no addresses of pictures: send the picture itself")
        try:
            return self._fetcher.fetch(source.url)
        except OSError as error:
            raise ImageError(f"the picture cannot be fetched: {error}") from None


@dataclass(frozen=True, slots=True)
class Asking:
    """A query as it came, with the form's files."""

    query: requests.Query | None
    files: tuple[bytes, ...] = ()

    @property
    def quick(self) -> bool:
        """Whether ``parts`` takes no time: nothing is to be decoded or fetched."""
        return not any(_has_picture(one) for one in _listed(self.query))

    def parts(self, pictures: Pictures) -> list[Part] | None:
        """The engine's parts; files that no part refers to are added. ``None`` for nothing.

        Raises:
            UsageError, ImageError: see ``Pictures.read``.
        """
        asked = _listed(self.query)
        named = {source.file for one in asked if (source := _file_of(one)) is not None}
        parts = [_part(one, self.files, pictures) for one in asked]
        parts += [Image(data) for n, data in enumerate(self.files) if n not in named]
        return parts or None


def _listed(query: requests.Query | None) -> list[requests.PartOrWords]:
    if query is None:
        return []
    return list(query) if isinstance(query, list) else [query]


def _part(said: requests.PartOrWords, files: Sequence[bytes], pictures: Pictures) -> Part:
    if isinstance(said, requests.NotPart):
        inner = _part(said.not_, files, pictures)
        assert not isinstance(inner, Not)
        return Not(inner, said.weight)
    return _plain(said, files, pictures)


def _plain(said: str | requests.Plain, files: Sequence[bytes], pictures: Pictures) -> Plain:
    if isinstance(said, str):
        return Text(said)
    if isinstance(said, requests.TextPart):
        return Text(said.text, said.weight)
    if isinstance(said, requests.ImagePart):
        return Image(pictures.read(said.image, files), said.weight)
    if isinstance(said, requests.IdPart):
        return Id(said.id, said.weight)
    return Vector(np.array(said.vector, dtype=np.float64), said.weight)


def _image_of(said: requests.PartOrWords) -> requests.ImageSource | None:
    inner = said.not_ if isinstance(said, requests.NotPart) else said
    return inner.image if isinstance(inner, requests.ImagePart) else None


def _has_picture(said: requests.PartOrWords) -> bool:
    return _image_of(said) is not None


def _file_of(said: requests.PartOrWords) -> requests.FileImage | None:
    source = _image_of(said)
    return source if isinstance(source, requests.FileImage) else None

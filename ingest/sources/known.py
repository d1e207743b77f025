"""The names of the pictures that are given beside a caption file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Set
from itertools import islice
from pathlib import Path

from twinlens.ingest.sample import Sample
from twinlens.ingest.sources.choose import image_names
from twinlens.ingest.sources.detect import Items
from twinlens.search.images.formats import is_image_name

#: Pictures of each source that are looked at.
MAX_PICTURES = 20_000
_DEPTH = 2


class KnownPictures:
    """Lists pictures when it is first called, once: of the sources, and beside the caption files.

    Args:
        folders: of the caption files.

    Attributes:
        streams: the sources of pictures.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.streams: list[Items] = []
        self._folders = list(dict.fromkeys(folders))
        self._names: set[str] | None = None

    def __call__(self) -> Set[str]:
        """The names, with and without folders and suffixes, in NFC."""
        if self._names is None:
            self._names = set()
            for stream in self.streams:
                for item in islice(stream(), MAX_PICTURES):
                    if isinstance(item, Sample) and item.has_image:
                        self._names.update(image_names(item.relative))
            for folder in self._folders:
                for name in islice(_below(folder), MAX_PICTURES):
                    self._names.update(image_names(name))
        return self._names


def _below(folder: Path) -> Iterator[str]:
    for path, folders, names in os.walk(folder):
        inner = os.path.relpath(path, folder)
        if inner.count(os.sep) >= _DEPTH - 1 and inner != os.curdir:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            os.path.normpath(os.path.join(inner, name)) for name in names if is_image_name(name)
        )

"""Read and write the files beside an image that describe it: ``photo.txt``, ``photo.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from twinlens.ingest.sources.columns import (
    CAPTION_COLUMNS,
    DOWNLOAD_COLUMNS,
    Columns,
    captions_in,
    guess,
)
from twinlens.search.records import (
    CAPTION_PROBABILITY,
    CAPTION_SOURCE,
    MAX_CAPTIONS,
    MAX_SHOWN_BYTES,
    PROPOSED,
    clean_metadata,
    clean_text,
)

#: A larger sidecar is not a caption.
MAX_SIDECAR_BYTES = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Captions and metadata from an image's sidecar files."""

    captions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def read_sidecars(picture: Path) -> Sidecar:
    """Read the sidecars of an image file; see ``parse_sidecars``.

    Raises:
        ValueError: the text is larger than 1 MB.
        OSError: a sidecar cannot be read.
    """
    return parse_sidecars(str(picture), _read)


def parse_sidecars(picture: str, read: Callable[[str], bytes | None]) -> Sidecar:
    """Parse ``photo.txt`` or ``photo.jpg.txt``, one caption a line, and ``photo.json``.

    The JSON file is an object as img2dataset writes it: the caption column gives captions, every
    other scalar is metadata. Many programs write other ``.json`` files beside images: one that is
    not an object, or larger than 1 MB, is ignored.

    Args:
        picture: the image's file name.
        read: returns the bytes of a file, at most ``MAX_SIDECAR_BYTES`` + 1 of them; None if there
            is none.

    Raises:
        ValueError: the text is larger than 1 MB.
    """
    captions = next(filter(None, _beside(picture, ".txt", read, _text)), ())
    described = next(filter(None, _beside(picture, ".json", read, _object)), None)
    if described is None:
        return Sidecar(captions)
    column = guess({name.lower(): name for name in described}, CAPTION_COLUMNS)
    columns = Columns("", (column,) if column else ())
    # Photo libraries export the file name as the title: not a caption.
    own_name = os.path.basename(picture)
    more = [text for text in captions_in(described, columns) if text != own_name]
    plain = {name: value for name, value in described.items() if _is_plain(name, value, columns)}
    unique = tuple(dict.fromkeys((*captions, *more)))[:MAX_CAPTIONS]
    return Sidecar(unique, clean_metadata(plain))


def find_sidecar(picture: Path) -> Path | None:
    """The first sidecar of an image file, whatever it holds; ``None`` if there is none."""
    names = (name for suffix in (".txt", ".json") for name in _names(str(picture), suffix))
    return next((Path(name) for name in names if os.path.lexists(name)), None)


def write_proposal(picture: Path, caption: str, probability: float) -> Path:
    """Write a proposed caption to ``photo.jpg.json``, which must not exist.

    Reading it gives the caption, and as metadata ``caption_source`` (``proposed``) and
    ``caption_probability``.

    Raises:
        OSError: there is such a file, or it cannot be written; then nothing is left of it.
    """
    content = {
        "caption": caption,
        CAPTION_SOURCE: PROPOSED,
        CAPTION_PROBABILITY: round(probability, 3),
    }
    path = Path(f"{picture}.json")
    file = path.open("x", encoding="utf-8")
    try:
        with file:
            file.write(json.dumps(content, ensure_ascii=False) + "\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _names(picture: str, suffix: str) -> tuple[str, str]:
    return os.path.splitext(picture)[0] + suffix, picture + suffix


def _beside(
    picture: str,
    suffix: str,
    read: Callable[[str], bytes | None],
    parse: Callable[[str, bytes], T],
) -> Iterator[T]:
    for name in _names(picture, suffix):
        data = read(name)
        if data is not None:
            yield parse(name, data)


def _text(name: str, data: bytes) -> tuple[str, ...]:
    if len(data) > MAX_SIDECAR_BYTES:
        raise ValueError(f"its sidecar {os.path.basename(name)} is larger than 1 MB")
    lines = data.decode("utf-8-sig", "replace").splitlines()
    return tuple(dict.fromkeys(filter(None, map(clean_text, lines))))[:MAX_CAPTIONS]


def _object(name: str, data: bytes) -> dict[str, Any] | None:
    if len(data) > MAX_SIDECAR_BYTES:
        return None
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SIDECAR_BYTES + 1)
    except FileNotFoundError:
        return None


def _is_plain(name: str, value: Any, columns: Columns) -> bool:
    short = not isinstance(value, str) or len(value) <= MAX_SHOWN_BYTES
    return short and name not in columns and name not in DOWNLOAD_COLUMNS

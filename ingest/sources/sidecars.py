"""Read and write the files beside an image that describe it: ``photo.txt``, ``photo.json``."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from twinlens.ingest.sources.columns import (
    CAPTION_COLUMNS,
    DOWNLOAD_COLUMNS,
    TEXT_KEYS,
    Columns,
    captions_in,
    guess,
    texts_of,
)
from twinlens.ingest.sources.encodings import decode_text
from twinlens.ingest.sources.sidecar_names import (
    FilesBeside,
    Siblings,
    json_sidecars,
    sidecars_of,
    text_sidecars,
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
#: Errors of a sidecar that is not there, or cannot be: its name is too long, or a folder has it.
_NO_SIDECAR = (errno.ENOENT, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EINVAL,
               errno.ELOOP)  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Captions and metadata from an image's sidecar files.

    Attributes:
        captions: without duplicates.
        metadata: further columns.
        notes: which sidecars could not be read, and why: one sentence each.
    """

    captions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


_NONE = Sidecar()


class SidecarError(ValueError):
    """A sidecar cannot be used; the message says why."""


def read_sidecars(picture: str | Path, siblings: Siblings | None = None) -> Sidecar:
    """Read the sidecars of an image file; see ``parse_sidecars``.

    Args:
        picture: the image file.
        siblings: the names in its folder, if they are listed already.

    Raises:
        OSError: the disk or the network fails.
    """
    folder, name = os.path.split(picture)

    def read(name: str) -> bytes | None:
        return _read(os.path.join(folder, name))

    beside = FilesBeside(folder) if siblings is None else siblings
    return parse_sidecars(name, beside, read) if beside.may_have_sidecars else _NONE


def parse_sidecars(
    picture: str, siblings: Siblings, read: Callable[[str], bytes | None]
) -> Sidecar:
    """Parse the sidecars of an image.

    ``photo.txt`` or ``photo.jpg.txt`` have one caption a line, and so have ``.caption`` and
    ``.text``. ``photo.json`` is an object as img2dataset or Google Takeout write it: the caption
    column gives captions, everything else is metadata; or it is a list of captions. Many programs
    write other ``.json`` files beside images: those, and what is larger than 1 MB, are ignored.

    A sidecar that cannot be read never costs the image: ``notes`` says what is missing.

    Args:
        picture: the image's file name.
        siblings: the names of the files beside it.
        read: returns the bytes of a file, at most ``MAX_SIDECAR_BYTES`` + 1 of them; None if it is
            not there. Raises ``SidecarError`` if it cannot be read.
    """
    texts = list(text_sidecars(picture, siblings))
    return parse_named(picture, texts, json_sidecars(picture, siblings), read)


def parse_named(
    picture: str,
    texts: Sequence[Sequence[str]],
    objects: Sequence[str],
    read: Callable[[str], bytes | None],
) -> Sidecar:
    """Parse the sidecars of an image, given their names; see ``parse_sidecars``.

    Args:
        picture: the image's file name.
        texts: names of text sidecars; of each group, the first that has a caption counts.
        objects: names of JSON sidecars.
        read: see ``parse_sidecars``.
    """
    notes: list[str] = []
    captions: list[str] = []
    for names in texts:
        said = (_parsed(name, read, _text, notes) for name in names)
        captions += next(filter(None, said), ())
    metadata: dict[str, Any] = {}
    for name in objects:
        more, columns = _described(picture, _parsed(name, read, _json, notes))
        if captions and columns.get(CAPTION_SOURCE) == PROPOSED:
            continue  # a written caption replaces a proposed one
        captions += more
        metadata = {**columns, **metadata}
    unique = tuple(dict.fromkeys(captions))[:MAX_CAPTIONS]
    return Sidecar(unique, clean_metadata(metadata), tuple(notes))


def find_sidecar(picture: Path) -> Path | None:
    """The first sidecar of an image file, whatever it holds; ``None`` if there is none."""
    beside = FilesBeside(picture.parent)
    names = sidecars_of(picture.name, beside)
    return picture.parent / names[0] if names else None


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


def _parsed(
    name: str,
    read: Callable[[str], bytes | None],
    parse: Callable[[bytes], T],
    notes: list[str],
) -> T | None:
    try:
        data = read(name)
        return None if data is None else parse(data)
    except SidecarError as error:
        notes.append(f"its sidecar {os.path.basename(name)} {error}")
        return None


def _text(data: bytes) -> tuple[str, ...]:
    if len(data) > MAX_SIDECAR_BYTES:
        raise SidecarError("is larger than 1 MB and is not used as a caption")
    try:
        lines = decode_text(data).splitlines()
    except UnicodeDecodeError:
        raise SidecarError("is neither UTF-8 nor UTF-16: save it as UTF-8") from None
    return tuple(dict.fromkeys(filter(None, map(clean_text, lines))))[:MAX_CAPTIONS]


def _json(data: bytes) -> Any:
    if len(data) > MAX_SIDECAR_BYTES:
        return None
    try:
        return json.loads(decode_text(data))
    except (ValueError, RecursionError):
        return None


def _described(picture: str, value: Any) -> tuple[list[str], dict[str, Any]]:
    """The captions and columns in a JSON sidecar."""
    if isinstance(value, list):
        return (texts_of(value) if all(map(_is_caption, value)) else []), {}
    if not isinstance(value, dict):
        return [], {}
    column = guess(value, CAPTION_COLUMNS)
    columns = Columns("", (column,) if column else ())
    # Photo libraries export the file name as the title: not a caption.
    own_name = os.path.basename(picture)
    captions = [text for text in captions_in(value, columns) if text != own_name]
    return captions, {name: one for name, one in value.items() if _is_plain(name, one, columns)}


def _is_caption(value: Any) -> bool:
    """Whether an element of a list is a caption, or an object with one."""
    if isinstance(value, dict):
        return any(isinstance(value.get(key), str) for key in TEXT_KEYS)
    return isinstance(value, str)


def _read(path: str) -> bytes | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would block
            return None
        with open(path, "rb") as file:
            return file.read(MAX_SIDECAR_BYTES + 1)
    except PermissionError:
        raise SidecarError("cannot be read: no permission") from None
    except ValueError:  # a name that no file can have
        return None
    except OSError as error:
        if error.errno in _NO_SIDECAR:
            return None
        raise


def _is_plain(name: str, value: Any, columns: Columns) -> bool:
    short = not isinstance(value, str) or len(value) <= MAX_SHOWN_BYTES
    return short and name not in columns and name not in DOWNLOAD_COLUMNS

"""Find the caption files that lie in a folder of pictures and describe these."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice
from pathlib import Path
from typing import Any

from twinlens.ingest.sources.caption_formats import SUFFIXES, CaptionFormat, format_of
from twinlens.ingest.sources.captions import CaptionFile, ImageFinder
from twinlens.ingest.sources.choose import SAMPLED, image_columns
from twinlens.ingest.sources.columns import choose_columns
from twinlens.ingest.sources.detect import ReadOptions, holds_pictures
from twinlens.ingest.sources.folder import is_too_deep
from twinlens.ingest.sources.passed_over import is_passed_over
from twinlens.ingest.sources.sidecar_names import Siblings, sidecars_of
from twinlens.search.errors import SourceError
from twinlens.search.images.formats import is_image_name
from twinlens.search.milvus.lite.folder import is_database

#: Folders that are looked into, and bytes of a file that is read.
MAX_FOLDERS = 20_000
MAX_BYTES = 512 << 20
#: Pictures of a file that are looked for, to see whether it describes those that are there.
_TRIED = 50


def captions_inside(
    root: Path, options: ReadOptions, named: Set[str], *, use: bool
) -> list[CaptionFile]:
    """Read the caption files below a folder that plainly describe pictures there.

    Tells the user of each that is used, and of each that looks like one and is not.

    Args:
        root: the folder.
        options: how to read; what ``exclude`` matches is left out.
        named: files that the user named, which are read anyway.
        use: whether to read them at all; otherwise they are only told.
    """
    found: list[CaptionFile] = []
    for path in _candidates(root, options):
        if str(path) in named:
            continue
        try:
            file, note = _described(path, options, use)
        except (SourceError, OSError):  # of another program
            continue
        except UnicodeError:
            file, note = None, "is neither UTF-8 nor UTF-16 and is not read: save it as UTF-8"
        if note:
            options.warn(str(path), note)
        if file is not None:
            found.append(file)
    return found


def _described(path: Path, options: ReadOptions, use: bool) -> tuple[CaptionFile | None, str]:
    """The file if it is used, and what to tell the user."""
    kind = format_of(path)
    if kind is None or holds_pictures(path, options):
        return None, ""
    if path.stat().st_size > MAX_BYTES:
        return None, f"is larger than {MAX_BYTES >> 20} MB and is not read: name it to read it"
    unread = _what_is_missing(path, kind)
    if unread is not None:
        return None, unread
    if not use:
        return None, "is not read, because another caption file is named: name this one, too"
    try:
        file = options.caption_file(path, kind)
    except SourceError as error:
        return None, f"has captions, but is not read: {error}"
    finder = ImageFinder(path, [])
    tried = [entry.image for entry in islice(file, _TRIED) if entry.image]
    there = sum(_is_there(finder, name) for name in tried)
    if not tried or 2 * there < len(tried):
        return None, (
            "has captions, but not of pictures that are here: name it to read it, or its column "
            "of pictures with --image-column"
        )
    return file, f"its captions are used; --exclude {path.name} leaves them out"


def _what_is_missing(path: Path, kind: CaptionFormat) -> str | None:
    """Why a table is no caption file, to tell the user; "" to say nothing, None if it is one.

    Raises:
        SourceError: it is in no known format.
    """
    rows: list[Mapping[str, Any]] = []
    try:
        rows += (row for _, row in islice(kind.read(path), SAMPLED))
    except SourceError:
        if not rows:
            raise
    names = list(dict.fromkeys(name for row in rows for name in row))
    if choose_columns(str(path), names).captions:
        return None
    if rows and image_columns(rows):
        return (
            "names pictures, but none of its columns is known to have captions: name it, and the "
            f"column with --caption-column; there are: {', '.join(map(str, names[:20]))}"
        )
    return ""


def _is_there(finder: ImageFinder, name: str) -> bool:
    try:
        return finder.find(name) is not None
    except SourceError:  # several pictures have the name
        return True


def _candidates(root: Path, options: ReadOptions) -> Iterator[Path]:
    """Files below a folder with the suffix of a caption file that are no picture's sidecar."""
    for folder, folders, names in islice(os.walk(root), MAX_FOLDERS):
        if is_database(folder) or is_too_deep(folder, root):
            folders.clear()
            continue
        folders[:] = sorted(n for n in folders if not n.startswith(".") and not is_passed_over(n))
        maybe = sorted(
            name
            for name in names
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
        )
        for name in _not_sidecars(maybe, names) if maybe else ():
            path = Path(folder, name)
            # Opening a FIFO would block.
            if options.files.keeps(path.relative_to(root).as_posix()) and path.is_file():
                yield path


def _not_sidecars(maybe: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of some names in a folder that are no sidecars of its pictures."""
    pictures = [name for name in names if is_image_name(name)]
    described = {*pictures, *(os.path.splitext(picture)[0] for picture in pictures)}
    rest = [name for name in maybe if os.path.splitext(name)[0] not in described]
    if not rest:
        return []
    siblings = Siblings(rest)
    sidecars = {name for picture in pictures for name in sidecars_of(picture, siblings)}
    return [name for name in rest if name not in sidecars]

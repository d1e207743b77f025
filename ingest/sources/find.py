"""Where the picture is that a caption file names: beside it, below it, or below a folder given."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from twinlens.search.errors import SourceError
from twinlens.search.images.formats import supported_extensions

#: Folders that a caption file lies in, and its pictures beside: COCO's, Flickr8k's.
_OF_TEXTS = re.compile(r"annotation|caption|text|label|meta", re.IGNORECASE)
#: Folders looked into, and how deep.
_MAX_FOLDERS = 256
_DEPTH = 2


class Finder:
    """Finds the pictures of one caption file.

    Args:
        captions: the caption file, or a saved dataset's folder.
        folders: those given together with it.
    """

    def __init__(self, captions: Path, folders: Sequence[Path]) -> None:
        self._captions = captions
        self._given = [captions.parent, *(folder.absolute() for folder in folders)]
        self._around: list[Path] | None = None

    def find(self, name: str) -> tuple[Path, Path] | None:
        """The picture and the folder that counts as its root; None where there is none.

        First the path as it is written, from the caption file's folder and the folders given; then
        the same in folders below and, where captions have a folder of their own, beside them:
        ``annotations/captions_val2014.json`` finds ``val2014/``. A name without an ending is tried
        with those of pictures.

        Raises:
            SourceError: several folders around have a picture of that name.
        """
        for folder in self._given:
            path = _existing(folder / name)
            if path is not None:
                return path, folder if path.is_relative_to(folder) else path.parent
        if os.path.isabs(name):
            return None
        found = [path for folder in self._folders() if (path := _existing(folder / name))]
        # captions_val2014.json means val2014/ where train2014/ has the same name, too.
        meant = [path for path in found if path.parent.name in self._captions.stem] or found
        if len(meant) > 1:
            parents = ", ".join(str(path.parent) for path in meant)
            raise SourceError(f"there are several pictures {name}, in {parents}: name the folder")
        return (meant[0], meant[0].parent) if meant else None

    def _folders(self) -> list[Path]:
        if self._around is None:
            home = self._captions.parent
            tops = [home, *self._given[1:]]
            if _OF_TEXTS.search(home.name):
                tops.append(home.parent)
            below = (folder for top in tops for folder in _below(top, _DEPTH))
            self._around = list(dict.fromkeys(below))[:_MAX_FOLDERS]
        return self._around


def _existing(path: Path) -> Path | None:
    path = Path(os.path.normpath(path))
    try:
        if path.is_file():
            return path
        if not path.suffix:
            with_endings = (path.with_suffix(ending) for ending in sorted(supported_extensions()))
            return next((candidate for candidate in with_endings if candidate.is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None
    return None


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as listing:
            inner = sorted(e.path for e in listing if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return
    for path in inner[:_MAX_FOLDERS]:
        yield Path(path)
        if depth > 1:
            yield from _below(Path(path), depth - 1)

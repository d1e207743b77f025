"""Find the files beside an image that describe it, by the names that programs give them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from twinlens.search.paths import name_forms, one_form

#: Suffixes of text sidecars: one caption on each line.
TEXT_SUFFIXES = (".txt", ".caption", ".text")
#: What Google Takeout appends to a picture's name, cut anywhere; and what it appends to the name
#: of an edited picture, whose sidecar has the name of the original.
_TAKEOUT = ".supplemental-metadata"
_EDITED = re.compile(
    r"-(?:edited|bearbeitet|modifié|editado|editada|modificato|bewerkt|edytowane|upravené"
    r"|redigerad|redigeret|redigert|muokattu|измененный|编辑|已修改|編集済み|수정됨|düzenlendi)"
    r"(?=(?:\(\d+\))?$)"
)
_NUMBERED = re.compile(r"(?P<name>.+)(?P<number>\(\d+\))")
#: Takeout cuts the names of sidecars to this many characters, before ``.json``.
_TAKEOUT_LENGTH = 46


class Siblings:
    """The names of files in one folder or archive; NFC and NFD forms of a name are the same.

    Args:
        names: base names, or paths with slashes.

    Attributes:
        may_have_sidecars: whether any of them may be the sidecar of an image.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {one_form(name): name for name in names}
        self._suffixes = {os.path.splitext(name)[1].lower() for name in self._names}
        self.may_have_sidecars = bool(self._suffixes & {*TEXT_SUFFIXES, ".json"})

    def may_have(self, suffix: str) -> bool:
        """Whether any file may have the suffix, in lower case."""
        return suffix in self._suffixes

    def find(self, name: str) -> str | None:
        """The name as it is written there; None if there is no such file."""
        return self._names.get(one_form(name))


class FilesBeside(Siblings):
    """The files in a folder on disk, looked up one by one.

    Args:
        folder: of the image.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = os.fspath(folder)
        self.may_have_sidecars = True

    def may_have(self, suffix: str) -> bool:
        """Whether any file may have the suffix: it is not known."""
        return True

    def find(self, name: str) -> str | None:
        """The name as it is written there; None if there is no such file."""
        return next(
            (one for one in name_forms(name) if os.path.lexists(os.path.join(self._folder, one))),
            None,
        )


def sidecars_of(picture: str, siblings: Siblings) -> list[str]:
    """All sidecars of an image."""
    texts = [name for names in text_sidecars(picture, siblings) for name in names]
    return [*texts, *json_sidecars(picture, siblings)]


def usual_sidecars(picture: str) -> list[str]:
    """The names of sidecars that are worth a request each where no folder is listed."""
    return [name for suffix in (".txt", ".json") for name in _beside(picture, suffix)[:2]]


def text_sidecars(picture: str, siblings: Siblings) -> Iterator[list[str]]:
    """The text sidecars of an image, by suffix: ``photo.txt`` before ``photo.jpg.txt``."""
    for suffix in TEXT_SUFFIXES:
        if siblings.may_have(suffix):
            yield _existing(_beside(picture, suffix), siblings)


def json_sidecars(picture: str, siblings: Siblings) -> list[str]:
    """The JSON sidecars of an image: ``photo.json``, ``photo.jpg.json``, and Google Takeout's."""
    if not siblings.may_have(".json"):
        return []
    folder, slash, base = picture.rpartition("/")
    takeout = (f"{folder}{slash}{name}" for name in _takeout_names(base))
    return _existing([*_beside(picture, ".json"), *takeout], siblings)


def _beside(picture: str, suffix: str) -> list[str]:
    stem = os.path.splitext(picture)[0]
    return [start + end for end in (suffix, suffix.upper()) for start in (stem, picture)]


def _takeout_names(base: str) -> Iterator[str]:
    """``a.jpg.supplemental-metadata.json``, cut anywhere; ``a.jpg(1).json`` for ``a(1).jpg``."""
    stem, suffix = os.path.splitext(base)
    originals = [(stem, "")]
    if (found := _NUMBERED.fullmatch(stem)) is not None:
        originals.append((found["name"], found["number"]))
    for name, number in originals:
        for one in dict.fromkeys((name, _EDITED.sub("", name))):
            full = one + suffix + _TAKEOUT
            for end in range(len(one + suffix), len(full) + 1):
                yield f"{full[:end]}{number}.json"
            if len(one + suffix) > _TAKEOUT_LENGTH:
                yield f"{full[:_TAKEOUT_LENGTH]}{number}.json"


def _existing(names: Iterable[str], siblings: Siblings) -> list[str]:
    found = (siblings.find(name) for name in names)
    return list(dict.fromkeys(name for name in found if name is not None))

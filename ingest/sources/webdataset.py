"""Assign the sidecars of a WebDataset key to its images.

Members with the same name up to the first dot of the file name are one sample: ``7.jpg``,
``7.txt``, ``7.json``. Names of files often have dots of their own (``shot at 10.15.30.jpg``), so
that several images share what looks like a key. Then a sidecar belongs to the image that has the
same name up to the last dot, never to another one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from twinlens.ingest.sources.sidecar_names import TEXT_SUFFIXES, Siblings, sidecars_of

SIDECAR_SUFFIXES = (*TEXT_SUFFIXES, ".json", ".cls")
#: Between key and suffix, words that stand for the image itself, ``7.image.jpg``, and for what
#: describes it, ``7.caption.txt``.
_IMAGE_WORDS = {"image", "img", "jpg", "jpeg", "png", "webp", "rgb", "photo", "picture", "input"}
_TEXT_WORDS = {"caption", "captions", "text", "texts", "txt", "prompt", "title", "alt",
               "description", "sentence", "meta", "metadata", "info", "annotation",
               "annotations"}  # fmt: skip
_WORD = re.compile(r"[^\W\d]\w*")


def assign_sidecars(pictures: Sequence[str], sidecars: Sequence[str]) -> dict[str, list[str]]:
    """The sidecars of each image of one key.

    - One with the image's name, as in a folder, belongs to that image alone.
    - One of the key itself (``7.txt``, ``7.caption.txt``) belongs to ``7.jpg``, or else to
      ``7.image.jpg``, or else to all images that a word tells apart, such as ``7.left.jpg``. With
      ``7.jpg`` or ``7.image.jpg`` there, ``7.mask.png`` has no caption.
    """
    siblings = Siblings(sidecars)
    own = {picture: _own(picture, siblings) for picture in pictures}
    claimed = {name for names in own.values() for name in names}
    of_key = [n for n in sidecars if not _infix(n)]
    of_key += [n for n in sidecars if _infix(n) in _TEXT_WORDS and n not in claimed]
    mains = set(_mains(pictures))
    return {
        picture: list(dict.fromkeys([*names, *(of_key if picture in mains else ())]))
        for picture, names in own.items()
    }


def _own(picture: str, siblings: Siblings) -> list[str]:
    stem = os.path.splitext(picture)[0]
    kind = siblings.find(f"{stem}.cls")
    return [*sidecars_of(picture, siblings), *([kind] if kind else [])]


def _mains(pictures: Sequence[str]) -> list[str]:
    """The images that the sidecars of the key describe."""
    named = [picture for picture in pictures if not _infix(picture)]
    if named:
        return named
    images = [picture for picture in pictures if _infix(picture) in _IMAGE_WORDS]
    return images or [picture for picture in pictures if _WORD.fullmatch(_infix(picture))]


def _infix(name: str) -> str:
    """What stands between key and suffix: ``mask`` in ``7.mask.png``; "" if nothing does."""
    return os.path.splitext(name.rpartition("/")[2])[0].partition(".")[2].lower()

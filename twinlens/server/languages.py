"""Translate the pages: their texts are in ``page/texts``, in a folder for each language."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping

#: The language of the texts that modules import; those of other languages take their place.
DEFAULT = "en"
_FOLDER = re.compile(r"texts/([a-z]{2,3})/")
_MARK = re.compile(r"\{\{(\w+)\}\}")
#: Entries of a header that are read, at most.
_MAX_ENTRIES = 20


def languages_of(files: Mapping[str, str]) -> list[str]:
    """The languages that have a folder of texts, the default one first."""
    found = {match[1] for path in files if (match := _FOLDER.match(path))}
    return sorted(found, key=lambda language: (language != DEFAULT, language))


def in_language(files: Mapping[str, str], language: str) -> dict[str, str]:
    """The files with the texts of a language in place of those of the default one."""
    own = f"texts/{language}/"
    replaced = {
        f"texts/{DEFAULT}/{path.removeprefix(own)}": text
        for path, text in files.items()
        if path.startswith(own)
    }
    return {**files, **replaced}


def fill_in(page: str, texts: str, part: str, language: str) -> str:
    """Write the texts of a language into a page.

    Args:
        page: HTML with marks such as ``{{title}}``.
        texts: JSON of an object with the texts of each page by its name, and ``shared`` ones.
        part: the name of the page.
        language: what stands for ``{{language}}``.

    Raises:
        KeyError: a mark has no text.
    """
    parts = json.loads(texts)
    known = {**parts["shared"], **parts.get(part, {}), "language": language}
    return _MARK.sub(lambda mark: html.escape(known[mark[1]]), page)


def preferred_language(header: str, available: list[str]) -> str:
    """The available language that an ``Accept-Language`` header likes best, else the default one.

    Regions are ignored: ``de-AT`` is ``de`` (RFC 9110, 12.5.4).
    """
    liked: dict[str, float] = {}
    for entry in header.split(",")[:_MAX_ENTRIES]:
        tag, _, weight = entry.partition(";")
        language = tag.strip().lower().partition("-")[0]
        quality = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", weight)
        if language in available and (quality or not weight):
            liked.setdefault(language, float(quality[1]) if quality else 1.0)
    best = max(liked, key=liked.__getitem__, default=DEFAULT)
    return best if liked.get(best, 0) > 0 else DEFAULT

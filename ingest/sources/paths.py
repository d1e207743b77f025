"""Expand the paths, patterns and URLs that a user types."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from twinlens.ingest.sources.urls import plain_url
from twinlens.search.errors import UsageError
from twinlens.search.paths import expand_home, name_forms, stored_path

#: How many paths one pattern may expand to.
MAX_PATHS = 1_000_000
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_address(text: str) -> bool:
    """Whether a text is a URL: ``https://…``, ``s3://…``."""
    return _ADDRESS.match(text) is not None


def name_of(place: str | os.PathLike[str]) -> str:
    """Return the absolute path, or the URL, under which a path is stored."""
    text = _local(os.fspath(place))
    return text.rstrip("/") if is_address(text) else stored_path(os.path.abspath(expand_home(text)))


def expand(place: str | os.PathLike[str]) -> list[Path | str]:
    """Expand braces and wildcards; return paths, or URLs.

    ``{00000..00009}`` and ``{train,val}`` give one path each; ``*``, ``?`` and ``[…]`` match
    existing files. A path that exists is returned unchanged.

    Raises:
        UsageError: there is no such path.
    """
    text = _local(os.fspath(place))
    if is_address(text):
        return list(_spelled_out(text, place))
    # "../photos" and "/home/me/photos" must be stored under the same name.
    path = Path(os.path.abspath(expand_home(text)))
    for form in name_forms(str(path)):  # as it is typed, and as it is on disk
        if os.path.exists(form):
            return [Path(form)]
    paths: list[Path | str] = []
    for name in _spelled_out(str(path), place):
        if glob.has_magic(name):
            paths += map(Path, sorted(islice(glob.iglob(name, recursive=True), MAX_PATHS)))
        elif not Path(name).exists():
            raise UsageError(f"there is no {name}")
        else:
            paths.append(Path(name))
    if not paths:
        raise UsageError(f"nothing matches {text}")
    return paths


def _spelled_out(text: str, place: object) -> Iterator[str]:
    names = list(islice(_braces(text), MAX_PATHS + 1))
    if len(names) > MAX_PATHS:
        raise UsageError(f"{place} stands for more than {MAX_PATHS:,} paths")
    yield from names


def _braces(text: str) -> Iterator[str]:
    found = _BRACES.search(text)
    if found is None:
        yield text
        return
    for choice in _choices(found[1]):
        yield from _braces(text[: found.start()] + choice + text[found.end() :])


def _choices(inner: str) -> Iterator[str]:
    bounds = _RANGE.fullmatch(inner)
    if bounds is None:
        yield from inner.split(",")
        return
    first, last = bounds.groups()
    for number in range(int(first), int(last) + 1):
        yield f"{number:0{len(first)}d}"


def _local(text: str) -> str:
    """Turn a ``file://`` URL into a path, so that a file is stored under one name only.

    Another URL loses the blanks around it, and has ``%20`` for those within it.

    Raises:
        UsageError: it is empty: it must not stand for the current folder by accident.
    """
    text = plain_url(text)
    if not text:
        raise UsageError("a path is empty: write . for the current folder")
    parts = urlsplit(text) if text.lower().startswith("file://") else None
    return unquote(parts.path) if parts is not None and parts.netloc in ("", "localhost") else text

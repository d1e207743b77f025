"""Expand ``~`` in paths that people type, write paths in one form, find the folder for caches."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePath


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ``~`` or ``~user`` by that home directory.

    ``Path.expanduser`` raises where there is no such user. Here the path stays as it is, and
    whatever opens it reports a missing file.
    """
    return Path(os.path.expanduser(path))


def stored_path(path: str | PurePath) -> str:
    """The form in which a path is stored: with slashes, on Windows too.

    Where paths have slashes anyway, a backslash is a character of a name, and stays.
    """
    if isinstance(path, PurePath):
        return path.as_posix()
    return path if os.sep == "/" or "://" in path else path.replace(os.sep, "/")


def cache_folder(name: str) -> Path:
    """The folder for caches of one kind: in ``TWINLENS_CACHE``, or in the user's cache."""
    from platformdirs import user_cache_path

    cache = os.environ.get("TWINLENS_CACHE")
    return (Path(cache) if cache else user_cache_path("twinlens")) / name


def one_form(name: str) -> str:
    """A name in NFC: Macs write ``é`` as two characters, other systems as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def name_forms(name: str) -> tuple[str, ...]:
    """The forms that a path may have on disk: as given, in NFC, in NFD, and its last part alone."""
    if name.isascii():
        return (name,)
    head, slash, base = name.rpartition("/")
    forms = {name: None, _nfc(name): None, _nfd(name): None}
    heads = dict.fromkeys((head, _nfc(head), _nfd(head)))
    forms |= dict.fromkeys(h + slash + b for h in heads for b in (_nfc(base), _nfd(base)))
    return tuple(forms)


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _nfd(name: str) -> str:
    return unicodedata.normalize("NFD", name)

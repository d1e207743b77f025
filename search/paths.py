"""Expand ``~`` in paths that people type, and find the folder for caches."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ``~`` or ``~user`` by that home directory.

    ``Path.expanduser`` raises where there is no such user. Here the path stays as it is, and
    whatever opens it reports a missing file.
    """
    return Path(os.path.expanduser(path))


def cache_folder(name: str) -> Path:
    """The folder for caches of one kind: in ``TWINLENS_CACHE``, or in the user's cache."""
    from platformdirs import user_cache_path

    cache = os.environ.get("TWINLENS_CACHE")
    return (Path(cache) if cache else user_cache_path("twinlens")) / name

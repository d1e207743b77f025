"""Expand ``~`` in paths that people type."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ``~`` or ``~user`` by that home directory.

    ``Path.expanduser`` raises where there is no such user. Here the path stays as it is, and
    whatever opens it reports a missing file.
    """
    return Path(os.path.expanduser(path))

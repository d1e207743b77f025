"""What is passed over: folders that file servers make for themselves, formats without a decoder."""

from __future__ import annotations

import os
from collections.abc import Iterable

from twinlens.ingest.sample import Warn
from twinlens.search.images.formats import needed_extra

#: In lower case: thumbnails, snapshots and deleted files of Synology, QNAP, Windows and macOS.
_FOLDERS = frozenset({
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@snapshot",
    "$recycle.bin", "system volume information", "lost+found", "__macosx", "_thumbnails",
    "thumbnails.noindex",
})  # fmt: skip


def is_passed_over(folder: str) -> bool:
    """Whether a folder of that name is not entered, unless the user names it."""
    return folder.lower() in _FOLDERS


def tell_undecodable(names: Iterable[str], where: str, warn: Warn) -> None:
    """Tell of pictures that need a decoder which is not installed, once for each kind."""
    for suffix in sorted({os.path.splitext(name)[1].lower() for name in names}):
        if extra := needed_extra(f"x{suffix}"):
            install = f"pip install 'twinlens[{extra}]'"
            warn(where, f"pictures ending in {suffix} are passed over: {install}")

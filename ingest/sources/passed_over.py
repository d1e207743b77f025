"""Folders that file servers, cameras and systems make for themselves: no one's pictures."""

from __future__ import annotations

#: In lower case: thumbnails, snapshots and deleted files of Synology, QNAP, Windows and macOS.
_FOLDERS = frozenset({
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@snapshot",
    "$recycle.bin", "system volume information", "lost+found", "__macosx", "_thumbnails",
    "thumbnails.noindex",
})  # fmt: skip


def is_passed_over(folder: str) -> bool:
    """Whether a folder of that name is not entered, unless the user names it."""
    return folder.lower() in _FOLDERS

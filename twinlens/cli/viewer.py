"""Open a picture in the viewer of the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twinlens.search.errors import TwinlensError

#: Seconds to wait for the opener to complain. Some keep running as long as the viewer does.
_PATIENCE = 1.0


def open_file(path: Path) -> None:
    """Open a file with the program that the system has for its kind.

    Args:
        path: an absolute path of a picture: a name of another kind might be run as a program.

    Raises:
        TwinlensError: there is no viewer, no display, or the viewer does not start.
    """
    if sys.platform == "win32":
        os.startfile(path)  # noqa: S606 - a picture, not a program
        return
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    program = shutil.which(opener)
    if program is None:
        raise TwinlensError(f"{opener} is not installed, so nothing can open {path}")
    if opener == "xdg-open" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise TwinlensError(
            f"there is no display here to show {path}: `twinlens show --preview` shows a small "
            "picture on terminals that can"
        )
    started = subprocess.Popen(
        [program, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = started.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        started.returncode = 0  # left running on purpose: Python would warn about it
        return
    if code:
        raise TwinlensError(f"{opener} found no program for {path} (exit code {code})")

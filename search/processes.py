"""Find out whether another process of this machine still runs; and what to do in a forked one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def is_running(pid: int) -> bool:
    """Whether a process with this number runs on this machine, as whatever user.

    On Windows ``os.kill(pid, 0)`` would send Ctrl-C, so a handle of the process is opened instead.
    """
    if pid <= 0:  # for os.kill a group of processes
        return False
    if sys.platform == "win32":
        import ctypes

        synchronize, timed_out, denied = 0x0010_0000, 258, 5
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(synchronize, False, pid)
        if not handle:
            return ctypes.get_last_error() == denied
        try:
            return kernel.WaitForSingleObject(handle, 0) == timed_out
        finally:
            kernel.CloseHandle(handle)
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def after_fork(call: Callable[[], object]) -> None:
    """Call a function in each process that is forked from this one; on Windows there are none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)

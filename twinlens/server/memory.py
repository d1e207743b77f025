"""Find out how much memory this process may use, to bound what a server holds."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: Where Linux says how much a container may use, in control groups of version 2 and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Bytes, if the system does not say.
UNKNOWN = 2 << 30


def available_memory(limits: tuple[str, ...] = _LIMITS) -> int:
    """The memory of this machine, or of the container if that is less, in bytes.

    Args:
        limits: files with the limit of the container; what is not there or no number is skipped.
    """
    sizes = []
    with suppress(AttributeError, ValueError, OSError):  # sysconf lacks the name, or is not there
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in limits:
        with suppress(OSError, ValueError):
            sizes.append(int(Path(path).read_text(encoding="ascii")))
    return min((size for size in sizes if size > 0), default=UNKNOWN)

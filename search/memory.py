"""Find out how much memory this process may use, to bound what it holds at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

_ROOT, _GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: Bytes, if the system does not say.
UNKNOWN = 2 << 30


def available_memory(limits: Sequence[str | Path] | None = None) -> int:
    """The memory of this machine, or of the container or service if that is less, in bytes.

    Args:
        limits: files that hold a limit, instead of those of this process's control groups; what
            is not there or no number is skipped.
    """
    sizes = []
    with suppress(AttributeError, ValueError, OSError):  # sysconf lacks the name, or is not there
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _limits() if limits is None else limits:
        with suppress(OSError, ValueError):
            sizes.append(int(Path(path).read_text(encoding="ascii")))
    return min((size for size in sizes if size > 0), default=UNKNOWN)


def _limits() -> Iterator[Path]:
    """The files in which Linux says how much a control group may use, of version 2 and 1.

    In a container its group is the root; a service of systemd, with ``MemoryMax=``, has a group
    below it, and each group above may have a limit as well.
    """
    yield _ROOT / "memory.max"
    yield _ROOT / "memory/memory.limit_in_bytes"
    with suppress(OSError, ValueError):
        for line in _GROUPS.read_text(encoding="utf-8").splitlines():
            _, kinds, name = line.split(":", 2)
            place = PurePosixPath(name.lstrip("/"))
            groups = [place, *place.parents]
            if not kinds:
                yield from (_ROOT / group / "memory.max" for group in groups)
            elif "memory" in kinds.split(","):
                folder = _ROOT / "memory"
                yield from (folder / group / "memory.limit_in_bytes" for group in groups)

"""Remember which server has a Milvus Lite file open, so that another process can name it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twinlens.search.processes import is_running

_NAME = "serving.json"


@contextmanager
def serving(path: str | os.PathLike[str], address: str) -> Iterator[None]:
    """Note the address of a server of this process beside the file, while it runs.

    Args:
        path: of the Milvus Lite file; one that does not exist yet gets no note.
        address: of the server, for people.
    """
    note = Path(path) / _NAME
    if note.parent.is_dir():
        with suppress(OSError):
            note.write_text(json.dumps({"address": address, "pid": os.getpid()}))
    try:
        yield
    finally:
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(note.read_text()).get("pid") == os.getpid():
                note.unlink()


def locked_message(path: str | os.PathLike[str]) -> str:
    """What to say when another process has a Milvus Lite file open for writing."""
    address = _address(Path(path) / _NAME)
    if address:
        return (
            f"{path} is open for writing in `twinlens serve`: write through the server, with "
            f"--db {address}, or stop it first"
        )
    return (
        f"{path} is open for writing in another process: wait until it ends, or use a Milvus "
        "server, which many processes can share"
    )


def _address(note: Path) -> str:
    """The address of the server that runs; "" if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(note.read_text())
        address = str(found["address"])[:200]
        if is_running(int(found["pid"])):
            return address
    return ""

"""Clear what a process that was killed left of a collection that it was creating or deleting.

Milvus Lite creates the folder of a collection first, and its ``schema.json`` next. If it is killed
in between, it knows no collection of that name, and refuses to create one: the folder exists.
"""

from __future__ import annotations

import logging
import secrets
import shutil
from pathlib import Path

_log = logging.getLogger("twinlens")


def clear_leftovers(folder: Path) -> None:
    """Clear the folder of a collection that is about to be created, if it has no schema.

    What has a manifest is moved aside: it may hold rows, whose schema was lost.

    Args:
        folder: of the collection, in a database that only this process has open for writing.
    """
    if not folder.is_dir() or (folder / "schema.json").exists():
        return
    if not (folder / "manifest.json").exists():
        shutil.rmtree(folder)
        return
    aside = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    folder.rename(aside)
    _log.warning(
        "%s is left of a collection without its schema, perhaps deleted half-way: delete "
        "it if you miss nothing",
        aside,
    )

"""Advise on a better model for a collection."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import twinlens
from twinlens.search.models.catalogue import RECOMMENDED, STARTER

if TYPE_CHECKING:
    from twinlens.cli.options import DatabaseOptions
    from twinlens.search.milvus.collection import CollectionInfo


def better_model(place: DatabaseOptions, info: CollectionInfo) -> str:
    """A line that says how to move a collection from ``starter`` to the recommended model."""
    command = ["twinlens", "reindex", "--model", RECOMMENDED]
    if info.name != twinlens.DEFAULT_COLLECTION:
        command += ["--collection", info.name]
    where = ""
    if place.is_twinlens:
        where = ", where the server's database is"
    elif place.db:
        command += ["--db", place.db]
    return (
        f"{info.name}: {RECOMMENDED} finds more than {STARTER}: `{shlex.join(command)}` changes to "
        f"it{where}"
    )

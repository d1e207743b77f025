"""Rows that are stored already, found by their id or their picture's path, to ask for more like."""

from __future__ import annotations

import os
from collections import abc
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twinlens.search.errors import UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import is_server
from twinlens.search.milvus.expressions import quote
from twinlens.search.models.base import Rows
from twinlens.search.records import Target


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A stored row: which side it is on, its id, and its float32 unit row."""

    kind: Target
    id: str
    row: Rows


def find_stored(collection: Collection, names: abc.Collection[str]) -> dict[str, Stored]:
    """The rows of these names: ids of pictures or texts, or paths of pictures.

    A path is taken as it was stored, as it stands in the current folder, or below what was
    ingested, where only one picture has it.

    Raises:
        UsageError: nothing of that name is stored.
    """
    wanted = list(dict.fromkeys(names))
    found = _by_id(collection, {name: name for name in wanted})
    missing = [name for name in wanted if name not in found]
    if missing:
        spelled = {path: name for name in missing for path in _spellings(name)}
        rows = collection.get("files", list(spelled), ["path", "image_id"])
        ids = {spelled[row["path"]]: row["image_id"] for row in rows if row["image_id"]}
        for name in set(missing) - set(ids):
            below = f"relative_path == {quote(name)}"
            same = collection.where("images", below, ["id"], 2)
            if len(same) == 1:
                ids[name] = same[0]["id"]
        found |= _by_id(collection, ids)
    for name in wanted:
        if name not in found:
            raise UsageError(f"nothing stored has the id or the path {name!r}")
    return found


def _by_id(collection: Collection, ids: dict[str, str]) -> dict[str, Stored]:
    """Rows by what they were called; ``ids`` has the id of every name."""
    found: dict[str, Stored] = {}
    kinds: tuple[Target, ...] = ("images", "texts")
    for kind in kinds:
        left = {name: key for name, key in ids.items() if name not in found}
        rows = {
            row["id"]: np.array(row["vector"], dtype=np.float32)
            for row in collection.get(kind, sorted(set(left.values())), ["id", "vector"])
        }
        found |= {name: Stored(kind, key, rows[key]) for name, key in left.items() if key in rows}
    return found


def _spellings(name: str) -> list[str]:
    if is_server(name) or "\0" in name:
        return [name]
    return list(dict.fromkeys([name, str(Path(os.path.expanduser(name)).absolute())]))

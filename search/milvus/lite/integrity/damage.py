"""``Damage``: one thing that is wrong with a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DamageKind = Literal[
    "aliases",
    "schema",
    "manifest",
    "data file",
    "vectors file",
    "deletions",
    "log",
    "snapshot",
    "checksum",
    "leftover",
    "lost picture",
    "lost text",
    "stray picture",
    "stray text",
    "vector",
    "thumbnail",
    "upload",
]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        kind: what is damaged.
        place: a file, or the name of a collection.
        reason: what is wrong with it, for people.
        harmless: whether all answers are right all the same: a note, not damage.
        repaired: what was done about it; "" for nothing.
    """

    kind: DamageKind
    place: str
    reason: str
    harmless: bool = False
    repaired: str = ""

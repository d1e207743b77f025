"""``CheckReport``: what a check of a database found, and what was repaired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from twinlens.search.frozen import FrozenDict
from twinlens.search.milvus.lite.integrity.damage import Damage

#: "sound": nothing is wrong. "damaged": something is, or still is after a repair. "repaired": all
#: of it was repaired.
Health = Literal["sound", "damaged", "repaired"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check.

    Attributes:
        damage: what is or was wrong; ``repaired`` says what was done about it.
        notes: what is harmless.
        collections: how many rows were compared of each collection.
        ingest_again: paths that are stored no longer, or not completely: ingest them again.
        aside: the folder with what a repair put aside; "" if there is none.
        seconds: how long it took.
    """

    damage: tuple[Damage, ...] = ()
    notes: tuple[Damage, ...] = ()
    collections: Mapping[str, int] = field(default_factory=FrozenDict)
    ingest_again: tuple[str, ...] = ()
    aside: str = ""
    seconds: float = 0.0

    @property
    def health(self) -> Health:
        """What it comes to."""
        if not self.damage:
            return "sound"
        return "repaired" if all(one.repaired for one in self.damage) else "damaged"

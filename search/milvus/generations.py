"""Generations of a corpus: the same pictures for another model or index, side by side.

A generation ``N`` of a corpus is three collections, ``NAME_images_gN`` and so on. Which one is
served, the alias ``NAME_images`` says. What a generation is made of stands in its properties.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twinlens.search.milvus.layout import Layout
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import Kind

#: Texts first: the alias of the images is made, and moved, last, and decides.
KINDS: tuple[Kind, ...] = ("texts", "files", "images")
PHYSICAL = re.compile(r"(?P<name>.+)_(?P<kind>images|texts|files)_g(?P<generation>\d+)")
_FINGERPRINT = "twinlens.fingerprint"
_BUILDING = "twinlens.building"
_FROZEN = "twinlens.frozen"
_DRAWN = "twinlens.token"


@dataclass(frozen=True, slots=True)
class Generation:
    """What one generation is made of.

    Attributes:
        number: from 1.
        fingerprint: the model of its vectors.
        layout: how it is laid out, its index by Milvus' name.
        complete: whether it holds everything, so that it may be served.
        frozen: whether it takes nothing more, because the next one is about to take its place.
        served: whether searches are answered from it.
        token: drawn when it was made, "" where that was before there were tokens: what is dropped
            and made again has its name and its number, and may have its model.
    """

    number: int
    fingerprint: Fingerprint
    layout: Layout
    complete: bool = True
    frozen: bool = False
    served: bool = False
    token: str = ""

    @property
    def index(self) -> str:
        """Milvus' name of the index kind."""
        return self.layout.index

    @property
    def identity(self) -> str:
        """What it and no other generation of the corpus has, now or ever."""
        return f"{self.number}:{self.fingerprint.digest}:{self.token}"

    def physical(self, name: str, kind: Kind) -> str:
        """The collection's own name, not its alias."""
        return f"{name}_{kind}_g{self.number}"

    def is_like(self, other: Generation) -> bool:
        """Whether both hold the same vectors, laid out in the same way."""
        alike = self.fingerprint.digest == other.fingerprint.digest
        return alike and self.layout.same_rows(other.layout)

    def properties(self) -> dict[str, str]:
        """As properties of its collections."""
        return {
            _FINGERPRINT: self.fingerprint.to_json(),
            **self.layout.properties(),
            _BUILDING: str(int(not self.complete)),
            _FROZEN: str(int(self.frozen)),
            **({_DRAWN: self.token} if self.token else {}),
        }

    @classmethod
    def read(cls, physical: str, properties: Mapping[str, str], served: int = 0) -> Generation:
        """Back from a collection's name and properties; ``served`` is the number of the one."""
        match = PHYSICAL.fullmatch(physical)
        assert match is not None
        number = int(match["generation"])
        return cls(
            number=number,
            fingerprint=Fingerprint.from_json(properties[_FINGERPRINT]),
            layout=Layout.read(properties),
            complete=properties.get(_BUILDING, "0") == "0",
            frozen=properties.get(_FROZEN) == "1",
            served=number == served,
            token=properties.get(_DRAWN, ""),
        )

    def state(self) -> dict[str, str]:
        """The properties that change in its life."""
        return {key: self.properties()[key] for key in (_BUILDING, _FROZEN)}


def is_ours(properties: Mapping[str, str]) -> bool:
    """Whether a collection was made by twinlens."""
    return _FINGERPRINT in properties

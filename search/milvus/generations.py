"""Name the generations of a collection: versions for another model or layout, side by side.

Generation ``N`` of a collection is three Milvus collections, ``NAME_images_gN`` and so on. The
alias ``NAME_images`` points to the active one. The properties of a Milvus collection say
what its generation was made with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twinlens.search.milvus.layout import Layout
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import Kind

#: Images last: their alias is created and moved last, and decides which generation is served.
KINDS: tuple[Kind, ...] = ("texts", "files", "images")
PHYSICAL = re.compile(r"(?P<name>.+)_(?P<kind>images|texts|files)_g(?P<generation>\d+)")
_FINGERPRINT = "twinlens.fingerprint"
_BUILDING = "twinlens.building"
_FROZEN = "twinlens.frozen"
_TOKEN = "twinlens.token"  # noqa: S105 - not a secret


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of a collection.

    Attributes:
        number: from 1.
        fingerprint: the model of its vectors.
        layout: how it is stored, with Milvus' name of the index.
        complete: whether it contains everything, so that it may be served.
        frozen: whether it refuses new rows, because the next one is about to replace it.
        served: whether searches read it.
        token: random, and "" for one from before tokens were introduced. It tells a generation
            from one that was dropped and created again with the same name, number and model.
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
        """Milvus' name of the index type."""
        return self.layout.index

    @property
    def identity(self) -> str:
        """A string that no other generation of the collection ever has."""
        return f"{self.number}:{self.fingerprint.digest}:{self.token}"

    def physical(self, name: str, kind: Kind) -> str:
        """The name of a Milvus collection, not its alias."""
        return f"{name}_{kind}_g{self.number}"

    def is_like(self, other: Generation) -> bool:
        """Whether both have the same model and the same layout on disk."""
        same_model = self.fingerprint.digest == other.fingerprint.digest
        return same_model and self.layout.same_rows(other.layout)

    def properties(self) -> dict[str, str]:
        """The properties of its Milvus collections."""
        return {
            _FINGERPRINT: self.fingerprint.to_json(),
            **self.layout.properties(),
            _BUILDING: str(int(not self.complete)),
            _FROZEN: str(int(self.frozen)),
            **({_TOKEN: self.token} if self.token else {}),
        }

    @classmethod
    def read(cls, physical: str, properties: Mapping[str, str], served: int = 0) -> Generation:
        """Read a generation from the name and properties of a Milvus collection.

        Args:
            physical: the name.
            properties: as ``properties`` returns them.
            served: the number of the generation that is served.
        """
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
            token=properties.get(_TOKEN, ""),
        )

    def state(self) -> dict[str, str]:
        """The properties that may change later."""
        return {key: self.properties()[key] for key in (_BUILDING, _FROZEN)}


def is_ours(properties: Mapping[str, str]) -> bool:
    """Whether twinlens created a Milvus collection with these properties."""
    return _FINGERPRINT in properties

"""``Hit`` and ``Hits``: what a search returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from twinlens.search.records import IMAGE_FIELDS, TEXT_FIELDS, Row, Scalar, Target

#: Columns that a hit has in its metadata, beside the fields that have none.
_SHOWN = frozenset({"relative_path", "width", "height", "bytes", "mtime", "format"})
#: All others, which are attributes of a hit, or nobody's business.
_HIDDEN: Mapping[Target, frozenset[str]] = {
    "images": frozenset({*IMAGE_FIELDS, "vector", "words", "sparse"}) - _SHOWN,
    "texts": frozenset({*TEXT_FIELDS, "vector", "words", "sparse"}) - _SHOWN,
}


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        target: "images" or "texts": which side was found.
        id: the row's key; a picture's id is a hash of its bytes.
        score: cosine of query and row, from -1 to 1. Comparable within one direction only; of a
            query of several parts it is the cosine of the unit vector they became.
        relevance: from 0 to 1, how likely it is a real match: see ``twinlens.search.query.calibration``.
        path: where the picture is ("" for a text that describes none).
        text: the text that was found ("" for a picture).
        captions: a picture's own captions, as far as it has any.
        image_id: the picture's id, of a picture or of the picture a text describes.
        metadata: everything else that is known: width, height, camera, columns of a caption file.
        duplicates: how many hits were folded into this one, where near-duplicates were to be.
    """

    target: Target
    id: str
    score: float
    path: str
    text: str = ""
    captions: tuple[str, ...] = ()
    image_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    relevance: float = 0.0
    duplicates: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain types, for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"captions": list(self.captions), "metadata": dict(self.metadata)}


class Hits(list[Hit]):
    """The results of one query, best first.

    Attributes:
        nothing_close: the best of all is no nearer than what a query without meaning finds. Not
            known, and so ``False``, where the nearest were passed over by an offset or a cursor,
            or words alone were looked for.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        *,
        nothing_close: bool = False,
        cursor: str | Callable[[], str] = "",
    ) -> None:
        super().__init__(hits)
        self.nothing_close = nothing_close
        self._cursor = cursor

    @property
    def cursor(self) -> str:
        """What to ask the next page with, written when it is first read.

        "" where there is none: nothing is left, an offset was given, or the mode is not dense.
        """
        if not isinstance(self._cursor, str):
            self._cursor = self._cursor()
        return self._cursor


def hit_of(kind: Target, row: Row, score: float, relevance: float, duplicates: int = 0) -> Hit:
    """A stored row as a hit."""
    hidden = _HIDDEN[kind]
    metadata: dict[str, Scalar] = {
        name: value for name, value in row.items() if name not in hidden and value is not None
    }
    return Hit(
        target=kind,
        id=row["id"],
        score=score,
        path=row["path"],
        text=row.get("text", ""),
        captions=tuple(row.get("captions", ())),
        image_id=row["id"] if kind == "images" else row["image_id"],
        metadata=MappingProxyType(metadata),
        relevance=relevance,
        duplicates=duplicates,
    )

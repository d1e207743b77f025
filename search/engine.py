"""``SearchEngine``: a query → hits, in all four directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from search.encoder import Encoder
from search.errors import UsageError
from search.query import embed, parse
from search.records import IMAGE_FIELDS, TEXT_FIELDS, Row, Scalar, Target
from search.store import Corpus

TARGETS: tuple[Target, ...] = ("images", "texts")


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        target: "images" or "texts": which side was found.
        id: the row's key; a picture's id is a hash of its bytes.
        score: cosine of query and row, from -1 to 1. Comparable within one direction only.
        path: where the picture is ("" for a text that describes none).
        text: the text that was found ("" for a picture).
        captions: a picture's own captions, as far as it has any.
        image_id: the picture's id, of a picture or of the picture a text describes.
        metadata: everything else that is known: width, height, camera, columns of a caption file.
    """

    target: Target
    id: str
    score: float
    path: str
    text: str = ""
    captions: tuple[str, ...] = ()
    image_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain types, for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"captions": list(self.captions), "metadata": dict(self.metadata)}


class SearchEngine:
    """Answers queries from one corpus.

    Args:
        corpus: where to look.
        encoder: called when a query first needs the model, so that opening costs nothing.
    """

    def __init__(self, corpus: Corpus, encoder: Callable[[], Encoder]) -> None:
        self.corpus = corpus
        self._encoder = encoder

    def search(
        self,
        query: object = None,
        *,
        image: object = None,
        target: str = "images",
        limit: int = 10,
        offset: int = 0,
    ) -> list[Hit]:
        """The nearest pictures or texts, best first.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``), or an array ``[dim]``.
            image: a picture instead of words: a path, encoded bytes or a Pillow image.
            target: "images" or "texts": what to find.
            limit: how many hits at most.
            offset: how many of the nearest to pass over.

        Raises:
            UsageError: an empty query, an unknown target, a limit out of range.
            ImageError: the query's picture cannot be decoded.
        """
        kind = _target(target)
        row = embed(parse(query, image), self._encoder())
        fields = IMAGE_FIELDS if kind == "images" else TEXT_FIELDS
        found = self.corpus.search(kind, row[None], limit, offset=offset, fields=[*fields, "$meta"])
        return [_hit(kind, entity, score) for entity, score in found[0]]


def _target(target: str) -> Target:
    for kind in TARGETS:
        if target == kind:
            return kind
    raise UsageError(f"there is no {target!r} to search in: use images or texts")


def _hit(kind: Target, row: Row, score: float) -> Hit:
    fixed = {*(IMAGE_FIELDS if kind == "images" else TEXT_FIELDS), "vector"}
    metadata: dict[str, Scalar] = {
        name: value for name, value in row.items() if name not in fixed and value is not None
    }
    shown = ("relative_path", "width", "height", "bytes", "mtime", "format")
    metadata |= {name: row[name] for name in shown if name in row}
    return Hit(
        target=kind,
        id=row["id"],
        score=score,
        path=row["path"],
        text=row.get("text", ""),
        captions=tuple(row.get("captions", ())),
        image_id=row["id"] if kind == "images" else row["image_id"],
        metadata=MappingProxyType(metadata),
    )

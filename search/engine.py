"""``SearchEngine``: a query → hits, in all four directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from search.encoder import Encoder, Rows
from search.errors import UsageError
from search.filters import compile_filter
from search.query import Image, Part, Vector, embed, parse
from search.records import IMAGE_FIELDS, TEXT_FIELDS, Row, Scalar, Target
from search.relevance import Asker, Calibrations
from search.store import Corpus

TARGETS: tuple[Target, ...] = ("images", "texts")


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        target: "images" or "texts": which side was found.
        id: the row's key; a picture's id is a hash of its bytes.
        score: cosine of query and row, from -1 to 1. Comparable within one direction only.
        relevance: from 0 to 1, how likely it is a real match: see ``search.relevance``.
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
    relevance: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain types, for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"captions": list(self.captions), "metadata": dict(self.metadata)}


class Hits(list[Hit]):
    """The results of one query, best first.

    Attributes:
        nothing_close: the best of all is no nearer than what a query without meaning finds. Not
            known, and so ``False``, where the nearest were passed over by an offset.
    """

    def __init__(self, hits: Iterable[Hit] = (), *, nothing_close: bool = False) -> None:
        super().__init__(hits)
        self.nothing_close = nothing_close


class SearchEngine:
    """Answers queries from one corpus.

    Args:
        corpus: where to look.
        encoder: called when a query first needs the model, so that opening costs nothing.
    """

    def __init__(self, corpus: Corpus, encoder: Callable[[], Encoder]) -> None:
        self.corpus = corpus
        self._encoder = encoder
        self._calibrations = Calibrations(corpus, encoder)

    def search(
        self,
        query: object = None,
        *,
        image: object = None,
        target: str = "images",
        limit: int = 10,
        offset: int = 0,
        where: str = "",
        min_relevance: float = 0.0,
    ) -> Hits:
        """The nearest pictures or texts, best first.

        Args:
            query: words, a part (``Text``, ``Image``, ``Vector``), or an array ``[dim]``.
            image: a picture instead of words: a path, encoded bytes or a Pillow image.
            target: "images" or "texts": what to find.
            limit: how many hits at most.
            offset: how many of the nearest to pass over.
            where: a filter that hits satisfy: ``year >= 2020 and path startswith "trips/"``.
            min_relevance: leave out hits that are less relevant than this, from 0 to 1.

        Raises:
            UsageError: an empty query, an unknown target, a limit out of range.
            FilterError: a filter that cannot be understood.
            ImageError: the query's picture cannot be decoded.
        """
        kind = _target(target)
        if not 0 <= min_relevance <= 1:
            raise UsageError(f"min_relevance is from 0 to 1, not {min_relevance}")
        expression = self._expression(kind, where)
        part = parse(query, image)
        row = embed(part, self._encoder())
        fields = IMAGE_FIELDS if kind == "images" else TEXT_FIELDS
        found = self.corpus.search(
            kind,
            row[None],
            limit,
            offset=offset,
            fields=[*fields, "$meta"],
            expression=expression,
        )
        hits = [_hit(kind, entity, score) for entity, score in found[0]]
        return self._judge(hits, row, _asker(part, kind), kind, offset, min_relevance)

    def _judge(
        self,
        hits: list[Hit],
        row: Rows,
        asker: Asker,
        kind: Target,
        offset: int,
        min_relevance: float,
    ) -> Hits:
        """Hits with their relevance, and the verdict on the whole."""
        if not hits:
            return Hits()
        calibration = self._calibrations.get(asker, kind)
        relevances = calibration.relevance(row, [hit.score for hit in hits])
        judged = [
            replace(hit, relevance=relevance)
            for hit, relevance in zip(hits, relevances, strict=True)
            if relevance >= min_relevance
        ]
        nothing = not offset and calibration.nothing_close(row, hits[0].score)
        return Hits(judged, nothing_close=nothing)

    def _expression(self, kind: Target, where: str) -> str:
        """A filter as Milvus takes it; costs nothing where there is none."""
        if not where.strip():
            return ""
        return compile_filter(where, self.corpus.fields(kind), self.corpus.capabilities)


def _asker(part: Part, kind: Target) -> Asker:
    """Whose cosines these are. A bare vector is taken to ask for what it is not."""
    if isinstance(part, Vector):
        return "text" if kind == "images" else "image"
    return "image" if isinstance(part, Image) else "text"


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

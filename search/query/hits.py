"""``Hit`` and ``Hits``: what a search returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twinlens.search.frozen import FrozenDict
from twinlens.search.records import (
    CAPTION_SOURCE,
    IMAGE_FIELDS,
    PROPOSED,
    TEXT_FIELDS,
    Row,
    Scalar,
    Target,
)

#: Columns that are shown as metadata of a hit, like the fields without a column.
_SHOWN = frozenset({"relative_path", "width", "height", "bytes", "mtime", "format"})
#: The other columns: attributes of a hit, or internal.
_HIDDEN: Mapping[Target, frozenset[str]] = {
    "images": frozenset({*IMAGE_FIELDS, "vector", "words", "sparse"}) - _SHOWN,
    "texts": frozenset({*TEXT_FIELDS, "vector", "words", "sparse"}) - _SHOWN,
}


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        target: "images" or "texts": what was found.
        id: its id; that of an image is a hash of its bytes.
        score: cosine of query and row, from -1 to 1; with the fused vector for a query of several
            parts. Compare it within one direction of search only.
        relevance: from 0 to 1, how likely a real match is: see
            ``twinlens.search.query.calibration``.
        path: of the image; "" for a text that describes no stored image.
        text: the text found; "" for an image.
        captions: of an image.
        image_id: the id of the image, or of the image a text describes.
        metadata: all other fields: width, height, camera, columns of a caption file.
        duplicates: how many near-duplicates were merged into this hit, with ``collapse``.
        paths: all paths of an image, at most 64.
        by_words: whether it was found by its words: any hit in mode "text", and in mode "hybrid"
            one that has all words of the query, or its name. The relevance of meanings does not
            apply to it.
    """

    target: Target
    id: str
    score: float
    path: str
    text: str = ""
    captions: tuple[str, ...] = ()
    image_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict)
    relevance: float = 0.0
    duplicates: int = 0
    paths: tuple[str, ...] = ()
    by_words: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain types, for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        lists = {"captions": list(self.captions), "paths": list(self.paths)}
        return plain | lists | {"metadata": dict(self.metadata)}


class Hits(list[Hit]):
    """The results of one query, best first.

    Attributes:
        nothing_close: the best hit is no closer than what a meaningless query finds. Unknown, and
            so ``False``, after an offset or a cursor, and in mode "text".
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
        self._thumbnail: Callable[[str], bytes] | None = None

    def with_thumbnails(self, thumbnail: Callable[[str], bytes]) -> Hits:
        """The same hits, which a notebook shows with their pictures.

        Args:
            thumbnail: gives the JPEG of a stored picture, by its id.
        """
        self._thumbnail = thumbnail
        return self

    def _repr_html_(self) -> str:
        """A grid of the pictures, for notebooks: IPython calls this."""
        from twinlens.search.query.hits_html import MAX_SHOWN, HitCard, hits_html

        cards = [
            HitCard(
                image_id=hit.image_id,
                path=hit.path,
                says=marked(hit, hit.text or next(iter(hit.captions), "")),
                relevance="words" if hit.by_words else f"{hit.relevance:.0%}",
                score=f"{hit.score:.3f}",
            )
            for hit in self[:MAX_SHOWN]
        ]
        return hits_html(cards, len(self), self._thumbnail)

    @property
    def cursor(self) -> str:
        """The cursor of the next page, made when first read.

        "" if there is none: on the last page, after an offset, and in other modes than "dense".
        """
        if not isinstance(self._cursor, str):
            self._cursor = self._cursor()
        return self._cursor

    def __reduce__(self) -> tuple[Callable[..., Hits], tuple[list[Hit], bool, str]]:
        """Pickle and copy hits with their cursor as text: it cannot be made elsewhere."""
        return _restore, (list(self), self.nothing_close, self.cursor)


def _restore(hits: list[Hit], nothing_close: bool, cursor: str) -> Hits:
    return Hits(hits, nothing_close=nothing_close, cursor=cursor)


def marked(hit: Hit, text: str) -> str:
    """A caption or text of a hit, to show; marked as a guess if twinlens proposed it."""
    proposed = text and hit.metadata.get(CAPTION_SOURCE) == PROPOSED
    return f"perhaps: {text}" if proposed else text


def hit_of(
    kind: Target,
    row: Row,
    score: float,
    relevance: float,
    duplicates: int = 0,
    *,
    by_words: bool = False,
) -> Hit:
    """Make a hit of a stored row."""
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
        metadata=FrozenDict(metadata),
        relevance=relevance,
        duplicates=duplicates,
        paths=tuple(row.get("paths", ())),
        by_words=by_words,
    )

"""What can be asked: words, pictures, vectors and stored rows, each a part of a query."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinlens.search.errors import ImageError, UsageError
from twinlens.search.options import is_number

if TYPE_CHECKING:
    from PIL import Image as PillowImage

#: Longer questions are a mistake, or an attack.
MAX_QUERY_TEXT = 10_000
#: So are queries of more parts; likes and unlikes count.
MAX_PARTS = 64
MAX_WEIGHT = 100.0
#: How much ``Not`` counts, and all likes and all unlikes together: measured, ``docs/guide/queries.md``.
NOT_WEIGHT = 0.5
LIKE_WEIGHT = 0.75
UNLIKE_WEIGHT = 0.15


@dataclass(frozen=True, slots=True)
class Text:
    """Words to look for."""

    text: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise UsageError(f"words are text, not {type(self.text).__name__}")
        if not self.text.strip():
            raise UsageError("the query is empty: say in words what to look for")
        if len(self.text) > MAX_QUERY_TEXT:
            raise UsageError(f"the query is longer than {MAX_QUERY_TEXT:,} characters")
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Image:
    """A picture to look for: a path, its encoded bytes, or a Pillow image."""

    source: str | os.PathLike[str] | bytes | PillowImage.Image = field(repr=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.source, os.PathLike):
            object.__setattr__(self, "source", Path(self.source))
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """An embedding made elsewhere with the collection's model: ``dim`` finite numbers."""

    values: Any = field(repr=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Id:
    """More like what is stored: a picture's or text's id, or a stored picture's path."""

    id: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or len(self.id) > MAX_QUERY_TEXT:
            raise UsageError("more like what? Give the id or the path of something stored")
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Not:
    """What hits should be unlike: words or a part. It counts ``weight`` times the part's own."""

    part: str | Text | Image | Vector | Id
    weight: float = NOT_WEIGHT

    def __post_init__(self) -> None:
        if isinstance(self.part, str):
            if not self.part.strip():
                raise UsageError("what should not be there is empty: say it in words")
            object.__setattr__(self, "part", Text(self.part))
        if not isinstance(self.part, Text | Image | Vector | Id):
            raise UsageError(f"Not takes words or a part, not {type(self.part).__name__}")
        _check_weight(self.weight)


Plain = Text | Image | Vector | Id
Part = Plain | Not


def parse(
    query: object = None,
    image: object = None,
    *,
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
) -> tuple[Part, ...]:
    """What the caller meant: words, a picture, a part, a vector, or a list of them.

    Args:
        query: words, a part, an array ``[dim]``, or a list of these.
        image: one more picture: a path, encoded bytes or a Pillow image.
        like, unlike: ids or paths of stored rows that were right, or wrong, answers (Rocchio,
            https://nlp.stanford.edu/IR-book/html/htmledition/rocchio-classification-1.html).

    Raises:
        UsageError: nothing was asked, too much at once, or only what should not be there.
    """
    asked = list(query) if isinstance(query, list | tuple) else [query] * (query is not None)
    parts: list[Part] = [_part(one) for one in asked]
    if image is not None:
        parts.append(Image(image))  # type: ignore[arg-type]  # checked where it is read
    for ids in (like, unlike):
        if isinstance(ids, str):
            raise UsageError("like and unlike take a list of ids")
    parts += [Id(one, LIKE_WEIGHT / len(like)) for one in like]
    parts += [Not(Id(one), UNLIKE_WEIGHT / len(unlike)) for one in unlike]
    if not parts:
        raise UsageError("ask in words or with a picture: give at least one of them")
    if len(parts) > MAX_PARTS:
        raise UsageError(f"a query has at most {MAX_PARTS} parts, not {len(parts)}")
    if all(isinstance(part, Not) for part in parts):
        raise UsageError("say also what to look for, not only what should not be there")
    return tuple(parts)


def several(queries: object) -> list[object]:
    """The queries of a batch.

    Raises:
        UsageError: it is one query, not several.
    """
    one = isinstance(queries, str | bytes | Text | Image | Vector | Id | Not)
    if one or not isinstance(queries, Iterable):
        raise UsageError(f"many queries are a list, not one {type(queries).__name__}")
    return list(queries)


def signed(part: Part) -> tuple[Plain, float]:
    """A part and how much it counts; below 0 for what should not be there."""
    if not isinstance(part, Not):
        return part, part.weight
    assert not isinstance(part.part, str)
    return part.part, -part.weight * part.part.weight


def words_of(parts: Sequence[Part]) -> str:
    """What is asked in words; "" for nothing."""
    return " ".join(_unicode(part.text) for part in parts if isinstance(part, Text))


def read_image(source: str | os.PathLike[str] | bytes | PillowImage.Image) -> bytes:
    """The encoded bytes of a query picture."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(os.path.expanduser(source))
        try:
            return path.read_bytes()
        except (FileNotFoundError, ValueError):  # a name that no file can have
            raise UsageError(f"there is no picture {path}") from None
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    if not hasattr(source, "save"):
        raise UsageError(
            f"a picture is a path, bytes or a Pillow image, not {type(source).__name__}"
        )
    buffer = io.BytesIO()
    source.save(buffer, format="PNG")
    return buffer.getvalue()


def _part(asked: object) -> Part:
    if isinstance(asked, Text | Image | Vector | Id | Not):
        return asked
    if isinstance(asked, str):
        return Text(asked)
    if isinstance(asked, np.ndarray):
        return Vector(asked)
    raise UsageError(f"a query is words, a picture or a vector, not {type(asked).__name__}")


def _check_weight(weight: float) -> None:
    if not is_number(weight) or not 0 < float(weight) <= MAX_WEIGHT:
        raise UsageError(f"a weight is above 0 and at most {MAX_WEIGHT:g}, not {weight!r}")


def _unicode(text: str) -> str:
    # A terminal that is not UTF-8 hands over what no tokeniser takes.
    return text.encode("utf-8", "replace").decode()

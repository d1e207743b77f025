"""Define the parts of a query: text, images, vectors and stored items, each with a weight."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from twinlens.search.errors import ImageError, UsageError, first_line
from twinlens.search.options import is_number
from twinlens.search.paths import expand_home

if TYPE_CHECKING:
    from PIL import Image as PillowImage

#: A URL, also as a ``Path`` writes it, with one slash.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
#: The most characters of a text or an id.
MAX_QUERY_TEXT = 10_000
#: The most parts of a query, likes and unlikes included.
MAX_PARTS = 64
MAX_WEIGHT = 100.0
#: Modes of Pillow that PNG has, too; others are converted.
_PNG_MODES = frozenset({"1", "I", "I;16", "L", "LA", "P", "RGB", "RGBA"})
#: The weight of ``Not``, and of all likes and all unlikes together: measured, see
#: ``docs/guide/queries.md``.
NOT_WEIGHT = 0.5
LIKE_WEIGHT = 0.75
UNLIKE_WEIGHT = 0.15


#: A picture: a path, encoded bytes, an open binary file, a Pillow image, or pixels as an array,
#: uint8 ``[height, width]`` or ``[height, width, 3 or 4]``.
PictureSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | BinaryIO | PillowImage.Image | np.ndarray"
)


@dataclass(frozen=True, slots=True)
class Text:
    """Find what a text describes."""

    text: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise UsageError(
                f"the text of a query must be a string, not {type(self.text).__name__}"
            )
        if not self.text.strip():
            raise UsageError("the query is empty: describe what to search for")
        if len(self.text) > MAX_QUERY_TEXT:
            raise UsageError(f"the query is longer than {MAX_QUERY_TEXT:,} characters")
        object.__setattr__(self, "text", clean_unicode(self.text))
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Image:
    """Find what looks like an image: see ``PictureSource`` for what it may be."""

    source: PictureSource = field(repr=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.source, os.PathLike):
            object.__setattr__(self, "source", Path(self.source))
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Find what is near an embedding of the collection's model: ``dim`` finite numbers."""

    values: Any = field(repr=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Id:
    """Find what is similar to a stored item: the id of an image or text, or an image's path."""

    id: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or len(self.id) > MAX_QUERY_TEXT:
            raise UsageError("Id needs the id or the path of a stored item")
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Not:
    """Avoid what is similar to a text or a part; ``weight`` times the part's own is subtracted."""

    part: str | Text | Image | Vector | Id
    weight: float = NOT_WEIGHT

    def __post_init__(self) -> None:
        if isinstance(self.part, str):
            if not self.part.strip():
                raise UsageError("Not is empty: describe what to avoid")
            object.__setattr__(self, "part", Text(self.part))
        if not isinstance(self.part, Text | Image | Vector | Id):
            raise UsageError(
                f"Not takes a text or a part of a query, not {type(self.part).__name__}"
            )
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
    """Parse a query into its parts.

    Args:
        query: text, a part, an array ``[dim]``, or a list of these.
        image: another image: see ``PictureSource``.
        like, unlike: ids or paths of stored items that were right, or wrong, hits (Rocchio,
            https://nlp.stanford.edu/IR-book/html/htmledition/rocchio-classification-1.html).

    Raises:
        UsageError: there are no parts, too many, or only negative ones.
    """
    given = list(query) if isinstance(query, list | tuple) else [query] * (query is not None)
    parts: list[Part] = [_part(one) for one in given]
    if image is not None:
        parts.append(Image(image))  # type: ignore[arg-type]  # checked where it is read
    for ids in (like, unlike):
        if isinstance(ids, str):
            raise UsageError("like and unlike must be lists of ids or paths")
    parts += [Id(one, LIKE_WEIGHT / len(like)) for one in like]
    parts += [Not(Id(one), UNLIKE_WEIGHT / len(unlike)) for one in unlike]
    if not parts:
        raise UsageError("the query is empty: give words or a picture to search for")
    if len(parts) > MAX_PARTS:
        raise UsageError(f"a query may have at most {MAX_PARTS} parts, not {len(parts)}")
    if all(isinstance(part, Not) for part in parts):
        raise UsageError("a query needs something to find, not only what to avoid")
    return tuple(parts)


def several(queries: object) -> list[object]:
    """The queries of a batch as a list.

    Raises:
        UsageError: it is a single query.
    """
    one = isinstance(queries, str | bytes | Text | Image | Vector | Id | Not)
    if one or not isinstance(queries, Iterable):
        raise UsageError(f"several queries must be a list, not one {type(queries).__name__}")
    return list(queries)


def signed(part: Part) -> tuple[Plain, float]:
    """A part and its weight, which is negative for ``Not``."""
    if not isinstance(part, Not):
        return part, part.weight
    assert not isinstance(part.part, str)
    return part.part, -part.weight * part.part.weight


def words_of(parts: Sequence[Part]) -> str:
    """All texts of a query, joined; "" for none."""
    return " ".join(part.text for part in parts if isinstance(part, Text))


def read_image(source: PictureSource) -> bytes:
    """Read the encoded bytes of a query image.

    Raises:
        UsageError: it does not exist, or is of another type.
        ImageError: the file cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, np.ndarray):
        return _png(_of_array(source))
    if not isinstance(source, str | os.PathLike) and hasattr(source, "read"):
        return _read_stream(cast("BinaryIO", source))
    if isinstance(source, str | os.PathLike):
        path = expand_home(source)
        try:
            return path.read_bytes()
        except (FileNotFoundError, ValueError):  # ValueError: not a valid file name
            where = os.fspath(source)
            if "\0" not in where and _ADDRESS.match(where):
                url = re.sub(":/+", "://", where, count=1)
                raise UsageError(
                    f"a query's picture must be a file of this machine: download {url} first"
                ) from None
            raise UsageError(f"the picture {path} does not exist") from None
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    from PIL import Image as PillowImage

    if not isinstance(source, PillowImage.Image):
        raise UsageError(
            "a picture must be a path, bytes, an open file, a Pillow image or an array, not "
            f"{type(source).__name__}"
        )
    return _png(source)


def _png(image: PillowImage.Image) -> bytes:
    buffer = io.BytesIO()
    try:
        (image if image.mode in _PNG_MODES else image.convert("RGB")).save(buffer, format="PNG")
    except (OSError, ValueError, SyntaxError) as error:  # a broken file, or one that was closed
        raise ImageError(f"the Pillow image cannot be read: {first_line(error)}") from error
    return buffer.getvalue()


def _of_array(pixels: np.ndarray) -> PillowImage.Image:
    from PIL import Image as PillowImage

    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 3, 4) or not pixels.size:
        raise UsageError(
            "an array must be a picture of shape [height, width] or [height, width, 3 or 4], not "
            f"{list(pixels.shape)}; for an embedding, use Vector"
        )
    if pixels.dtype != np.uint8:
        raise UsageError(f"the array of a picture must be uint8, from 0 to 255, not {pixels.dtype}")
    return PillowImage.fromarray(pixels[..., 0] if pixels.ndim == 3 and channels == 1 else pixels)


def _read_stream(file: BinaryIO) -> bytes:
    """Read an open file from its start; where it stood does not matter."""
    try:
        if file.seekable():
            file.seek(0)
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageError(f"the open file cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise UsageError("the open file of a picture must be binary: open it with mode 'rb'")
    return data


def _part(given: object) -> Part:
    if isinstance(given, Text | Image | Vector | Id | Not):
        return given
    if isinstance(given, str):
        return Text(given)
    if isinstance(given, np.ndarray):
        return Vector(given) if given.ndim < 2 or given.dtype != np.uint8 else Image(given)
    if _is_tensor(given):
        return Vector(given)
    if isinstance(given, os.PathLike) or hasattr(given, "save") or hasattr(given, "read"):
        return Image(given)  # type: ignore[arg-type]  # checked where it is read
    raise UsageError(f"a query must be text, a picture or a vector, not {type(given).__name__}")


def _check_weight(weight: float) -> None:
    if not is_number(weight) or not 0 < weight <= MAX_WEIGHT:
        raise UsageError(f"a weight must be above 0 and at most {MAX_WEIGHT:g}, not {weight!r}")


def clean_unicode(text: str) -> str:
    """A text without surrogates: a terminal that is not UTF-8 passes them, no model takes them."""
    return text.encode("utf-8", "replace").decode()


def is_picture(given: object) -> bool:
    """Whether something is one picture, as far as its type tells; see ``PictureSource``."""
    if isinstance(given, np.ndarray):
        return given.ndim < 4
    known = isinstance(given, str | bytes | bytearray | memoryview | os.PathLike | Image)
    return known or hasattr(given, "save") or hasattr(given, "read")


def _is_tensor(given: object) -> bool:
    """Whether something is a tensor of torch, which is not imported for that."""
    return hasattr(given, "detach") and hasattr(given, "cpu")


def numbers_of(values: Any) -> npt.NDArray[np.float64]:
    """The numbers of a vector ``[n]``; none if it has anything else in it.

    A tensor of torch may be on any device, of any precision, and require gradients.
    """
    if _is_tensor(values):
        values = values.detach().cpu().double()
    try:
        return np.asarray(values).astype(np.float64, casting="same_kind").reshape(-1)
    except (TypeError, ValueError):
        return np.empty(0)

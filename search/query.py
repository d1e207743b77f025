"""What can be asked: words, a picture, or a vector; one part of a query each."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.encoder import Encoder, Rows
from search.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

#: Longer questions are a mistake, or an attack.
MAX_QUERY_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Text:
    """Words to look for."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("the query is empty: say in words what to look for")
        if len(self.text) > MAX_QUERY_TEXT:
            raise UsageError(f"the query is longer than {MAX_QUERY_TEXT} characters")


@dataclass(frozen=True, slots=True)
class Image:
    """A picture to look for: a path, its encoded bytes, or a Pillow image."""

    source: str | Path | bytes | PillowImage.Image = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """An embedding made elsewhere with the collection's model: ``dim`` finite numbers."""

    values: Any = field(repr=False)


Part = Text | Image | Vector


def parse(query: object = None, image: object = None) -> Part:
    """What the caller meant: exactly one of words (or a part, or a vector) and a picture.

    Raises:
        UsageError: nothing was asked, or two things at once.
    """
    if (query is None) == (image is None):
        raise UsageError("ask either in words or with a picture: give one of the two")
    if image is not None:
        return Image(image)  # type: ignore[arg-type]  # checked where it is read
    if isinstance(query, Text | Image | Vector):
        return query
    if isinstance(query, str):
        return Text(query)
    if isinstance(query, np.ndarray):
        return Vector(query)
    raise UsageError(f"a query is words, a picture or a vector, not {type(query).__name__}")


def embed(part: Part, encoder: Encoder) -> Rows:
    """One part → one float32 unit row ``[dim]``.

    Raises:
        ImageError: the picture cannot be decoded.
        UsageError: the picture does not exist, or the vector has the wrong shape.
    """
    if isinstance(part, Text):
        # A terminal that is not UTF-8 hands over what no tokeniser takes.
        text = part.text.encode("utf-8", "replace").decode()
        words: Rows = encoder.texts([text])[0]
        return words
    if isinstance(part, Vector):
        return _unit(part.values, encoder.fingerprint.dim)
    from search.images import decode

    data = read_image(part.source)
    picture = decode(data, target=encoder.fingerprint.image_size)
    row: Rows = encoder.images(encoder.prepare(picture.image)[None])[0]
    return row


def read_image(source: str | Path | bytes | PillowImage.Image) -> bytes:
    """The encoded bytes of a query picture."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
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


def _unit(values: Any, dim: int) -> Rows:
    try:
        row = np.asarray(values).astype(np.float64, casting="same_kind").reshape(-1)
    except (TypeError, ValueError):  # not numbers
        row = np.empty(0)
    if row.shape != (dim,) or not np.isfinite(row).all() or not row.any():
        raise UsageError(f"a query vector is {dim} finite numbers, not all zero")
    row = row / np.abs(row).max()  # so that no square is too large or too small
    unit: Rows = (row / np.linalg.norm(row)).astype(np.float32)
    return unit

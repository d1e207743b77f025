"""The parts of a query as the command line says them: words, pictures, vectors, each with a weight.

A weight stands behind a part, ``sunset.jpg@2``, since a file's name may hold "=" and ":" but hardly
ends so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.search.errors import UsageError
from twinlens.search.query.parts import NOT_WEIGHT, Image, Not, Part, Text, Vector

if TYPE_CHECKING:
    import numpy as np

_WEIGHTED = re.compile(r"(.+)@([0-9]+\.?[0-9]*|\.[0-9]+)", re.DOTALL)


def parts_of(
    texts: Sequence[str],
    images: Sequence[str] = (),
    vectors: Sequence[str] = (),
    unwanted: Sequence[str] = (),
    unwanted_images: Sequence[str] = (),
) -> list[Part]:
    """What was asked for, and then what should not be there.

    Raises:
        UsageError: a part is empty, a weight out of range, or a vector's file is none.
    """
    parts: list[Part] = [Text(words, weight) for words, weight in map(_words, texts)]
    parts += [Image(path, weight) for path, weight in map(_file, images)]
    parts += [Vector(_vector(path), weight) for path, weight in map(_file, vectors)]
    parts += [Not(words, weight) for words, weight in (_words(one, NOT_WEIGHT) for one in unwanted)]
    parts += [
        Not(Image(path), weight)
        for path, weight in (_file(one, NOT_WEIGHT) for one in unwanted_images)
    ]
    return parts


def picture_of(parts: Sequence[Part]) -> Path | None:
    """The first picture that is asked for."""
    pictures = (part.source for part in parts if isinstance(part, Image))
    return next((source for source in pictures if isinstance(source, Path)), None)


def _words(said: str, weight: float = 1.0) -> tuple[str, float]:
    found = _WEIGHTED.fullmatch(said)
    return (found[1], float(found[2])) if found else (said, weight)


def _file(said: str, weight: float = 1.0) -> tuple[Path, float]:
    """A file and its weight; one that has such a name is that file."""
    name, weight = (said, weight) if os.path.exists(said) else _words(said, weight)
    return Path(name), weight


def _vector(path: Path) -> np.ndarray:
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path} is no .npy file of numbers") from error
    if not isinstance(found, np.ndarray):
        raise UsageError(f"{path} holds several arrays: save the vector alone, with numpy.save")
    return found

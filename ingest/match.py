"""Read the pictures and texts to match: lists of both, pairs, or a caption file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Unpack, cast

from twinlens.ingest.options import SourceOptions, open_items
from twinlens.ingest.sample import Item, Sample
from twinlens.search.analysis.matcher import MatchInput, check_texts
from twinlens.search.errors import ImageError, UsageError
from twinlens.search.query.parts import Id, Image, PictureSource, is_picture, read_image

if TYPE_CHECKING:
    from twinlens.search.models.base import Rows

    #: A picture, or the ``Id`` of a stored one.
    Picture = PictureSource | Image | Id
    #: Finds the rows of stored pictures, by the ids or paths that they are named with.
    FindStored = Callable[[Sequence[str]], dict[str, Rows]]

AnyPath = str | os.PathLike[str]


def match_inputs(
    images: Picture | Iterable[Picture] = (),
    texts: str | Iterable[str] = (),
    *,
    pairs: AnyPath | Iterable[tuple[Picture, str]] | None = None,
    stored: FindStored | None = None,
    **source: Unpack[SourceOptions],
) -> Iterator[MatchInput]:
    """Read what to match, see ``twinlens.match``.

    Args:
        images, texts: every picture goes with every text. Paths are read as ``ingest`` reads them:
            a folder is all its pictures.
        pairs: in place of both, pairs of a picture and a text, or the path of a caption file.
        stored: finds stored pictures; ``None`` where there is no collection.
        source: how to read paths.

    Raises:
        UsageError: pictures or texts are missing, or both they and pairs are given; a path does
            not exist; a picture or text is of the wrong type.
        SourceError: a caption file cannot be read.
    """
    listed = _listed(images)
    said = check_texts(texts)
    if pairs is not None:
        if listed or said:
            raise UsageError("give pairs, or pictures and texts, not both")
        if isinstance(pairs, str | os.PathLike):
            return chain.from_iterable(map(_captioned, open_items([pairs], **source)))
        return _paired(pairs, stored)
    if not listed:
        raise UsageError("give at least one picture to match")
    if not said:
        raise UsageError("give at least one text to match the pictures with")
    return chain.from_iterable(_grid(listed, said, stored, source))


def _grid(
    images: Sequence[Picture],
    texts: Sequence[str],
    stored: FindStored | None,
    source: SourceOptions,
) -> list[Iterator[MatchInput]]:
    """The inputs of each run of pictures of one kind; all paths are checked at once."""
    streams: list[Iterator[MatchInput]] = []
    for _, group in groupby(enumerate(images), lambda one: _kind(one[1])):
        some = list(group)
        paths = [image for _, image in some if isinstance(image, str | os.PathLike)]
        ids = [image.id for _, image in some if isinstance(image, Id)]
        if paths:
            streams.append(_read_paths(paths, texts, source))
        elif ids:
            streams.append(_read_stored(ids, texts, _find(stored, ids)))
        else:
            streams.append(
                MatchInput(str(number), texts, _loader(image), alternatives=True)
                for number, image in some
            )
    return streams


def _read_paths(
    paths: Sequence[AnyPath], texts: Sequence[str], source: SourceOptions
) -> Iterator[MatchInput]:
    return (
        MatchInput(item.uri, texts, item.load, alternatives=True)
        for item in open_items(paths, **source)
        if item.load is not None
    )


def _read_stored(
    names: Sequence[str], texts: Sequence[str], rows: Mapping[str, Rows]
) -> Iterator[MatchInput]:
    return (MatchInput(name, texts, row=rows[name], alternatives=True) for name in names)


def _captioned(item: Item) -> Iterator[MatchInput]:
    """Each caption of an item with its picture, encoded once."""
    load: Callable[[], bytes] | None = item.load
    if load is None:
        load = partial(_fail, "there is no picture to read")
    if item.captions:
        yield MatchInput(item.uri, item.captions, load)
    else:
        reason = "the picture has no caption" if isinstance(item, Sample) else item.reason
        yield MatchInput(item.uri, ("",), partial(_fail, reason))


def _paired(
    pairs: Iterable[tuple[Picture, str]], stored: FindStored | None
) -> Iterator[MatchInput]:
    for number, pair in enumerate(pairs):
        if isinstance(pair, str | bytes) or len(pair) != 2:
            raise UsageError(f"pair {number} is not a picture and a text")
        image, text = pair
        (said,) = check_texts([text])
        _kind(image)  # raises for what is no picture
        if isinstance(image, Id):
            yield MatchInput(image.id, (said,), row=_find(stored, [image.id])[image.id])
        else:
            name = os.fspath(image) if isinstance(image, str | os.PathLike) else str(number)
            yield MatchInput(name, (said,), _loader(image))


def _listed(images: Picture | Iterable[Picture]) -> list[Picture]:
    if _is_picture(images):
        return [cast("Picture", images)]
    return list(cast("Iterable[Picture]", images))


def _is_picture(given: object) -> bool:
    return isinstance(given, Id) or is_picture(given)


def _kind(image: Picture) -> str:
    if not _is_picture(image):
        raise UsageError(
            "a picture must be a path, bytes, an open file, a Pillow image, an array or an Id, "
            f"not {type(image).__name__}"
        )
    if isinstance(image, str | os.PathLike):
        return "path"
    return "stored" if isinstance(image, Id) else "given"


def _find(stored: FindStored | None, names: Sequence[str]) -> dict[str, Rows]:
    if stored is None:
        raise UsageError("a stored picture needs its collection: use match of twinlens.open")
    return stored(names)


def _loader(image: Picture) -> Callable[[], bytes]:
    assert not isinstance(image, Id)
    return partial(_load, image if isinstance(image, Image) else Image(image))


def _load(image: Image) -> bytes:
    try:
        return read_image(image.source)
    except UsageError as error:  # the file does not exist
        raise ImageError(str(error)) from None


def _fail(reason: str) -> bytes:
    raise ImageError(reason)

"""Describe pictures at paths, and stored ones; write proposed captions beside pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from twinlens.ingest.options import open_items
from twinlens.ingest.sample import Item, Sample
from twinlens.ingest.sources.folder import reader
from twinlens.ingest.sources.paths import expand, is_address
from twinlens.ingest.sources.sidecars import find_sidecar, write_proposal
from twinlens.search.analysis.describe import (
    WITHOUT_CAPTIONS,
    Described,
    Describer,
    candidates_for,
    describe_ids,
    describe_pictures,
    describe_stored,
)
from twinlens.search.analysis.describe_options import DescribeOptions, check_describe_options
from twinlens.search.analysis.match import PairCalibration
from twinlens.search.errors import SourceError, UsageError
from twinlens.search.filters import compile_filter
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder
from twinlens.search.query.arguments import check_arguments
from twinlens.search.query.parts import Id
from twinlens.search.query.session import Session
from twinlens.search.query.stored import find_stored
from twinlens.search.records import image_id

AnyPath = str | os.PathLike[str]
#: Items that are read at once.
_CHUNK = 64


def describe(
    session: Session,
    paths: Sequence[AnyPath | Id],
    *,
    missing: bool,
    where: str,
    options: DescribeOptions,
) -> Iterator[Described]:
    """Propose texts for pictures; see ``twinlens.Index.describe``."""
    options = check_describe_options(**options)
    check_selection(paths, missing=missing, where=where)
    collection = session.require_collection() if missing else session.refresh()
    expression = _without_captions(collection, where) if collection is not None else ""
    sources, names = split_paths(paths, stored=collection is not None)
    ids = _ids(collection, names)
    items = open_items(sources) if sources else iter(())
    encoder = session.load_encoder()
    if collection is None:
        pairs = PairCalibration.of_model(encoder)
    else:
        pairs = PairCalibration.of_collection(session.engine().calibrations, encoder)
    candidates = candidates_for(collection, lambda: encoder, options["labels"])
    describer = Describer(candidates, pairs.match, **options)
    return _describe(describer, encoder, collection, items, ids, expression if missing else None)


def check_selection(paths: Sequence[AnyPath | Id], *, missing: bool, where: str) -> None:
    """Raise ``UsageError`` unless either paths or stored pictures are selected."""
    check_arguments(bool, missing=missing)
    check_arguments(str, where=where)
    if bool(paths) == missing:
        raise UsageError(
            "give pictures to describe, or missing (--missing) for the stored ones without captions"
        )
    if where and not missing:
        raise UsageError("a filter selects stored pictures: leave out the paths or the filter")


def missing_filter(where: str) -> str:
    """The filter of the stored pictures without captions, among those that match ``where``."""
    return f"({where}) and {WITHOUT_CAPTIONS}" if where.strip() else WITHOUT_CAPTIONS


def write_sidecar(described: Described) -> Path:
    """Write the best proposal for a picture to a file beside it, which the next ingest reads.

    No file is ever overwritten. Before writing, the picture must have no other sidecar, and must
    still be the one that was described.

    Returns:
        The new file: ``photo.jpg.json`` for ``photo.jpg``.

    Raises:
        SourceError: nothing was proposed, there is a sidecar, the picture is no file of its own,
            is gone or has changed, or the sidecar cannot be written.
        ImageError: the picture is too large.
    """
    if not described.proposals:
        raise SourceError("there is no proposal to write")
    path = Path(described.path)
    if is_address(described.path) or not path.is_file():
        raise SourceError("it is not a file in a folder of this machine")
    found = find_sidecar(path)
    if found is not None:
        raise SourceError(f"it has a sidecar already: {found.name}")
    best = described.proposals[0]
    try:
        if image_id(reader(path)()) != described.id:
            raise SourceError("it has changed since it was described")
        return write_proposal(path, best.text, best.probability)
    except OSError as error:
        raise SourceError(f"{error.filename or path}: {error.strerror or error}") from error


def _without_captions(collection: Collection, where: str) -> str:
    fields, can = collection.fields("images"), collection.capabilities
    compile_filter(where, fields, can)  # a mistake is named by its own column
    return compile_filter(missing_filter(where), fields, can)


def split_paths(paths: Sequence[AnyPath | Id], *, stored: bool) -> tuple[list[AnyPath], list[str]]:
    """Split paths into those that exist, and names that only stored pictures can have.

    Args:
        paths: of files and folders; ids and paths of stored pictures.
        stored: whether there is a collection.

    Raises:
        UsageError: there is no such path, and no collection.
    """
    sources: list[AnyPath] = []
    names: list[str] = []
    for path in paths:
        if isinstance(path, Id):
            names.append(path.id)
            continue
        try:
            expand(path)
            sources.append(path)
        except UsageError:
            if not stored:
                raise
            names.append(os.fspath(path))
    return sources, names


def _ids(collection: Collection | None, names: Sequence[str]) -> list[str]:
    if collection is None or not names:
        return []
    found = find_stored(collection, names)
    for name, row in found.items():
        if row.target == "texts":
            raise UsageError(f"{name[:200]!r} is a stored text, not a picture")
    return [found[name].id for name in names]


def _describe(
    describer: Describer,
    encoder: Encoder,
    collection: Collection | None,
    items: Iterable[Item],
    ids: Sequence[str],
    expression: str | None,
) -> Iterator[Described]:
    rest = (one for one in items if one.load is not None)
    while chunk := list(islice(rest, _CHUNK)):
        images = [(one.uri, one.load) for one in chunk if one.load and not _written(one)]
        described = describe_pictures(describer, encoder, images, collection)
        for one in chunk:
            captions = _written(one)
            yield Described(one.uri, captions=captions) if captions else next(described)
    if collection is not None:
        for start in range(0, len(ids), _CHUNK):
            yield from describe_ids(describer, collection, ids[start : start + _CHUNK])
        if expression is not None:
            yield from describe_stored(describer, collection, expression)


def _written(item: Item) -> tuple[str, ...]:
    """The captions that an item's source has; none of one that cannot be read."""
    return item.captions if isinstance(item, Sample) else ()

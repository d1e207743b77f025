"""Open all kinds of sources as one stream of ``Sample`` and ``Failure``."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinlens.ingest.sample import Failure, Item, Sample, Warn, ignore_notices
from twinlens.ingest.sources.caption_formats import SUFFIXES
from twinlens.ingest.sources.captions import CaptionEntry, CaptionFile, ImageFinder
from twinlens.ingest.sources.captions_inside import captions_inside
from twinlens.ingest.sources.detect import (
    Items,
    ReadOptions,
    holds_pictures,
    open_captions,
    open_path,
)
from twinlens.ingest.sources.folder import EVERY_FILE, FileFilter
from twinlens.ingest.sources.known import KnownPictures
from twinlens.ingest.sources.object_stores import (
    RemoteImageFinder,
    open_remote,
    open_remote_captions,
)
from twinlens.ingest.sources.paths import expand, is_address
from twinlens.ingest.sources.urls import Fetch, is_url, url_item
from twinlens.ingest.sources.web import WebImageFinder, open_web, open_web_captions
from twinlens.search.errors import SourceError, UsageError
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import (
    CAPTION_PROBABILITY,
    CAPTION_SOURCE,
    MAX_CAPTIONS,
    PROPOSED,
    text_id,
)

__all__ = ["FileFilter", "open_sources"]

#: How many parts of a path a caption file is searched for.
_FOLDERS = 8
AnyFinder = ImageFinder | RemoteImageFinder | WebImageFinder


def open_sources(
    paths: Sequence[str | os.PathLike[str]],
    captions: str | os.PathLike[str] | None = None,
    *,
    files: FileFilter = EVERY_FILE,
    image_column: str = "",
    caption_column: str = "",
    texts_alone: bool = False,
    fetch: Fetch | None = None,
    refresh: bool = False,
    embeddings: Fingerprint | None = None,
    warn: Warn = ignore_notices,
) -> Iterator[Item]:
    """Yield every image and text that the paths hold.

    Args:
        paths: folders of images, single images, caption files, Parquet and Arrow files, folders
            saved by Hugging Face ``datasets``, tar shards, zip archives, lists of URLs, embeddings;
            local, or at an address such as ``s3://bucket/folder``. The kind of each is detected;
            a pattern such as ``{000..099}.tar`` expands to several.
        captions: a caption file that describes images in the folders.
        files: which files of a folder to take.
        image_column, caption_column: columns of a table; "" to guess them.
        texts_alone: store the texts of a caption file that names no pictures beside pictures.
        fetch: downloads a URL; None to download nothing.
        refresh: download images again that are stored already.
        embeddings: the model that computed the embeddings among the paths.
        warn: told of what is passed over or cannot be kept.

    Raises:
        UsageError: a path does not exist, or there is none.
        SourceError: a caption file cannot be read, or does not say which pictures it describes.
            Both are raised before the first sample.
    """
    given = [place for path in paths for place in expand(path)]
    describing = expand(captions) if captions is not None else []
    if not (given or describing):
        raise UsageError("nothing to ingest: name a folder of pictures or a caption file")
    known = KnownPictures(
        place.parent for place in (*given, *describing) if isinstance(place, Path)
    )
    options = ReadOptions(
        files, image_column, caption_column, fetch, refresh, embeddings, warn, known, texts_alone
    )
    opened: dict[int, Items | CaptionFile] = {}
    # Caption files last: which column names the pictures may show only by comparing both.
    for number in sorted(range(len(given)), key=lambda number: not _holds_files(given[number])):
        source = opened[number] = _open(given[number], options)
        if not isinstance(source, CaptionFile):
            known.streams.append(source)
    described = [one for _, one in sorted(opened.items()) if isinstance(one, CaptionFile)]
    described += [_open_captions(place, options) for place in describing]
    streams = [one for _, one in sorted(opened.items()) if not isinstance(one, CaptionFile)]
    for file in described:
        _check_captions(file, streams, options)
    folders = [place for place in given if isinstance(place, Path) and place.is_dir()]
    inside = _captions_inside(given, opened, describing, bool(described), options)
    return _noticed(_samples(streams, described, inside, folders, options), warn)


def _captions_inside(
    given: Sequence[Path | str],
    opened: Mapping[int, Items | CaptionFile],
    describing: Sequence[Path | str],
    has_captions: bool,
    options: ReadOptions,
) -> list[CaptionFile]:
    """The caption files in the given folders that describe the pictures there."""
    named = {str(place) for place in (*given, *describing)}
    folders = [
        place
        for number, place in enumerate(given)
        if isinstance(place, Path) and place.is_dir()
        if not isinstance(opened[number], CaptionFile) and not holds_pictures(place, options)
    ]
    return [
        file
        for folder in folders
        for file in captions_inside(folder, options, named, use=not has_captions)
    ]


def _holds_files(place: Path | str) -> bool:
    """Whether a path certainly holds pictures: it is opened before the caption files."""
    if isinstance(place, str):
        return posixpath.splitext(place)[1].lower() not in SUFFIXES
    return place.is_dir() or place.suffix.lower() not in SUFFIXES


def _check_captions(file: CaptionFile, streams: Sequence[Items], options: ReadOptions) -> None:
    """Refuse captions that would go to no picture; say what of their columns is lost."""
    if streams and not options.texts_alone and not file.names_pictures:
        raise SourceError(
            f"{file.uri} does not say which pictures its texts describe; its columns are: "
            f"{', '.join(file.columns)}. Name the column of pictures with --image-column, or store "
            "the texts without pictures with --texts-alone"
        )
    if file.guessed:
        options.warn(
            file.uri, f"its column {file.guessed} names the pictures; --image-column sets another"
        )
    for name, reason in file.lost.items():
        options.warn(file.uri, f"the column {name} {reason}")


def _noticed(items: Iterator[Item], warn: Warn) -> Iterator[Item]:
    """Pass on what the samples have to tell the user."""
    for item in items:
        for text in item.notes if isinstance(item, Sample) else ():
            warn(item.uri, text)
        yield item


def _open(place: Path | str, options: ReadOptions) -> Items | CaptionFile:
    if isinstance(place, Path):
        return open_path(place, options)
    if is_url(place):
        return open_web(place, options)
    return open_remote(place, options)


def _open_captions(place: Path | str, options: ReadOptions) -> CaptionFile:
    if isinstance(place, Path):
        return open_captions(place, options)
    if is_url(place):
        return open_web_captions(place, options)
    return open_remote_captions(place, options)


def _samples(
    streams: Sequence[Items],
    described: Sequence[CaptionFile],
    inside: Sequence[CaptionFile],
    folders: Sequence[Path],
    options: ReadOptions,
) -> Iterator[Item]:
    files = [*described, *inside]
    for stream in streams:
        for item in stream():
            if isinstance(item, Sample) and (files or item.captions):
                yield _with_captions(item, files)
            else:
                yield item
    for file in described:
        finder = _finder(file, folders, options)
        for entry in file.unused():
            yield _from_caption_file(entry, file, finder, options)


def _finder(file: CaptionFile, folders: Sequence[Path], options: ReadOptions) -> AnyFinder:
    if is_url(file.uri):
        return WebImageFinder(file.uri, options)
    return RemoteImageFinder(file.uri) if is_address(file.uri) else ImageFinder(file.path, folders)


def _with_captions(sample: Sample, described: Sequence[CaptionFile]) -> Sample:
    """Add captions and metadata from the caption files: by the image's path, else by its name."""
    captions, metadata, notes = list(sample.captions), dict(sample.metadata), list(sample.notes)
    member = sample.relative.rpartition("!")[2]
    for file in described:
        beside = os.path.relpath(sample.uri, os.path.dirname(file.uri))
        names = [sample.relative, *_endings(member)]
        names += [os.path.splitext(name)[0] for name in names]
        entry = file.take(sample.uri, beside, os.path.splitext(beside)[0])
        if entry is None:
            entry, note = file.take_by_name(*names)
            notes += [note] if note else []
        entry = entry or file.take_foreign(member)
        if entry is not None:
            _add(captions, metadata, entry)
    return _replace(sample, captions, metadata, notes)


def _add(captions: list[str], metadata: dict[str, Any], entry: CaptionEntry) -> None:
    """Add what a caption file says; a written caption replaces a proposed one."""
    if entry.captions and metadata.get(CAPTION_SOURCE) == PROPOSED:
        captions.clear()
        del metadata[CAPTION_SOURCE]
        metadata.pop(CAPTION_PROBABILITY, None)
    captions += entry.captions
    metadata |= entry.metadata


def _endings(path: str) -> list[str]:
    """A path, and what is left of it without its first folders: ``a/b.jpg``, ``b.jpg``."""
    parts = path.split("/")
    return ["/".join(parts[first:]) for first in range(max(0, len(parts) - _FOLDERS), len(parts))]


def _from_caption_file(
    entry: CaptionEntry,
    file: CaptionFile,
    finder: AnyFinder,
    options: ReadOptions,
) -> Item:
    """Return an image that no folder holds, or a caption without an image."""
    if not entry.image:
        # Identified by its text, not its line number, which changes when lines are inserted.
        return Sample(
            uri=f"{file.uri}#{text_id('', ' '.join(entry.captions))}",
            root=file.uri,
            relative=f"{os.path.basename(file.uri)}#{entry.line}",
            load=None,
            captions=entry.captions,
            metadata=entry.metadata,
        )
    if is_url(entry.image):
        return _from_url(entry, file, options)
    try:
        item = finder.find(entry.image)
    except SourceError as error:
        return _failure(entry, file, str(error))
    if item is None:
        return _failure(entry, file, "there is no such picture")
    if isinstance(item, Failure):
        return item
    captions, metadata = list(item.captions), dict(item.metadata)
    _add(captions, metadata, entry)
    return _replace(item, captions, metadata)


def _from_url(entry: CaptionEntry, file: CaptionFile, options: ReadOptions) -> Item:
    if options.fetch is None:
        return _failure(entry, file, "it is on the web, and this run downloads nothing")
    return url_item(
        entry.image,
        file.uri,
        options.fetch,
        captions=entry.captions,
        metadata=entry.metadata,
        refresh=options.refresh,
    )


def _failure(entry: CaptionEntry, file: CaptionFile, reason: str) -> Failure:
    beside = os.path.join(os.path.dirname(file.uri), entry.image)
    uri = entry.image if is_url(entry.image) else beside
    if not is_address(uri):
        uri = os.path.normpath(uri)
    return Failure(uri, f"{file.where(entry)}: {reason}", file.uri, captions=entry.captions)


def _replace(
    sample: Sample,
    captions: Sequence[str],
    metadata: dict[str, Any],
    notes: Sequence[str] | None = None,
) -> Sample:
    return replace(
        sample,
        captions=tuple(dict.fromkeys(captions))[:MAX_CAPTIONS],
        metadata=metadata,
        notes=sample.notes if notes is None else tuple(notes),
    )

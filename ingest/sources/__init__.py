"""Corpora of every kind, each a stream of the same ``Sample``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ingest.sample import Failure, Item, Sample
from ingest.sources.captions import SUFFIXES, CaptionFile, Described
from ingest.sources.folder import EVERY_FILE, FileFilter, file_sample, walk
from search.errors import SourceError, UsageError
from search.records import text_id

__all__ = ["FileFilter", "open_sources"]


def open_sources(
    paths: Sequence[str | Path],
    captions: str | Path | None = None,
    *,
    files: FileFilter = EVERY_FILE,
    image_column: str = "",
    caption_column: str = "",
) -> Iterator[Item]:
    """Everything that the paths hold, as samples.

    Args:
        paths: folders of pictures, single pictures, and caption files.
        captions: a caption file for the pictures of the folders.
        files: which files of a folder to take.
        image_column, caption_column: columns of a caption file, where they cannot be guessed.

    Raises:
        UsageError: a path does not exist, or none was given.
        SourceError: a caption file cannot be read. Both are raised before the first sample.
    """
    given = [Path(os.path.expanduser(path)) for path in paths]
    if captions is not None:
        given.append(Path(os.path.expanduser(captions)))
    if not given:
        raise UsageError("nothing to ingest: name a folder of pictures or a caption file")
    for path in given:
        if not path.exists():
            raise UsageError(f"there is no {path}")
    described = [
        CaptionFile(path, image_column, caption_column) for path in given if _is_captions(path)
    ]
    if captions is not None and not _is_captions(given[-1]):
        raise SourceError(f"{captions} is not a caption file: those end in {_list(SUFFIXES)}")
    trees = [path for path in given if not _is_captions(path)]
    return _samples(trees, described, files)


def _samples(
    trees: Sequence[Path], described: Sequence[CaptionFile], files: FileFilter
) -> Iterator[Item]:
    used: list[set[str]] = [set() for _ in described]
    for tree in trees:
        for item in walk(tree, files):
            yield _with_captions(item, described, used) if isinstance(item, Sample) else item
    for file, seen in zip(described, used, strict=True):
        for entry in file:
            if entry.image not in seen:
                yield _from_caption_file(entry, file.path, trees)


def _with_captions(
    sample: Sample, described: Sequence[CaptionFile], used: list[set[str]]
) -> Sample:
    """The sample with what the caption files say of it, by its path or, failing that, its name."""
    captions, metadata = list(sample.captions), dict(sample.metadata)
    for file, seen in zip(described, used, strict=True):
        beside = os.path.relpath(sample.uri, file.path.parent)
        for name in (sample.uri, beside, sample.relative, os.path.basename(sample.uri)):
            entry = file.get(name)
            if entry is not None:
                seen.add(name)
                captions += [text for text in entry.captions if text not in captions]
                metadata |= entry.metadata
                break
    return _replace(sample, captions, metadata)


def _from_caption_file(entry: Described, file: Path, trees: Sequence[Path]) -> Item:
    """A picture that only the caption file names: beside that file, or below a folder given."""
    if not entry.image:
        # Named by its words, not its line, so that a line put in above changes nothing.
        return Sample(
            uri=f"{file}#{text_id('', ' '.join(entry.captions))}",
            root=str(file),
            relative=f"{file.name}#{entry.line}",
            load=None,
            captions=entry.captions,
            metadata=entry.metadata,
        )
    for folder in (file.parent, *trees):
        path = Path(os.path.normpath(folder.absolute() / entry.image))
        if path.is_file():
            below = path.is_relative_to(folder.absolute())
            item = file_sample(path, folder.absolute() if below else path.parent)
            if isinstance(item, Failure):
                return item
            return _replace(item, [*item.captions, *entry.captions], dict(entry.metadata))
    return Failure(
        str(file.parent / entry.image),
        f"{file.name}, line {entry.line}: there is no such picture",
        str(file),
    )


def _replace(sample: Sample, captions: Sequence[str], metadata: dict[str, object]) -> Sample:
    return replace(sample, captions=tuple(dict.fromkeys(captions)), metadata=metadata)


def _is_captions(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _list(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))

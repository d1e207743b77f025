"""``SourceOptions``: what can be said about the paths of a corpus, beside the paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

from twinlens.search.milvus.layout import OPTIONS as LAYOUT
from twinlens.search.milvus.layout import Layout, LayoutOptions
from twinlens.search.options import check_options, says_something

if TYPE_CHECKING:
    from twinlens.ingest.sample import Item
    from twinlens.search.models.catalogue import Fingerprint

Path = str | os.PathLike[str]


class SourceOptions(TypedDict, total=False):
    """How to read a corpus.

    Keys:
        captions: a caption file for the pictures of the folders.
        include, exclude: globs that say which files of a folder to take.
        image_column, caption_column: a caption file's columns, where they cannot be guessed.
        refresh: fetch pictures on the web again that are stored already.
        allow_networks: not public, and yet pictures may be fetched from there: "10.0.0.0/8".
        embeddings_model: which model made the embeddings among the paths.
    """

    captions: Path | None
    include: Sequence[str]
    exclude: Sequence[str]
    image_column: str
    caption_column: str
    refresh: bool
    allow_networks: Sequence[str]
    embeddings_model: str | Fingerprint


#: Of what kind each is; what is an object is looked at where it is used.
SOURCE: Mapping[str, type] = {
    "captions": object,
    "include": list,
    "exclude": list,
    "image_column": str,
    "caption_column": str,
    "refresh": bool,
    "allow_networks": list,
    "embeddings_model": object,
}
#: What ``Index.ingest`` takes beside these.
RUN = ("bulk", "cluster", "progress", "prune", "report", "retry_failed")


class IngestOptions(SourceOptions, LayoutOptions, total=False):
    """What can be said about a corpus and about the collection that is made for it."""


def split_options(options: IngestOptions) -> tuple[Layout, SourceOptions]:
    """What is said about the collection, and what about the corpus.

    Raises:
        UsageError: there is no such option, or it cannot be that.
    """
    check_options(options, {**SOURCE, **LAYOUT}, unset=True, beside=RUN)
    layout = {key: value for key, value in options.items() if key in LayoutOptions.__annotations__}
    source = {key: value for key, value in options.items() if key not in layout}
    return Layout().changed(**cast(LayoutOptions, layout)), cast(SourceOptions, source)


def open_items(
    paths: Sequence[Path], embeddings: Fingerprint | None = None, **options: Unpack[SourceOptions]
) -> Iterator[Item]:
    """The items of a corpus, one by one.

    Args:
        paths: see ``twinlens.Index.ingest``.
        embeddings: the model of the embeddings among the paths.
        options: see ``SourceOptions``; the embeddings' model is taken from ``embeddings``.

    Raises:
        UsageError: a path does not exist, or there is no such option.
        SourceError: a file cannot be read.
    """
    check_options(options, SOURCE, unset=True)
    from twinlens.ingest.sources import FileFilter, open_sources
    from twinlens.search.images.fetch import Fetcher, FetchLimits

    said = cast(SourceOptions, {key: one for key, one in options.items() if says_something(one)})
    networks = tuple(said.get("allow_networks", ()))
    return open_sources(
        paths,
        said.get("captions"),
        files=FileFilter(tuple(said.get("include", ())), tuple(said.get("exclude", ()))),
        image_column=said.get("image_column", ""),
        caption_column=said.get("caption_column", ""),
        fetch=Fetcher(FetchLimits(networks=networks)).fetch,
        refresh=said.get("refresh", False),
        embeddings=embeddings,
    )


def nothing_found(paths: Sequence[Path]) -> str:
    """What to say where the paths hold no pictures at all."""
    from twinlens.search.images.decode import supported_extensions

    where = ", ".join(os.fspath(path) for path in paths)
    looked_for = ", ".join(sorted(supported_extensions()))
    return f"no pictures in {where}: looked for files ending in {looked_for}"

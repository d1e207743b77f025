"""Declare the options of an ingest, and read the items of its paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack, cast

from twinlens.ingest.report import ItemCallback, Progress
from twinlens.ingest.upload import WriteOptions
from twinlens.search.milvus import layout
from twinlens.search.milvus.layout import Layout, LayoutOptions
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.options import Option, check_options, is_set, options_of

if TYPE_CHECKING:
    from twinlens.ingest.sample import Item, Warn

Path = str | os.PathLike[str]


class SourceOptions(TypedDict, total=False):
    """How to read a corpus.

    An option is declared here, in ``RunOptions`` or in ``WriteOptions``, and nowhere else:
    ``Index``, ``RemoteIndex`` and the command line derive theirs from these classes.
    """

    captions: Annotated[
        Path | None,
        Option(None, "A caption file for the pictures: JSON, CSV, Parquet, COCO or Flickr."),
    ]
    include: Annotated[Sequence[str], Option((), "Take only files of folders that match a glob.")]
    exclude: Annotated[Sequence[str], Option((), "Skip files of folders that match a glob.")]
    image_column: Annotated[
        str, Option("", "The column of a caption file that names the picture; default: guessed.")
    ]
    caption_column: Annotated[
        str, Option("", "The column of a caption file that has the caption; default: guessed.")
    ]
    texts_alone: Annotated[
        bool,
        Option(
            False,
            "Store the texts of a caption file that names no pictures, although pictures are "
            "given, too.",
        ),
    ]
    leave_out: Annotated[
        Path | None,
        Option(
            None,
            "Leave out the pairs of picture and caption, or whole pictures, that a file lists.",
        ),
    ]
    embeddings_model: Annotated[
        str | Fingerprint, Option("", "The model that made the embeddings among the paths.")
    ]
    refresh: Annotated[bool, Option(False, "Download pictures again that are stored already.")]
    allow_networks: Annotated[
        Sequence[str],
        Option((), "Allow downloads from a network that is not public, such as 10.0.0.0/8."),
    ]


class RunOptions(WriteOptions, total=False):
    """How to run an ingest.

    ``report`` may also be a function that is called with an ``ItemRow`` for every item. All
    machines of a ``cluster`` must be able to read the paths: see
    ``twinlens.ingest.ray.cluster.connect``. See ``twinlens.ingest.bulk.importer`` for ``bulk``.
    """

    policy: Annotated[
        Path | None,
        Option(
            None,
            "Judge new pictures by a moderation policy file: what it holds back is not found.",
        ),
    ]
    bulk: Annotated[
        str,
        Option(
            "",
            "Have the Milvus server import new rows from storage that it reads: "
            "s3://bucket/prefix, or a folder.",
        ),
    ]
    cluster: Annotated[
        str, Option("", "Read and encode on a Ray cluster: local, auto or HOST:6379.")
    ]
    report: Annotated[
        Path | ItemCallback | None, Option(None, "Write a JSON line for every item to a file.")
    ]
    progress: Annotated[
        Progress | None, Option(None, "A progress bar like tqdm, updated with every item.")
    ]


class IngestOptions(SourceOptions, RunOptions, LayoutOptions, total=False):
    """All options of an ingest: how to read, how to run, and the layout of a new collection."""


#: Every option by name, without those of the layout.
SOURCE_OPTIONS = options_of(SourceOptions)
RUN_OPTIONS = options_of(RunOptions)
_SOURCE = {name: option.kind for name, option in SOURCE_OPTIONS.items()}
_RUN = {name: option.kind for name, option in RUN_OPTIONS.items()}
_LAYOUT = {name: option.kind for name, option in layout.OPTIONS.items()}


def split_options(options: IngestOptions) -> tuple[Layout, SourceOptions, RunOptions]:
    """Check options, and split them by what they concern; unset ones are left out.

    Raises:
        UsageError: there is no such option, or its value is invalid.
    """
    check_options(options, {**_SOURCE, **_RUN, **_LAYOUT}, unset=True)
    given = {name: value for name, value in options.items() if is_set(value)}
    asked = {name: value for name, value in given.items() if name in _LAYOUT}
    source = {name: value for name, value in given.items() if name in _SOURCE}
    run = {name: value for name, value in given.items() if name in _RUN}
    return (
        Layout().changed(**cast(LayoutOptions, asked)),
        cast(SourceOptions, source),
        cast(RunOptions, run),
    )


def write_options(run: RunOptions) -> WriteOptions:
    """The ``WriteOptions`` among the options of a run."""
    return {"prune": run.get("prune", False), "retry_failed": run.get("retry_failed", False)}


def open_items(
    paths: Sequence[Path],
    embeddings: Fingerprint | None = None,
    warn: Warn | None = None,
    **options: Unpack[SourceOptions],
) -> Iterator[Item]:
    """Read the items of a corpus, one by one.

    Args:
        paths: see ``twinlens.Index.ingest``.
        embeddings: the model of the embeddings among the paths.
        warn: told of what the sources pass over or cannot keep.
        options: see ``SourceOptions``; ``embeddings`` replaces ``embeddings_model``.

    Raises:
        UsageError: a path does not exist, or there is no such option.
        SourceError: a file cannot be read.
    """
    check_options(options, _SOURCE, unset=True)
    from twinlens.ingest.leave_out import LeaveOutList
    from twinlens.ingest.sample import ignore_notices
    from twinlens.ingest.sources import FileFilter, open_sources
    from twinlens.search.images.fetch import Fetcher, FetchLimits

    given = cast(SourceOptions, {name: one for name, one in options.items() if is_set(one)})
    networks = tuple(given.get("allow_networks", ()))
    listed = given.get("leave_out")
    left_out = LeaveOutList(listed) if listed is not None else None
    items = open_sources(
        paths,
        given.get("captions"),
        files=FileFilter(tuple(given.get("include", ())), tuple(given.get("exclude", ()))),
        image_column=given.get("image_column", ""),
        caption_column=given.get("caption_column", ""),
        texts_alone=given.get("texts_alone", False),
        fetch=Fetcher(FetchLimits(networks=networks)).fetch,
        refresh=given.get("refresh", False),
        embeddings=embeddings,
        warn=warn or ignore_notices,
    )
    return items if left_out is None else left_out.apply(items)


def nothing_found(paths: Sequence[Path], notices: Iterable[str] = ()) -> str:
    """The error message for paths that contain no pictures at all, and what was passed over."""
    from twinlens.search.images.formats import supported_extensions

    where = ", ".join(os.fspath(path) for path in paths)
    extensions = ", ".join(sorted(supported_extensions()))
    passed_over = "".join(f"; {text}" for text in notices)
    return f"no pictures in {where}: looked for files ending in {extensions}{passed_over}"

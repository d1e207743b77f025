"""Read tar archives of images, WebDataset shards among them: adjacent members share a key.

Listing a shard reads only headers and sidecars. Each image is read on demand at its offset, so that
an unchanged shard costs one walk over its headers. A compressed shard is first decompressed into a
temporary file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import IO, BinaryIO, cast

from twinlens.ingest.sample import Item, Warn, ignore_notices
from twinlens.ingest.sources.archives import Archive, TemporaryCopy, is_hidden, member_item
from twinlens.ingest.sources.folder import EVERY_FILE, FileFilter
from twinlens.ingest.sources.passed_over import tell_undecodable
from twinlens.ingest.sources.sidecar_names import TEXT_SUFFIXES
from twinlens.ingest.sources.sidecars import MAX_SIDECAR_BYTES, Sidecar, parse_named
from twinlens.ingest.sources.webdataset import SIDECAR_SUFFIXES, assign_sidecars
from twinlens.search.images.formats import is_image_name
from twinlens.search.records import clean_metadata

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: A compressed shard may decompress to so many bytes, or so many times its size if that is more.
MAX_UNPACKED = 4 << 30
MAX_RATIO = 20
#: Of the dictionary of an xz file, which its header sets; ``xz -9`` needs 65 MB.
MAX_XZ_MEMORY = 128 << 20
#: Members of one key that are read together.
MAX_GROUP = 64
#: Bytes of a header, with the long names and attributes that may precede it.
_MAX_HEADER = 1 << 20
_BLOCK = 512
#: Bytes that are decompressed at a time.
_PIECE = 1 << 20
_NO_PICTURE = (
    "texts that do not stand beside a picture of the same name are passed over: tar the files "
    "sorted by name (tar --sort=name)"
)
#: A class number with more digits does not fit into Milvus.
_MAX_DIGITS = 19


def is_tar(name: str) -> bool:
    """Whether a file name has a tar suffix."""
    return name.lower().endswith(SUFFIXES)


def read_tar(
    archive: Archive, files: FileFilter = EVERY_FILE, warn: Warn = ignore_notices
) -> Iterator[Item]:
    """Yield the images of a shard in its order, with the captions of their key's sidecars.

    A damaged shard yields what precedes the damage, then a ``Failure``.
    """
    try:
        archive = _unpacked(archive)
        with archive.file.open("rb") as file:
            for _, members in groupby(_members(file), key=_key):
                while group := list(islice(members, MAX_GROUP)):
                    yield from _items(archive, file, group, files, warn)
    except (tarfile.TarError, EOFError, ValueError, lzma.LZMAError) as error:
        yield archive.failure(error, "the shard is damaged")
    except OSError as error:
        yield archive.failure(error)


def _unpacked(archive: Archive) -> Archive:
    unpack = _UNPACK.get(Path(archive.uri).suffix.lower())
    if unpack is None:
        return archive
    limit = max(MAX_UNPACKED, MAX_RATIO * archive.file.stat().st_size)
    copy = TemporaryCopy(unpack(archive.file), limit, ".tar")
    return replace(archive, file=copy.path, keep=copy)


def _read_gzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as packed:
        yield from iter(partial(packed.read, _PIECE), b"")


def _read_bz2(path: Path) -> Iterator[bytes]:
    with bz2.open(path) as packed:
        yield from iter(partial(packed.read, _PIECE), b"")


def _read_xz(path: Path) -> Iterator[bytes]:
    """Decompress the streams of a file; ``lzma.open`` has no limit of memory."""
    with path.open("rb") as file:
        packed = file.read(_PIECE)
        while packed:
            decoder = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)
            while not decoder.eof:
                try:
                    yield decoder.decompress(packed, _PIECE)
                except lzma.LZMAError as error:
                    if "Memory usage limit" not in str(error):
                        raise
                    raise OSError(
                        f"takes more than {MAX_XZ_MEMORY >> 20} MB of memory to decompress"
                    ) from error
                packed = b""
                if decoder.needs_input and not decoder.eof:
                    packed = file.read(_PIECE)
                    if not packed:
                        raise EOFError("the compressed data is truncated")
            # Zeros may follow a stream, and then another stream.
            packed = decoder.unused_data.lstrip(b"\0")
            while not packed and (more := file.read(_PIECE)):
                packed = more.lstrip(b"\0")


_UNPACK: dict[str, Callable[[Path], Iterator[bytes]]] = {
    ".gz": _read_gzip, ".tgz": _read_gzip, ".bz2": _read_bz2, ".xz": _read_xz,
}  # fmt: skip


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files; the caller may seek in the file between them."""
    tar = tarfile.open(fileobj=cast("IO[bytes]", _Headers(file)), mode="r:")  # noqa: SIM115
    at = 0
    while True:
        member = _next(tar, at)
        # tarfile would keep every member in memory.
        tar.members = []  # type: ignore[attr-defined]
        if member is None:
            break
        if tar.offset <= at:
            raise tarfile.ReadError(f"after {at:,} bytes: its next header is not further on")
        at = tar.offset
        if member.isreg() and not member.issparse():
            yield member
    # tarfile takes an invalid header for the end of the archive.
    file.seek(tar.offset)
    if file.read(_BLOCK).strip(b"\0"):
        raise tarfile.ReadError(f"after {at:,} bytes")


def _next(tar: tarfile.TarFile, at: int) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except OSError:
        raise
    except Exception as error:  # malformed headers make tarfile raise nearly anything
        raise tarfile.ReadError(f"after {at:,} bytes: {error}") from error


def _key(member: tarfile.TarInfo) -> str:
    """Return the WebDataset key: the path up to the first dot of the file name."""
    folder, _, base = member.name.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"


def _items(
    archive: Archive,
    file: BinaryIO,
    group: list[tarfile.TarInfo],
    files: FileFilter,
    warn: Warn,
) -> Iterator[Item]:
    visible = [member for member in group if not is_hidden(member.name)]
    tell_undecodable((m.name for m in visible if files.takes(m.name)), archive.uri, warn)
    pictures = [m for m in visible if is_image_name(m.name) and files.takes(m.name)]
    if not pictures:
        if any(m.name.lower().endswith(TEXT_SUFFIXES) and files.keeps(m.name) for m in visible):
            warn(archive.uri, _NO_PICTURE)
        return
    beside = {m.name: m for m in visible if m.name.lower().endswith(SIDECAR_SUFFIXES)}
    assigned = assign_sidecars([m.name for m in visible if is_image_name(m.name)], list(beside))
    unused = beside.keys() - {name for names in assigned.values() for name in names}

    def read(name: str) -> bytes:
        file.seek(beside[name].offset_data)
        return file.read(min(beside[name].size, MAX_SIDECAR_BYTES + 1))

    notes = tuple(f"{Path(name).name} beside it describes no picture" for name in sorted(unused))
    for member in pictures:
        load = partial(_read, archive, member.offset_data, member.size)
        says = partial(_said, member.name, assigned[member.name], read, notes)
        yield member_item(archive, member.name, member.size, load, says)
        notes = ()


def _said(
    picture: str, names: Sequence[str], read: Callable[[str], bytes], notes: tuple[str, ...]
) -> Sidecar:
    texts = [[name] for name in names if name.lower().endswith(TEXT_SUFFIXES)]
    described = parse_named(picture, texts, [n for n in names if n.lower().endswith(".json")], read)
    described = replace(described, notes=(*described.notes, *notes))
    classes = [read(name) for name in names if name.lower().endswith(".cls")]
    kind = classes[0].decode("utf-8", "replace").strip() if classes else ""
    if not kind:
        return described
    number = int(kind) if kind.isascii() and kind.isdigit() and len(kind) < _MAX_DIGITS else kind
    return replace(described, metadata={**described.metadata, **clean_metadata({"cls": number})})


def _read(archive: Archive, offset: int, size: int) -> bytes:
    with archive.file.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise OSError("the shard was truncated while it was read")
    return data


class _Headers:
    """Bounds the reads of tarfile, which trusts the sizes that headers claim."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a header is larger than 1 MB")
        return self._file.read(size)

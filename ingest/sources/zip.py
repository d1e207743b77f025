"""Read zip archives of images and their sidecars.

Opening an archive reads its list of members. Each image is read on demand through its own file
handle, so that threads can read in parallel.
"""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import IO, BinaryIO, cast

from twinlens.ingest.sample import Item, Warn, ignore_notices
from twinlens.ingest.sources.archives import Archive, is_hidden, member_item
from twinlens.ingest.sources.folder import EVERY_FILE, FileFilter
from twinlens.ingest.sources.passed_over import tell_undecodable
from twinlens.ingest.sources.sidecar_names import Siblings
from twinlens.ingest.sources.sidecars import (
    MAX_SIDECAR_BYTES,
    Sidecar,
    SidecarError,
    parse_sidecars,
)
from twinlens.search.errors import ImageError
from twinlens.search.images.decode import MAX_BYTES
from twinlens.search.images.formats import is_image_name

#: Raised by ``zipfile`` for damaged members and unknown compressions.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error,
           NotImplementedError, MemoryError)  # fmt: skip
#: Of an archive; of its list of members in bytes.
MAX_MEMBERS, MAX_DIRECTORY = 2_000_000, 512 << 20
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30


def is_zip(name: str) -> bool:
    """Whether a file name ends in ``.zip``."""
    return name.lower().endswith(".zip")


def read_zip(
    archive: Archive, files: FileFilter = EVERY_FILE, warn: Warn = ignore_notices
) -> Iterator[Item]:
    """Yield the images of an archive in name order, with their sidecars' captions.

    The sidecars of ``a/b.jpg`` have the same names as in a folder: see ``parse_sidecars``.
    """
    try:
        with archive.file.open("rb") as file, _opened(file) as opened:
            overlapping = Overlaps(opened.infolist())
            # Of members with the same name, the first counts.
            members: dict[str, zipfile.ZipInfo] = {}
            for info in opened.infolist():
                if not info.is_dir() and not is_hidden(info.filename):
                    members.setdefault(info.filename, info)
    except _DAMAGE as error:
        yield archive.failure(error, "the archive is damaged")
        return
    except OSError as error:
        yield archive.failure(error)
        return
    siblings = Siblings(members)
    tell_undecodable(filter(files.takes, members), archive.uri, warn)
    for name in sorted(members):
        if is_image_name(name) and files.takes(name):
            info = members[name]
            if info in overlapping:
                says: Callable[[], Sidecar] = _refuse_overlap
            else:
                says = partial(_said, archive, info, members, siblings)
            yield _item(archive, info, says)


def _opened(file: BinaryIO) -> zipfile.ZipFile:
    return zipfile.ZipFile(cast("IO[bytes]", _Directory(file)))


class _Directory:
    """Bounds the list of members, which ``zipfile`` reads at once: 500 bytes of memory for each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of members is over {MAX_DIRECTORY >> 20} MB")
        data = self._file.read(size)
        if data.count(b"PK\x01\x02") > MAX_MEMBERS:
            raise zipfile.BadZipFile(
                f"it has more than {MAX_MEMBERS:,} members: unpack it, or make several of it"
            )
        return data


class Overlaps:
    """Members that lie over others: a few bytes that are unpacked millions of times (zip bomb).

    Args:
        members: all members of an archive.
    """

    def __init__(self, members: Iterable[zipfile.ZipInfo]) -> None:
        self._starts = sorted(info.header_offset for info in members)

    def __contains__(self, info: zipfile.ZipInfo) -> bool:
        following = bisect_right(self._starts, info.header_offset)
        if following > 1 and self._starts[following - 2] == info.header_offset:
            return True
        end = info.header_offset + _LOCAL_HEADER + info.compress_size
        return following < len(self._starts) and end > self._starts[following]


def _refuse_overlap() -> Sidecar:
    raise ValueError("it overlaps another member of the archive")


def _item(archive: Archive, info: zipfile.ZipInfo, says: Callable[[], Sidecar]) -> Item:
    load = partial(_load, archive, info)
    try:
        return member_item(archive, info.filename, info.file_size, load, says)
    except OSError as error:
        return archive.failure(error)


def _said(
    archive: Archive,
    info: zipfile.ZipInfo,
    members: Mapping[str, zipfile.ZipInfo],
    siblings: Siblings,
) -> Sidecar:
    if info.flag_bits & _ENCRYPTED:
        raise ValueError("encrypted: unpack it with its password first")

    def read(name: str) -> bytes | None:
        if name not in members:
            return None
        try:
            return _read(archive, members[name], MAX_SIDECAR_BYTES)
        except ImageError as error:
            raise SidecarError(f"cannot be read: {error}") from error

    return parse_sidecars(info.filename, siblings, read)


def _load(archive: Archive, info: zipfile.ZipInfo) -> bytes:
    data = _read(archive, info, MAX_BYTES)
    if len(data) > MAX_BYTES:
        raise ImageError(f"larger than {MAX_BYTES >> 20} MB")
    return data


def _read(archive: Archive, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Read at most ``limit`` + 1 bytes of a member, whatever size its header claims."""
    try:
        with archive.file.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER)
            signature, name_length, extra_length = struct.unpack("<4s22xHH", header)
            if signature != b"PK\x03\x04":
                raise zipfile.BadZipFile(
                    "no header at the position that the archive's directory gives"
                )
            file.seek(name_length + extra_length, os.SEEK_CUR)
            with zipfile.ZipExtFile(file, "r", info) as member:
                return member.read(limit + 1)
    except _DAMAGE as error:
        raise ImageError(f"damaged in the archive: {error or type(error).__name__}") from error

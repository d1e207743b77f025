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
from collections.abc import Callable, Iterator, Mapping
from functools import partial

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
           NotImplementedError)  # fmt: skip
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
        with zipfile.ZipFile(archive.file) as opened:
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
            says = partial(_said, archive, members[name], members, siblings)
            yield _item(archive, members[name], says)


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

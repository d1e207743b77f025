"""Share code between tar and zip: the archive, its temporary copy, samples from its members."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NoReturn

from twinlens.ingest.sample import Failure, Item, Sample
from twinlens.ingest.sources.passed_over import is_passed_over
from twinlens.ingest.sources.sidecars import Sidecar
from twinlens.ingest.sources.tables import UriPrefix
from twinlens.search.images.decode import MAX_BYTES
from twinlens.search.records import MAX_PATH_BYTES, cut_bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive: its name, and the local file that holds it.

    Attributes:
        uri: its permanent name.
        place: the prefix of its members' names.
        file: the local file to read.
        mtime_ns: when it was last changed, nanoseconds since 1970.
        keep: a temporary copy, deleted when nothing refers to it any more.
    """

    uri: str
    place: UriPrefix
    file: Path
    mtime_ns: int
    keep: object = None

    @classmethod
    def of(cls, path: Path, root: Path | None = None) -> Archive:
        """Return the archive in a file that the user named, or that was found below ``root``.

        Raises:
            OSError: there is no such file.
        """
        path = path.absolute()
        return cls(str(path), UriPrefix.of(path, root), path, path.stat().st_mtime_ns)

    def failure(self, error: Exception, doing: str = "cannot be read") -> Failure:
        """Report that the whole archive failed: every run retries it, and its rows are kept."""
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Failure(self.uri, f"{doing}: {reason}", self.place.root, transient=True)


class TemporaryCopy:
    """A temporary file, deleted when nothing refers to this object any more.

    Raises:
        OSError: the bytes cannot be read or written, or are more than ``limit``.
    """

    def __init__(self, chunks: Iterable[bytes], limit: int, suffix: str = "") -> None:
        handle, name = tempfile.mkstemp(prefix="twinlens-", suffix=suffix)
        self.path = Path(name)
        weakref.finalize(self, _remove, name)
        # Unbuffered, so that closing writes nothing, and fails for no reason of its own.
        with os.fdopen(handle, "wb", buffering=0) as file:
            written = 0
            for chunk in chunks:
                if written + len(chunk) > limit:
                    raise OSError(f"larger than {limit:,} bytes")
                written += _write(file, chunk, self.path.parent)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a temporary copy, and whatever refers to it, cannot be sent to another process"
        )


def member_item(
    archive: Archive,
    name: str,
    size: int,
    load: Callable[[], bytes],
    read_captions: Callable[[], Sidecar],
) -> Item:
    """Return a member as a sample; a failure if its name, size or sidecars are not acceptable."""
    try:
        name = _checked(archive, name)
        if size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MB")
        beside = read_captions()
    except ValueError as error:
        readable = f"{archive.place.uri}{name}".encode("utf-8", "backslashreplace").decode()
        return Failure(cut_bytes(readable, MAX_PATH_BYTES), str(error), archive.place.root)
    return Sample(
        uri=archive.place.uri + name,
        root=archive.place.root,
        relative=archive.place.relative + name,
        load=load,
        size=size,
        mtime_ns=archive.mtime_ns,
        captions=beside.captions,
        metadata=beside.metadata,
        notes=beside.notes,
    )


def is_hidden(name: str) -> bool:
    """Whether a member is hidden, one of macOS' resource forks, or a file server's thumbnail."""
    parts = name.replace("\\", "/").split("/")
    is_hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return is_hidden or any(map(is_passed_over, parts[:-1]))


def _checked(archive: Archive, name: str) -> str:
    """Normalise and check a member's name; it is only a label, nothing is unpacked to it."""
    try:
        length = len(f"{archive.place.uri}{name}".encode())
    except UnicodeEncodeError:
        raise ValueError("its name is not valid UTF-8") from None
    if length > MAX_PATH_BYTES:
        raise ValueError(f"its name is longer than {MAX_PATH_BYTES} bytes")
    if ".." in name.replace("\\", "/").split("/"):
        raise ValueError("its name points outside the archive")
    if any(ch < " " for ch in name):
        raise ValueError("its name holds control characters")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _write(file: FileIO, chunk: bytes, folder: Path) -> int:
    """Write a whole chunk; returns its length."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        advice = f"{error.strerror} in the temporary folder {folder}: set TMPDIR to another one"
        raise OSError(error.errno, advice) from error
    return len(chunk)


def _remove(name: str) -> None:
    with suppress(OSError):
        os.unlink(name)

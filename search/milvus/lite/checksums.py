"""``Checksums``: remember what the files of a Milvus Lite database should contain.

Neither Parquet files, as Milvus Lite writes them, nor its log and its metadata have checksums. So
whoever writes through ``LiteClient`` records them under ``DATABASE/checksums``, in a file for each
file. Deleting the folder loses no data: the next write records data files again.

- A data file never changes: size and sha256 are recorded once it is complete.
- Metadata (aliases, schemas, manifests) is small: the record is a copy of it.
- The log grows: after each write, the checksum of what was added is appended to a list.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = "checksums"
_RECORD, _LIST = ".json", ".list"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded of a file.

    Attributes:
        size: in bytes.
        sha256: of its contents.
        text: the contents of a metadata file; "" for others.
    """

    size: int
    sha256: str
    text: str = ""

    @classmethod
    def of(cls, path: Path, *, metadata: bool = False) -> Recorded:
        """Read a file.

        Raises:
            OSError: it is missing, or cannot be read.
        """
        if metadata:
            data = path.read_bytes()
            text = data.decode("utf-8", "replace")
            return cls(len(data), hashlib.sha256(data).hexdigest(), text)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(os.fstat(file.fileno()).st_size, digest)


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log file, in bytes, with its CRC-32."""

    start: int
    end: int
    crc: int


class DamagedRecordError(Exception):
    """A record is damaged itself; nothing is known of its file."""


class Checksums:
    """The records of one database; safe to use from several threads, one for each file.

    Args:
        database: the folder of the database.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        self.folder = database / FOLDER

    # ---- Files that do not change, and metadata

    def record(self, path: Path, *, metadata: bool = False) -> None:
        """Record a file as it is now.

        Raises:
            OSError: it cannot be read, or the record cannot be written.
        """
        self.keep(path, Recorded.of(path, metadata=metadata))

    def keep(self, path: Path, found: Recorded) -> None:
        """Record what is known of a file.

        Raises:
            OSError: the record cannot be written.
        """
        body = {"size": found.size, "sha256": found.sha256, "text": found.text}
        sealed = body | {"seal": _seal(body)}
        write_whole(self._path(path, _RECORD), json.dumps(sealed).encode())

    def recorded(self, path: Path) -> Recorded | None:
        """What was recorded of a file; None for nothing.

        Raises:
            DamagedRecordError: the record cannot be read.
        """
        try:
            body = json.loads(self._path(path, _RECORD).read_bytes())
            seal = body.pop("seal")
            if seal != _seal(body):
                raise ValueError
            return Recorded(int(body["size"]), str(body["sha256"]), str(body["text"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedRecordError(str(self._path(path, _RECORD))) from error

    def has(self, path: Path) -> bool:
        """Whether anything is recorded of a file."""
        return self._path(path, _RECORD).exists()

    def forget(self, path: Path) -> None:
        """Delete the records of a file, or of a folder and all below it."""
        shutil.rmtree(self._mirror(path), ignore_errors=True)
        for ending in (_RECORD, _LIST):
            with suppress(OSError):
                os.unlink(self._path(path, ending))

    def paths(self, below: Path) -> Iterator[Path]:
        """The files below a folder of which something is recorded, also if they are gone."""
        for folder, _, names in os.walk(self._mirror(below)):
            for name in sorted(names):
                for ending in (_RECORD, _LIST):
                    if name.endswith(ending):
                        place = Path(folder).relative_to(self.folder)
                        yield self.database / place / name.removesuffix(ending)

    # ---- The log

    def follow(self, log: Path, done: int) -> int:
        """Record what was added to a log file since it had ``done`` bytes; return its size now.

        Raises:
            OSError: the log is gone, or the record cannot be written.
        """
        with log.open("rb") as file:
            file.seek(done)
            crc, end = 0, done
            while data := file.read(1 << 20):
                crc, end = zlib.crc32(data, crc), end + len(data)
        if end > done:
            self.add(log, LogPart(done, end, crc))
        return end

    def add(self, log: Path, part: LogPart) -> None:
        """Record a part of a log file, after those before it.

        Raises:
            OSError: the record cannot be written.
        """
        path = self._path(log, _LIST)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if part.start else "wb") as file:
            file.write(_line(part))

    def followed(self, log: Path) -> list[LogPart]:
        """The recorded parts of a log file, in order; [] for none.

        Raises:
            DamagedRecordError: a record cannot be read. The last one may be cut off.
        """
        try:
            data = self._path(log, _LIST).read_bytes()
        except OSError:
            return []
        parts: list[LogPart] = []
        for line in data.splitlines(keepends=True):
            try:
                start, end, crc = (int(word, 16) for word in line.split()[:3])
                part = LogPart(start, end, crc)
            except ValueError:
                part = LogPart(-1, -1, -1)
            if _line(part) == line and start == (parts[-1].end if parts else 0):
                parts.append(part)
            elif line.endswith(b"\n"):
                raise DamagedRecordError(str(self._path(log, _LIST)))
        return parts

    def _mirror(self, path: Path) -> Path:
        return self.folder / path.relative_to(self.database)

    def _path(self, path: Path, ending: str) -> Path:
        mirror = self._mirror(path)
        return mirror.with_name(mirror.name + ending)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there, also after a crash.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _seal(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _line(part: LogPart) -> bytes:
    text = f"{part.start:x} {part.end:x} {part.crc:08x}"
    return f"{text} {zlib.crc32(text.encode()):08x}\n".encode()

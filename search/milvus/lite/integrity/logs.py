"""Check the write-ahead log of a Milvus Lite collection, and cut off what is damaged."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from twinlens.search.milvus.lite.checksums import Checksums, DamagedRecordError, LogPart
from twinlens.search.milvus.lite.integrity.damage import Damage
from twinlens.search.milvus.lite.recorder import log_number

#: The end of an Arrow stream that was closed.
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def check_logs(
    folder: Path, checksums: Checksums, active: int, *, writing: bool
) -> Iterator[Damage]:
    """Find damage in the log files of a collection.

    Args:
        folder: of the log.
        checksums: the records.
        active: the number of the log that the manifest names: earlier ones were flushed.
        writing: whether a process may be writing to the log now.
    """
    there = sorted(folder.glob("wal_*.arrow")) if folder.is_dir() else []
    for path in sorted({*there, *checksums.paths(folder)}):
        try:
            parts = checksums.followed(path)
        except DamagedRecordError as error:
            yield Damage("checksum", str(path), f"its record {error} is damaged")
            parts = []
        if path not in there:
            if parts and log_number(path) >= active and not writing:
                yield Damage("log", str(path), "is missing: the last writes are gone")
            continue
        try:
            good = good_bytes(path, parts)
        except FileNotFoundError:
            continue  # flushed meanwhile
        size = path.stat().st_size
        recorded = parts[-1].end if parts else 0
        if good < recorded:
            yield Damage(
                "log", str(path), f"is damaged after byte {good:,}: later writes cannot be read"
            )
        elif good < size and not writing and path.read_bytes()[good:] != _END:
            # Whoever records anything of a collection records each write that is confirmed.
            known = bool(parts) or checksums.has(folder.parent / "schema.json")
            reason = "which was never confirmed" if known else "or is damaged there"
            yield Damage(
                "log", str(path), f"ends with an incomplete write, {reason}", harmless=known
            )


def good_bytes(path: Path, parts: Sequence[LogPart]) -> int:
    """How many bytes from the start hold whole batches that agree with their checksums.

    Args:
        path: of the log file.
        parts: its recorded parts; [] if there are none.
    """
    with path.open("rb") as file:
        limit: int | None = None
        for part in parts:
            file.seek(part.start)
            left, crc = part.end - part.start, 0
            while left and (data := file.read(min(left, 1 << 20))):
                crc, left = zlib.crc32(data, crc), left - len(data)
            if left or crc != part.crc:
                limit = part.start
                break
        file.seek(0)
        good = 0
        schema: pa.Schema | None = None
        while limit is None or good < limit:
            try:
                message = pa.ipc.read_message(file)
                if schema is None:
                    schema = pa.ipc.read_schema(message)
                else:
                    pa.ipc.read_record_batch(message, schema).validate(full=True)
            except (EOFError, OSError, pa.ArrowException, ValueError, MemoryError):
                break
            good = file.tell()
        return good if limit is None else min(good, limit)

"""Follow the write-ahead log of Milvus Lite: two streams of Arrow batches for each number.

``wal_data_N.arrow`` has inserted rows, ``wal_delta_N.arrow`` deleted keys. Milvus Lite writes a
batch and flushes it before it acknowledges the write, so whoever reads to the end of the files has
everything that was acknowledged.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa


class LogFile:
    """One file of the log, read batch by batch as it grows.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.deletes = path.name.startswith("wal_delta")
        self._offset = 0
        self._schema: pa.Schema | None = None

    def read(self) -> list[pa.RecordBatch]:
        """The batches written since the last call; one that is being written is left for later.

        Raises:
            FileNotFoundError: Milvus Lite has deleted the file.
        """
        batches = []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            while True:
                try:
                    message = pa.ipc.read_message(file)
                    if self._schema is None:
                        self._schema = pa.ipc.read_schema(message)
                    else:
                        batch = pa.ipc.read_record_batch(message, self._schema)
                        batch.validate(full=True)
                        batches.append(batch)
                except (EOFError, OSError, pa.ArrowException, MemoryError):
                    return batches
                self._offset = file.tell()

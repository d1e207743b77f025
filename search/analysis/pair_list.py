"""``PairList``: write pairs to a file that ``twinlens ingest --leave-out`` reads."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from twinlens.search.analysis.duplicates import paths_of
from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.paths import expand_home

#: Pictures whose paths are read at once.
_BATCH = 256


class PairList:
    """A JSON line for each pair, as ``{"image": PATH, "caption": TEXT, "probability": P}``.

    A picture with several paths gets a line for each, so that none of them brings the pair back.
    The file gets its name when it is complete: half a list would let bad pairs pass.

    Args:
        path: the file.
        collection: where the pictures are.

    Raises:
        UsageError: the file cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str], collection: Collection) -> None:
        self._path = expand_home(path)
        self._collection = collection
        self._waiting: list[tuple[str, str, float]] = []
        try:
            if self._path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            handle, name = tempfile.mkstemp(".part", f".{self._path.name}-", self._path.parent)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        self._part = Path(name)
        self._file = os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_waiting()
            self._file.close()
            if kind is None:
                # As a file that is opened in the usual way: mkstemp lets only the owner read it.
                umask = os.umask(0)
                os.umask(umask)
                self._part.chmod(0o666 & ~umask)
                self._part.replace(self._path)
        except OSError as failed:
            raise TwinlensError(f"{self._path} cannot be written: {failed.strerror}") from failed
        finally:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    def add(
        self, paths: Sequence[str], caption: str, probability: float, image_id: str = ""
    ) -> None:
        """Add a pair.

        Args:
            paths: of the picture.
            caption: its words.
            probability: that they belong together.
            image_id: of the picture, if it has more paths, which are read from the ledger.
        """
        if image_id:
            self._waiting.append((image_id, caption, probability))
            if len(self._waiting) >= _BATCH:
                self._write_waiting()
            return
        self._write(paths, caption, probability)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        paths = paths_of(self._collection, sorted({key for key, _, _ in waiting}))
        for key, caption, probability in waiting:
            self._write(paths.get(key, ()), caption, probability)

    def _write(self, paths: Sequence[str], caption: str, probability: float) -> None:
        for path in paths:
            pair = {"image": path, "caption": caption, "probability": round(probability, 4)}
            try:
                print(json.dumps(pair, ensure_ascii=False), file=self._file)
            except OSError as error:
                raise TwinlensError(f"{self._path} cannot be written: {error.strerror}") from error

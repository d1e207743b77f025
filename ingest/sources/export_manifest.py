"""Read, write and verify the manifest of an export: its files, their sizes and checksums."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from twinlens.search.errors import SourceError
from twinlens.search.milvus.database import SCHEMA_VERSION
from twinlens.search.models.fingerprint import Fingerprint
from twinlens.search.records import Kind

NAME = "twinlens-export.json"
VERSION = 1
#: Folders of tables and matrices; those of images are named as in clip-retrieval.
TABLES: Mapping[Kind, str] = {"images": "metadata", "texts": "texts", "files": "files"}
MATRICES: Mapping[Kind, str] = {"images": "img_emb", "texts": "text_vectors"}
KINDS: tuple[Kind, ...] = ("images", "texts", "files")
#: Limits on the values in a manifest.
MAX_BYTES = 64 << 20
MAX_SHARDS = 100_000
MAX_SHARD_ROWS = 1_000_000
MAX_DIM = 32_768
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file's size in bytes and its sha256."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> ExportedFile:
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True, slots=True)
class ExportShard:
    """Some rows of a collection: a table and, except for the ledger, a matrix of vectors.

    The paths follow from ``kind`` and ``number``: a manifest holds no paths.
    """

    kind: Kind
    number: int
    rows: int
    table: ExportedFile
    matrix: ExportedFile | None

    def table_path(self, folder: Path) -> Path:
        name = TABLES[self.kind]
        return folder / name / f"{name}_{self.number:05d}.parquet"

    def matrix_path(self, folder: Path) -> Path:
        name = MATRICES[self.kind]
        return folder / name / f"{name}_{self.number:05d}.npy"

    def files(self, folder: Path) -> list[tuple[Path, ExportedFile]]:
        """Return the shard's files, each with its size and checksum."""
        found = [(self.table_path(folder), self.table)]
        return found + ([(self.matrix_path(folder), self.matrix)] if self.matrix else [])


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of an export.

    Attributes:
        collection: its name.
        fingerprint: its model.
        shards: its rows.
        saved: its saved searches, as ``SavedSearch.to_text`` writes them.
    """

    collection: str
    fingerprint: Fingerprint
    shards: tuple[ExportShard, ...]
    saved: tuple[str, ...] = ()

    def count(self, kind: Kind) -> int:
        """Count the rows of one kind."""
        return sum(shard.rows for shard in self.shards if shard.kind == kind)

    def write(self, folder: Path) -> None:
        """Write the manifest to the export's folder."""
        written = {
            "twinlens_export": VERSION,
            "schema": SCHEMA_VERSION,
            "collection": self.collection,
            "fingerprint": asdict(self.fingerprint),
            "shards": [asdict(shard) for shard in self.shards],
            "searches": list(self.saved),
        }
        (folder / NAME).write_text(json.dumps(written, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a manifest; check that all its files exist and have the right size.

        Raises:
            SourceError: the folder is not a complete, undamaged export of this version.
        """
        manifest = _parse(_load(folder / NAME), folder / NAME)
        for shard in manifest.shards:
            for path, file in shard.files(folder):
                # Exports have no links; one could point anywhere.
                if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
                    raise SourceError(f"{folder} is incomplete: {path.name} is missing")
                if path.stat().st_size != file.bytes:
                    raise SourceError(f"{path} is damaged: its size differs from the manifest")
        return manifest


def verify(shard: ExportShard, folder: Path) -> None:
    """Check the sha256 of a shard's files.

    Raises:
        SourceError: a file differs from what was exported.
    """
    for path, file in shard.files(folder):
        if ExportedFile.of(path) != file:
            raise SourceError(f"{path} is damaged: its sha256 differs from the manifest")


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(
            f"{path.parent} is not an export: it has no {NAME} ({error.strerror})"
        ) from error
    if len(data) > MAX_BYTES:
        raise SourceError(f"{path} is larger than {MAX_BYTES >> 20} MB")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON: {str(error)[:200]}") from error


def _parse(raw: Any, path: Path) -> Manifest:
    if not isinstance(raw, dict) or "twinlens_export" not in raw:
        raise SourceError(f"{path} is not the manifest of an export")
    version = (raw["twinlens_export"], raw.get("schema"))
    if version != (VERSION, SCHEMA_VERSION):
        raise SourceError(f"{path} was written by another version of twinlens {version}")
    try:
        fingerprint = _fingerprint(raw["fingerprint"])
        listed = _expect(raw["shards"], list)
        if len(listed) > MAX_SHARDS:
            raise ValueError(f"more than {MAX_SHARDS:,} shards")
        shards = tuple(map(_shard, listed))
        for kind in KINDS:
            numbers = [shard.number for shard in shards if shard.kind == kind]
            if numbers != list(range(len(numbers))):
                raise ValueError(f"the shards of {kind} are not numbered from 0")
        from twinlens.search.query.saved import MAX_SAVED

        saved = _expect(raw.get("searches", []), list)  # an earlier version wrote none
        if len(saved) > MAX_SAVED:
            raise ValueError(f"more than {MAX_SAVED} saved searches")
        texts = tuple(_expect(text, str) for text in saved)
        return Manifest(_expect(raw["collection"], str), fingerprint, shards, texts)
    except KeyError as error:
        raise SourceError(f"{path} is not valid: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise SourceError(f"{path} is not valid: {error}") from error


def _fingerprint(raw: Any) -> Fingerprint:
    wanted = get_type_hints(Fingerprint)
    fields = {name: _expect(raw[name], kind) for name, kind in wanted.items()}
    fingerprint = Fingerprint(**fields)
    _within(fingerprint.dim, 1, MAX_DIM, "dim")
    _within(fingerprint.image_size, 1, 1 << 16, "image_size")
    if not fingerprint.normalized:
        raise ValueError("its vectors are not normalised")
    return fingerprint


def _shard(raw: Any) -> ExportShard:
    kind = next((kind for kind in KINDS if kind == raw["kind"]), None)
    if kind is None:
        raise ValueError("a shard of an unknown kind")
    matrix = None if kind == "files" else _file(raw["matrix"])
    number = _within(raw["number"], 0, MAX_SHARDS, "number")
    return ExportShard(
        kind, number, _within(raw["rows"], 1, MAX_SHARD_ROWS, "rows"), _file(raw["table"]), matrix
    )


def _file(raw: Any) -> ExportedFile:
    digest = _expect(raw["sha256"], str)
    if not _DIGEST.fullmatch(digest):
        raise ValueError("not a valid sha256")
    return ExportedFile(_within(raw["bytes"], 0, 1 << 62, "bytes"), digest)


def _expect(value: Any, kind: type) -> Any:
    # bool is a subclass of int.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{str(value)[:40]!r} is not of type {kind.__name__}")
    return value


def _within(value: Any, low: int, high: int, what: str) -> int:
    number = int(_expect(value, int))
    if not low <= number <= high:
        raise ValueError(f"{what} {number} is not from {low} to {high}")
    return number

"""Check the metadata of a Milvus Lite collection: its schema, its manifest, the aliases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from twinlens.search.milvus.lite.checksums import Checksums, DamagedRecordError
from twinlens.search.milvus.lite.folder import MANIFEST_VERSION, SCHEMA_VERSION
from twinlens.search.milvus.lite.integrity.damage import Damage, DamageKind

#: Names of files in a manifest.
DATA_NAME = re.compile(r"data/data_(\d+)_(\d+)\.parquet")
DELTA_NAME = re.compile(r"delta/delta_(\d+)_(\d+)\.parquet")
_METRICS = {"IP", "COSINE", "L2", "BM25"}
_INDEXES = {"FLAT", "BRUTE_FORCE", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8",
            "SPARSE_INVERTED_INDEX", "AUTOINDEX"}  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """A metadata file.

    Raises:
        OSError: it is missing, or cannot be read.
        ValueError: it is not a JSON object.
    """
    try:
        found = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def recorded_text(checksums: Checksums, path: Path) -> str:
    """The recorded copy of a metadata file; "" if there is none that can be read."""
    try:
        recorded = checksums.recorded(path)
    except DamagedRecordError:
        return ""
    return recorded.text if recorded else ""


def check_schema(path: Path, checksums: Checksums) -> Iterator[Damage]:
    """Find damage in a ``schema.json``."""
    yield from _check(
        "schema", path, checksums, check_schema_values, lambda recorded, now: recorded == now
    )


def check_aliases(
    path: Path, checksums: Checksums, collections: list[str], *, only: set[str] | None = None
) -> Iterator[Damage]:
    """Find damage in ``aliases.json``.

    Args:
        path: of the file.
        checksums: the records.
        collections: the names of all collections.
        only: report aliases that point nowhere only for these.
    """
    if not collections and not path.exists():
        return

    def check(aliases: Mapping[str, Any]) -> None:
        for alias, target in aliases.items():
            if target not in collections and (only is None or target in only):
                raise ValueError(f"{alias} points to {str(target)[:80]!r}, which does not exist")

    yield from _check("aliases", path, checksums, check, lambda recorded, now: recorded == now)


def check_manifest(path: Path, checksums: Checksums, columns: set[str]) -> Iterator[Damage]:
    """Find damage in a ``manifest.json``, but not in the files that it names.

    Args:
        path: of the file.
        checksums: the records; another program may have written a later version since.
        columns: of the collection.
    """

    def same(recorded: str, now: str) -> bool:
        before, after = json.loads(recorded), json.loads(now)
        if before["version"] == after["version"]:
            return bool(before == after)
        return bool(before["version"] < after["version"])

    yield from _check(
        "manifest", path, checksums, lambda raw: check_manifest_values(raw, columns), same
    )


def _check(
    kind: DamageKind,
    path: Path,
    checksums: Checksums,
    check: Callable[[dict[str, Any]], None],
    same: Callable[[str, str], bool],
) -> Iterator[Damage]:
    """Check a file by its values, and by the recorded copy."""
    try:
        raw = read_json(path)
        check(raw)
    except FileNotFoundError:
        yield Damage(kind, str(path), "is missing")
        return
    except OSError as error:
        yield Damage(kind, str(path), f"cannot be read: {error.strerror or error}")
        return
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield Damage(kind, str(path), f"is damaged: {str(error)[:200]}")
        return
    try:
        recorded = checksums.recorded(path)
    except DamagedRecordError as error:
        yield Damage("checksum", str(path), f"its record {error} is damaged")
        return
    if recorded is None:
        yield Damage("checksum", str(path), "no checksum is recorded yet", harmless=True)
        return
    try:
        alike = same(recorded.text, path.read_text("utf-8", "replace"))
    except (OSError, ValueError, KeyError, TypeError):
        alike = False
    if not alike:
        yield Damage(kind, str(path), "differs from its recorded copy")


def check_schema_values(raw: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` or another error if a schema is not valid."""
    if raw["schema_format_version"] != SCHEMA_VERSION:
        raise ValueError(f"its version {raw['schema_format_version']!r} is not known")
    if sum(bool(field["is_primary"]) for field in raw["fields"]) != 1:
        raise ValueError("it does not have one primary key")
    dims = [field["dim"] for field in raw["fields"] if field["name"] == "vector"]
    if len(dims) != 1 or int(dims[0]) < 1:
        raise ValueError("it has no vectors")


def check_manifest_values(raw: Mapping[str, Any], columns: set[str]) -> None:
    """Raise ``ValueError`` or another error if a manifest is not valid."""
    if raw["manifest_format_version"] != MANIFEST_VERSION:
        raise ValueError(f"its version {raw['manifest_format_version']!r} is not known")
    for name in ("version", "current_seq"):
        if not isinstance(raw[name], int) or raw[name] < 0:
            raise ValueError(f"{name} is not a number")
    if not isinstance(raw["active_wal_number"], int | None):
        raise ValueError("active_wal_number is not a number")
    for contents in raw["partitions"].values():
        for kind, pattern in (("data_files", DATA_NAME), ("delta_files", DELTA_NAME)):
            for name in contents[kind]:
                if not pattern.fullmatch(name):
                    raise ValueError(f"{name[:80]!r} is not the name of a file")
    for field, spec in raw["index_specs"].items():
        if field != spec["field_name"] or field not in columns:
            raise ValueError(f"it has an index of {field[:80]!r}, which is no column")
        if spec["index_type"] not in _INDEXES or spec["metric_type"] not in _METRICS:
            raise ValueError(f"the index of {field} is not one of Milvus Lite's")
    if columns and "vector" not in raw["index_specs"]:
        raise ValueError("the vectors have no index")

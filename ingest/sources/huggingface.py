"""Folders that Hugging Face ``datasets`` saved with ``save_to_disk``, read without that package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinlens.ingest.sources import arrowfiles
from twinlens.ingest.sources.jsonfiles import Row
from twinlens.search.errors import SourceError


def recognises(folder: Path) -> bool:
    """Whether the folder is a saved dataset, or a dictionary of them."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def splits(folder: Path) -> dict[str, list[Path]]:
    """The Arrow files of every split in their order; one that was saved alone is called "".

    Raises:
        SourceError: a file is missing, or is not what ``save_to_disk`` writes.
    """
    if not (folder / "dataset_dict.json").is_file():
        return {"": _files(folder)}
    names = _listed(folder / "dataset_dict.json", "splits")
    return {name: _files(folder / name) for name in names}


def rows(folder: Path) -> Iterator[Row]:
    """The rows of a dataset without pictures, split after split, numbered from 1.

    In a dictionary of several each row has its split's name in ``split``.
    """
    number = 0
    for split, files in splits(folder).items():
        for file in files:
            for _, row in arrowfiles.rows(file):
                number += 1
                yield number, {"split": split, **row} if split else row


def _files(folder: Path) -> list[Path]:
    named = _listed(folder / "state.json", "_data_files")
    files = [folder / name for name in named]
    for file in files:
        if not file.is_file():
            raise SourceError(f"{folder} is not complete: there is no {file.name}")
    return files


def _listed(path: Path, key: str) -> list[str]:
    """A list of plain names in a JSON file; one that leads out of the folder is refused."""
    try:
        listed: Any = json.loads(path.read_text("utf-8"))[key]
        names = [entry["filename"] if isinstance(entry, dict) else entry for entry in listed]
        if not all(isinstance(name, str) and name == Path(name).name for name in names):
            raise ValueError("its names are not plain")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{path} is not as Hugging Face datasets writes it: {error}") from error
    return names

"""A Milvus Lite database with everything in it, and seeded damage to its files."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.colours import ColourEncoder

import twinlens
from twinlens.ingest.upload import Upload
from twinlens.search.milvus import database
from twinlens.search.milvus.generations import KINDS
from twinlens.search.milvus.lite import snapshot

#: Columns that say when a file was written, which differ after it was read again.
_TIMES = ("mtime", "mtime_ns")


def make_photos(folder: Path, count: int) -> Path:
    """Pictures of different colours, each with a caption."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
        Image.new("RGB", (20 + number, 15), colour).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(f"picture {number}\n")
    return folder


def make_database(path: Path, photos: Path, patch: pytest.MonkeyPatch) -> None:
    """A database as a killed writer leaves it: data files, deletions, snapshots and a log."""
    patch.setattr(snapshot, "MIN_ROWS", 20)
    source = path.with_name("writing.db")
    with twinlens.open(source, model=ColourEncoder()) as index:
        index.ingest(photos)
        for name in sorted(photos.glob("*.txt"))[:5]:
            name.write_text(f"another caption of {name.stem}\n")
        (photos / "010.png").unlink()
        index.ingest(photos, prune=True)
    # Snapshots are made, and checksums recorded; now something that stays in the log.
    with twinlens.open(source, model=ColourEncoder()) as index:
        (photos / "extra").mkdir()
        extra = photos / "extra" / "a.png"
        Image.new("RGB", (9, 9), (250, 10, 10)).save(extra)
        at = extra.stat()
        index.intake().put([Upload(str(extra), str(photos), "extra/a.png", size=at.st_size,
                                   mtime_ns=at.st_mtime_ns, captions=("in the log",),
                                   data=extra.read_bytes())])  # fmt: skip
        index.delete(photos / "011.png")
        shutil.copytree(source, path)
    (photos / "011.png").unlink()
    shutil.rmtree(source)


def contents(path: Path, *, times: bool = True) -> dict[str, Any]:
    """All rows of all collections that can be seen, with their collection's properties."""
    found: dict[str, Any] = {}
    with database.Database(str(path), create=False) as opened:
        for name in opened.names():
            collection = opened.collection(name)
            found[name] = collection.generation
            for kind in KINDS:
                fields = ["*", *(["vector", "$meta"] if kind != "files" else [])]
                rows = [row for page in collection.scan(kind, fields) for row in page]
                found[f"{name} {kind}"] = [comparable(row, times=times) for row in rows]
                if kind != "files":
                    found[f"{name} {kind} fields"] = collection.fields(kind)
                    by_words = collection.search_words(kind, "picture caption", 100, fields=["id"])
                    found[f"{name} {kind} words"] = [row["id"] for row in by_words]
    return found


def comparable(row: dict[str, Any], *, times: bool) -> dict[str, Any]:
    plain = {
        key: value.tobytes() if isinstance(value, np.ndarray) else value
        for key, value in row.items()
        if times or key not in _TIMES
    }
    return {key: plain[key] for key in sorted(plain)}


def files_of(path: Path) -> list[Path]:
    """All files of a database, sorted."""
    return sorted(one for one in path.rglob("*") if one.is_file())


def damages(path: Path, count: int, seed: int = 0) -> Iterator[tuple[str, Path, int]]:
    """What to do to which file: flip a bit, cut it, or remove it; and a random number."""
    made = random.Random(seed)
    files = [one.relative_to(path) for one in files_of(path)]
    order: Sequence[Path] = [*files, *made.choices(files, k=max(0, count - len(files)))]
    for number, one in enumerate(made.sample(order, count)):
        yield ("flip", "cut", "remove")[number % 3], one, made.getrandbits(32)


def copy_with(path: Path, target: Path, what: str, place: Path, number: int) -> Path:
    """A copy of a database with one damaged file; the others are hard links."""
    shutil.copytree(path, target, copy_function=os.link)
    file = target / place
    data = bytearray(file.read_bytes())
    file.unlink()
    if what == "flip" and data:
        data[number % len(data)] ^= 1 << (number % 8)
    if what != "remove":
        file.write_bytes(data[: number % len(data)] if what == "cut" and data else data)
    return target

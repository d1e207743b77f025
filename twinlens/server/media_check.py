"""Check a server's media: thumbnails, which are a cache, and uploaded pictures, which are not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from twinlens.search.milvus.lite.integrity.damage import Damage
from twinlens.search.records import image_id, is_id


def check_media(
    folder: Path, *, repair: bool = False, progress: Callable[[int], object] = lambda count: None
) -> Iterator[Damage]:
    """Find thumbnails that cannot be decoded, and uploaded pictures that have changed.

    Args:
        folder: as ``twinlens serve --media`` takes it.
        repair: delete damaged thumbnails, which are made again when they are asked for.
        progress: called with the number of files that were checked.
    """
    for path in media_files(folder / "thumbnails"):
        reason = _undecodable(path)
        if reason:
            damage = Damage("thumbnail", str(path), f"cannot be decoded: {reason}")
            if repair:
                with suppress(OSError):
                    path.unlink()
                    damage = replace(damage, repaired="deleted: it is made again when it is shown")
            yield damage
        progress(1)
    for path in media_files(folder / "originals"):
        try:
            changed = is_id(path.name) and image_id(path.read_bytes()) != path.name
        except OSError:
            changed = path.exists()  # else it was deleted meanwhile
        if changed:
            yield Damage("upload", str(path), "is damaged: upload the picture again")
        progress(1)


def media_files(folder: Path) -> Iterator[Path]:
    """The whole files below a folder; those that are being written begin with a dot."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def _undecodable(path: Path) -> str:
    """Why a small picture cannot be decoded; "" if it can, or is gone."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
    except FileNotFoundError:
        return ""
    except Exception as error:  # noqa: BLE001 - Pillow raises anything for damaged files
        return str(error)[:200].split("\n")[0].split(" '")[0] or type(error).__name__
    return ""

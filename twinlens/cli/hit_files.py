"""Pass hits on to other programs: print their paths, copy or link their files."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from twinlens.cli.printing import say
from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import twinlens
    from twinlens.search.query.hits import Hit

#: What no file name can have on some system.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


def print_paths(hits: Iterable[Hit], *, end: str = "\n") -> None:
    """Print the path of each picture once, as its bytes are on disk, so that pipes can use them."""
    if sys.stdout.isatty():
        for hit in _pictures(hits):
            print(printable(hit.path))
        return
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    for hit in _pictures(hits):
        if binary is None:
            print(hit.path, end=end)
        else:
            binary.write(os.fsencode(hit.path) + end.encode())
    sys.stdout.flush()


def copy_files(
    index: twinlens.Index | twinlens.RemoteIndex,
    hits: Iterable[Hit],
    folder: Path,
    *,
    link: bool = False,
) -> int:
    """Copy the files of hits into a folder, or link to them; return how many could not be.

    Names stay; one that is taken by another file gets a number. Nothing is overwritten.

    Args:
        index: reads pictures that are not files: members of archives, or those of a server.
        hits: what to copy.
        folder: made if it does not exist.
        link: make symbolic links.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from error
    done = failed = 0
    for hit in _pictures(hits):
        try:
            _copy(index, hit, folder, link)
            done += 1
        except (OSError, TwinlensError) as error:
            failed += 1
            reason = getattr(error, "strerror", None) or error
            say(f"failed: {hit.path}: {reason}", file=sys.stderr)
    counted = f"{done:,} {'link' if link else 'file'}{'s' * (done != 1)}"
    say(
        f"{'made' if link else 'copied'} {counted} {'in' if link else 'to'} {folder}",
        file=sys.stderr,
    )
    return failed


def _pictures(hits: Iterable[Hit]) -> Iterator[Hit]:
    """The hits with a picture, each picture once."""
    seen: set[str] = set()
    for hit in hits:
        if hit.path and hit.path not in seen:
            seen.add(hit.path)
            yield hit


def _copy(index: twinlens.Index | twinlens.RemoteIndex, hit: Hit, folder: Path, link: bool) -> None:
    source = next((Path(path) for path in (hit.path, *hit.paths) if os.path.isfile(path)), None)
    name = PurePath(re.split(r"[/\\!]", hit.path)[-1]).name or hit.image_id
    target = _free(folder, _FORBIDDEN.sub("_", name))
    if source is not None and link:
        target.symlink_to(source.absolute())
    elif source is not None:
        shutil.copy2(source, target)
    elif link:
        raise TwinlensError("it is not a file here, so it cannot be linked to: leave out --link")
    else:
        target.write_bytes(index.image(hit.image_id))


def _free(folder: Path, name: str) -> Path:
    """A path in a folder that does not exist."""
    stem, suffix = os.path.splitext(name)
    target, number = folder / name, 2
    while os.path.lexists(target):
        target = folder / f"{stem}-{number}{suffix}"
        number += 1
    return target

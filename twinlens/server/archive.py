"""Write the originals of stored pictures to a zip, with one picture in memory at a time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator

from twinlens.search.errors import ImageError
from twinlens.search.images.originals import GoneError
from twinlens.search.printable import printable
from twinlens.search.records import Row

#: The most pictures of one archive.
MAX_PICTURES = 500
#: Bytes of the longest name of a file in an archive: file systems allow 255.
_MAX_NAME = 200
#: The file that lists what could not be read.
NOT_INCLUDED = "not-included.txt"
#: Characters that some file systems refuse, or that lead elsewhere.
_FORBIDDEN = str.maketrans(dict.fromkeys('<>:"/\\|?*', "_"))


class _Pieces(io.RawIOBase):
    """Collects what is written, until it is taken; a zip is written to it without seeking."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def zipped(rows: Iterable[Row], read: Callable[[Row], bytes]) -> Iterator[bytes]:
    """Yield the pieces of a zip of pictures, which are not compressed again.

    Args:
        rows: the pictures' ``id``, ``path`` and ``paths``.
        read: reads the original of a picture.
    """
    pieces = _Pieces()
    used: set[str] = {NOT_INCLUDED}
    failed: list[str] = []
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as archive:
        for row in rows:
            name = unique_name(str(row["path"]), used)
            try:
                data = read(row)
            except (GoneError, ImageError, OSError) as error:
                failed.append(f"{printable(str(row['path']))}: {printable(str(error))}\n")
                continue
            archive.writestr(zipfile.ZipInfo(name), data)
            del data
            yield pieces.take()
        if failed:
            archive.writestr(NOT_INCLUDED, "".join(failed))
    yield pieces.take()


def unique_name(path: str, used: set[str]) -> str:
    """A name for a picture's file that is not used yet; it is added to the used ones.

    Args:
        path: the picture's path or address.
        used: the names so far, in lower case, since some file systems do not tell case apart.
    """
    last = path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = printable(last).translate(_FORBIDDEN).strip(". ") or "picture"
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > 8:
        stem, dot, ending = name, "", ""
    stem = stem.encode()[:_MAX_NAME].decode(errors="ignore")
    number, found = 1, f"{stem}{dot}{ending}"
    while found.lower() in used:
        number += 1
        found = f"{stem} ({number}){dot}{ending}"
    used.add(found.lower())
    return found

"""Make items of files that a form sends without saying anything about them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from twinlens.ingest.upload import Upload
from twinlens.search.records import image_id

#: The folder that the paths of such pictures begin with.
ROOT = "uploads"
#: Bytes of a file's name.
MAX_NAME = 200


def uploads_of(files: Sequence[bytes], names: Sequence[str]) -> list[Upload]:
    """One item for each file, at ``uploads/HASH/NAME``.

    The hash of the contents is in the path because cameras give the same names again: another
    picture of that name must not take the place of this one.

    Args:
        files: the encoded pictures.
        names: what their senders call them; untrusted.
    """
    uploads = {}
    for data, name in zip(files, names, strict=True):
        path = f"{image_id(data)[:16]}/{_safe(name)}"
        uploads[path] = Upload(
            f"{ROOT}/{path}", ROOT, relative=path, size=len(data), data=data, fixed=True
        )
    return list(uploads.values())


def _safe(name: str) -> str:
    """The last step of a name, without control characters; ``picture`` if nothing is left."""
    last = re.split(r"[/\\]", name)[-1]
    last = "".join(one for one in last if one.isprintable()).strip(" .")
    return last.encode("utf-8", "ignore")[-MAX_NAME:].decode("utf-8", "ignore") or "picture"

"""``twinlens show`` and ``twinlens open``: look at one stored picture or text."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.last_hits import LastHit, last_hit
from twinlens.cli.options import AsJson, CollectionOptions
from twinlens.cli.preview import Preview, print_previews, refuse_preview
from twinlens.cli.printing import say, say_json
from twinlens.cli.viewer import open_file
from twinlens.search.errors import TwinlensError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import twinlens
    from twinlens.search.milvus.collection import CollectionInfo
    from twinlens.search.query.stored import StoredItem

#: Pixels of the longer side of a picture that is written for the viewer.
_VIEWED_SIDE = 4096

Name = Annotated[
    str,
    typer.Argument(
        metavar="PATH|ID|N",
        help="The path or id of a stored picture, the id of a text, or the number of a hit of your "
        "last search, in whichever collection that was. Write a file called 3 as ./3.",
        show_default=False,
    ),
]


def show(
    place: CollectionOptions,
    name: Name,
    as_json: AsJson = False,
    preview: Preview = False,
) -> None:
    """Print all that is stored of a picture or text."""
    if preview:
        refuse_preview({"--json": as_json})
    place, hit = last_hit(name, place)
    with place.reach() as index:
        item = index.item(hit.id if hit else name)
        info = index.info()
        thumbnail = _thumbnail(index, item)
        if as_json:
            say_json(_plain(item, info) | thumbnail)
            return
        lines = [*_lines(item, info), *_thumbnail_lines(thumbnail)]
        width = max(len(label) for label, _ in lines)
        for label, value in lines:
            say(f"{label:<{width}}  {value}".rstrip())
        if preview:
            print_previews(index, [(item.image_id, item.path)] if item.image_id else [])


def open_(place: CollectionOptions, name: Name) -> None:
    """Open a stored picture in your system's viewer."""
    place, hit = last_hit(name, place)
    file = _file_of(hit) if hit else None
    if file is None:
        with place.reach() as index:
            if hit is None:
                item = index.item(name)
                paths = tuple(dict.fromkeys((item.path, *item.paths)))
                hit = LastHit(item.id, item.image_id, paths)
            if not hit.image_id:
                raise UsageError("this text describes no stored picture: there is nothing to open")
            file = _file_of(hit) or _extracted(index, hit.image_id)
    open_file(file)
    say(f"opened {file}")


def _file_of(hit: LastHit) -> Path | None:
    """The file of a hit, if it is one here, and has the name of a picture."""
    from twinlens.search.images.formats import is_image_name

    for path in hit.paths:
        # A viewer goes by the name: a file of another name might be run as a program.
        if os.path.isabs(path) and is_image_name(path) and os.path.isfile(path):
            return Path(path)
    return None


def _extracted(index: twinlens.Index | twinlens.RemoteIndex, picture: str) -> Path:
    """A picture of an archive or of a server, as a temporary file that the user alone can read."""
    from twinlens.search.images.originals import thumbnail

    # Encoded anew: a viewer must not get whatever an archive or a server sends.
    data = thumbnail(index.image(picture), side=_VIEWED_SIDE)
    handle, name = tempfile.mkstemp(prefix="twinlens-", suffix=".jpg")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    return Path(name)


def _thumbnail(
    index: twinlens.Index | twinlens.RemoteIndex, item: StoredItem
) -> dict[str, dict[str, int] | str]:
    """The size of a picture's thumbnail, or why there is none. It is made of the file."""
    from PIL import Image

    if item.target != "images":
        return {}
    try:
        data = index.thumbnail(item.id)
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            size = {"width": image.width, "height": image.height, "bytes": len(data)}
    except (TwinlensError, OSError) as error:
        return {"thumbnail_error": str(error)}
    return {"thumbnail": size}


def _thumbnail_lines(thumbnail: dict[str, dict[str, int] | str]) -> Iterator[tuple[str, str]]:
    match thumbnail:
        case {"thumbnail": {"width": width, "height": height, "bytes": size}}:
            yield "thumbnail", f"{width}×{height}, {size:,} bytes"
        case {"thumbnail_error": reason}:
            yield "thumbnail", f"none: {reason}"


def _lines(item: StoredItem, info: CollectionInfo) -> Iterator[tuple[str, str]]:
    yield ("picture" if item.target == "images" else "text"), item.text or item.path
    yield "id", item.id
    if item.target == "texts":
        yield "of picture", item.path or "none"
        if item.image_id:
            yield "picture's id", item.image_id
    for path in item.paths:
        if path != item.path:
            yield "also at", path
    for text_id, text in item.texts:
        yield "caption", f"{text}  ({text_id})"
    if not item.texts:
        for caption in item.captions:
            yield "caption", caption
    for name, value in item.metadata.items():
        yield name, str(value)
    yield "collection", info.name
    yield "model", f"{info.fingerprint.label} ({info.fingerprint.digest})"
    yield "vector", f"{info.fingerprint.dim:,} dimensions"


def _plain(item: StoredItem, info: CollectionInfo) -> dict[str, Any]:
    plain = {field.name: getattr(item, field.name) for field in fields(item)}
    return plain | {
        "metadata": dict(item.metadata),
        "texts": [{"id": text_id, "text": text} for text_id, text in item.texts],
        "collection": info.name,
        "model": info.fingerprint.label,
        "fingerprint": info.fingerprint.digest,
        "dim": info.fingerprint.dim,
    }

"""Show hits as a grid of small pictures in a notebook: HTML with a bounded number of bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from twinlens.search.errors import TwinlensError
from twinlens.search.printable import printable

#: Hits with a picture; a notebook keeps them in its file.
MAX_SHOWN = 24
#: Bytes of one picture, and of all of them.
MAX_PICTURE, MAX_PICTURES = 100_000, 1_500_000
#: Characters of a caption or a path.
MAX_WORDS = 140


@dataclass(frozen=True, slots=True)
class HitCard:
    """What the grid shows of a hit.

    Attributes:
        image_id: the id of its picture; "" for none.
        path: of its picture.
        says: its text or caption.
        relevance, score: as text.
    """

    image_id: str
    path: str
    says: str
    relevance: str
    score: str


def hits_html(
    cards: Sequence[HitCard], count: int, thumbnail: Callable[[str], bytes] | None
) -> str:
    """Render cards; all their text is escaped.

    Args:
        cards: of the first hits, ``MAX_SHOWN`` of them are shown.
        count: how many hits there are.
        thumbnail: gives the JPEG of a stored picture, by its id; ``None`` for no pictures.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("twinlens.search.query"), autoescape=True, trim_blocks=True
    )
    shown = []
    left = MAX_PICTURES
    for card in cards[:MAX_SHOWN]:
        data = _picture(card.image_id, thumbnail)
        if len(data) > min(left, MAX_PICTURE):
            data = b""
        left -= len(data)
        shown.append(_fields(card, data))
    return environment.get_template("hits.html").render(
        cards=shown, count=count, more=count - len(shown)
    )


def _picture(key: str, thumbnail: Callable[[str], bytes] | None) -> bytes:
    """The JPEG of a picture; empty if it is gone, or its collection is closed."""
    if thumbnail is None or not key:
        return b""
    try:
        return thumbnail(key)
    except (TwinlensError, OSError, ValueError):
        return b""


def _fields(card: HitCard, data: bytes) -> dict[str, str]:
    says, name = printable(card.says), printable(PurePath(card.path).name)
    return {
        "picture": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" if data else "",
        "alt": (says or name)[:MAX_WORDS],
        "relevance": card.relevance,
        "score": card.score,
        "says": says if len(says) <= MAX_WORDS else f"{says[:MAX_WORDS]}…",
        "name": name[:MAX_WORDS],
        "path": printable(card.path)[:1_000],
    }

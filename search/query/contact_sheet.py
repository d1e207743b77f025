"""Write search results as a contact sheet: one HTML page with embedded thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinlens.search.errors import ImageError, TwinlensError
from twinlens.search.images.originals import thumbnail
from twinlens.search.paths import expand_home
from twinlens.search.printable import printable
from twinlens.search.query.hits import Hit, marked
from twinlens.search.query.parts import read_image
from twinlens.search.records import Target


@dataclass(frozen=True, slots=True)
class Section:
    """One query with its hits.

    Attributes:
        query: its words.
        target: what was searched; "" to show none.
        hits: the results.
        picture: the path of the query's image, if it has one.
        notes: a line to show with each hit, or none.
    """

    query: str
    target: Target | str
    hits: Sequence[Hit]
    picture: Path | None = None
    notes: Sequence[str] = ()


def contact_sheet(sections: Sequence[Section], title: str, subtitle: str = "") -> str:
    """Render the page; all text from the collection is escaped and keeps to its own direction."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("twinlens.search.query"), autoescape=True, trim_blocks=True
    )
    return environment.get_template("sheet.html").render(
        title=printable(title),
        subtitle=printable(subtitle),
        sections=[
            {
                "query": printable(section.query),
                "target": section.target,
                "picture": _data_uri(str(section.picture)) if section.picture else "",
                # The title has said the only query already.
                "headed": len(sections) > 1 or section.query != title or section.picture,
                "cards": [
                    _card(hit, section.notes[at] if section.notes else "")
                    for at, hit in enumerate(section.hits)
                ],
            }
            for section in sections
        ],
    )


def write_sheet(path: Path, sections: Sequence[Section], title: str, subtitle: str = "") -> None:
    """Render the page and write it to a file.

    Raises:
        TwinlensError: the file cannot be written.
    """
    try:
        path = expand_home(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        page = contact_sheet(sections, title, subtitle)
        path.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise TwinlensError(f"{path} cannot be written: {error.strerror}") from error


def _card(hit: Hit, note: str) -> dict[str, str]:
    says = marked(hit, hit.text or next(iter(hit.captions), ""))
    return {
        "picture": _data_uri(hit.path) if hit.path else "",
        "link": _link(hit.path),
        "alt": printable(says or Path(hit.path).name),
        "relevance": "words" if hit.by_words else f"{hit.relevance:.0%}",
        "score": f"{hit.score:.3f}",
        "says": printable(says),
        "path": printable(str(hit.metadata.get("relative_path", hit.path))),
        "note": printable(note),
    }


def _link(path: str) -> str:
    """The address of a picture that a browser can open: a file of this machine, or on the web."""
    if path.startswith(("https://", "http://")):
        return path
    return Path(path).as_uri() if Path(path).is_absolute() else ""


def _data_uri(path: str) -> str:
    try:
        small = thumbnail(read_image(path))
    except (ImageError, TwinlensError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(small).decode()

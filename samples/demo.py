"""Run the demo's searches, text → image and image → text, as tables and as one contact sheet.

Usage: python samples/demo.py DB SHEET.html
"""

from __future__ import annotations

import sys
from pathlib import Path

import twinlens
from twinlens.cli.output import print_hits
from twinlens.search.query.contact_sheet import Section, write_sheet

HERE = Path(__file__).parent
WORDS = (
    "a horse",
    "a castle on a hill",
    "musicians on a stage",
    "a cup of coffee",
)
PICTURES = ("animals/cat-01.jpg", "places/bridge-01.jpg")


def main(db: str, sheet: str) -> None:
    """Ask, print, and write the page."""
    sections = []
    with twinlens.open(db) as index:
        for words in WORDS:
            hits = index.search(words, limit=5)
            print_hits(f"{words} → images", hits[:3])
            sections.append(Section(words, "images", hits))
        for name in PICTURES:
            picture = HERE / "photos" / name
            hits = index.search(image=picture, target="texts", limit=5)
            print_hits(f"{name} → texts", hits[:3])
            sections.append(Section(name, "texts", hits, picture=picture))
        held = index.info()
    subtitle = f"{held.images} pictures, {held.texts} captions, {held.fingerprint.label}"
    write_sheet(Path(sheet), sections, "twinlens demo", subtitle)
    print(f"contact sheet: {sheet}")


if __name__ == "__main__":
    main(*sys.argv[1:])

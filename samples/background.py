"""Make the pictures of twinlens' own background: small copies of the free sample photographs.

Usage: python samples/background.py

Takes the photographs that SOURCES.md lists as public domain or CC0, at most 224 pixels a side, with
their captions, and writes them to search/analysis/data/background.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
TARGET = HERE.parent / "search" / "analysis" / "data" / "background"
FREE = {"Public domain", "CC0-1.0"}
SIDE, QUALITY = 224, 75


def free_photos() -> set[str]:
    """The names of the photographs without conditions, such as ``animals/bear-01.jpg``."""
    rows = re.findall(
        r"^\| `(\w+/[\w-]+\.jpg)` .*\| ([^|]+?) \|$", (HERE / "SOURCES.md").read_text("utf-8"), re.M
    )
    return {name for name, licence in rows if licence in FREE}


def main() -> None:
    """Write the pictures and captions.jsonl."""
    # It takes no options, but --help must not write anything.
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    free = free_photos()
    pictures = TARGET / "pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    lines = []
    for line in (HERE / "captions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        name = row["image"].removeprefix("photos/")
        if name in free:
            file = pictures / Path(name).name
            with Image.open(HERE / row["image"]) as image:
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                image.save(file, "JPEG", quality=QUALITY, optimize=True)
            lines.append(json.dumps({"image": file.name, "captions": row["captions"]}))
    (TARGET / "captions.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    print(len(lines), "pictures in", TARGET)


if __name__ == "__main__":
    main()

"""Numbers of things as people read them."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """A number of things: ``what`` is one of them, which takes an s where there are several."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def held(images: int, texts: int, files: int | None = None) -> str:
    """What a collection holds."""
    counts = [counted(images, "image"), counted(texts, "text")]
    return ", ".join(counts if files is None else [*counts, counted(files, "file")])

"""A picture on its way, and the rows that are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinlens.ingest.ledger import Known
from twinlens.ingest.reconcile import shown_captions
from twinlens.ingest.sample import Sample
from twinlens.ingest.stages import View
from twinlens.search.models.encoder import Pixels, Rows
from twinlens.search.records import IMAGE_FIELDS, Row, clean_metadata, text_id


@dataclass(slots=True)
class Picture:
    """A picture read and decoded or encoded; neither when it is stored already.

    Attributes:
        vector: its embedding, where it was not made here.
        spoken: likewise those of its captions.
    """

    sample: Sample
    known: Known | None
    id: str = ""
    pixels: Pixels | None = None
    vector: Rows | None = None
    spoken: dict[str, Rows] = field(default_factory=dict)
    ms: float = 0.0
    columns: Row = field(default_factory=dict)

    @property
    def is_at_hand(self) -> bool:
        """Whether it can be stored."""
        return self.pixels is not None or self.vector is not None


def seen_columns(sample: Sample, view: View) -> Row:
    """The columns of a picture that was decoded."""
    return {
        **view.exif,
        **columns_of(sample, view.width, view.height, view.bytes, view.format),
    }


def columns_of(
    sample: Sample, width: int = 0, height: int = 0, size: int = 0, kind: str = ""
) -> Row:
    """The columns of a picture beside what says where it is; 0 and "" where nobody knows."""
    return {
        **clean_metadata(sample.metadata),
        "width": width,
        "height": height,
        "bytes": size,
        "mtime": max(sample.mtime_ns, 0) / 1e9,
        "format": kind[:16],
    }


def image_row(picture: Picture, vector: Rows) -> Row:
    """The row of a picture."""
    sample = picture.sample
    return {
        **picture.columns,
        "id": picture.id,
        "vector": vector,
        "path": sample.uri,
        "relative_path": sample.relative,
        "paths": [sample.uri],
        "captions": shown_captions(sample.captions),
    }


def text_row(key: str, text: str, picture: Picture, vector: Rows) -> Row:
    """The row of what is said of a picture, or of a text alone."""
    own = {name: value for name, value in picture.columns.items() if name not in IMAGE_FIELDS}
    return {
        **clean_metadata(picture.sample.metadata),
        **own,
        "id": key,
        "vector": vector,
        "text": text,
        "image_id": picture.id,
        "path": picture.sample.uri if picture.id else "",
        "relative_path": picture.sample.relative,
    }


def text_key(picture: Picture, text: str) -> str:
    """A text alone belongs to the line it came from, as others belong to their picture."""
    return text_id(picture.id or picture.sample.uri, text)

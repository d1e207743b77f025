"""``PendingItem``: an item on its way through the pipeline, and the Milvus rows built from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinlens.ingest.ledger import LedgerEntry
from twinlens.ingest.reconcile import shown_captions
from twinlens.ingest.report import Moderation
from twinlens.ingest.sample import Sample
from twinlens.ingest.tasks import DecodedImage
from twinlens.search.models.base import Pixels, Rows
from twinlens.search.records import (
    FLAGGED,
    HELD,
    IMAGE_FIELDS,
    Row,
    clean_metadata,
    is_moderation,
    text_id,
    text_moderation,
)


@dataclass(slots=True)
class PendingItem:
    """A sample with its image and embeddings, as far as they are read and encoded.

    Attributes:
        sample: what to store.
        entry: the ledger's entry of its path, if any.
        id: of its image; "" for a text without an image.
        pixels: uint8 ``[side, side, 3]``, decoded but not encoded yet.
        vector: the image's embedding, float32 ``[dim]``. Neither pixels nor vector are set for an
            image that is stored already.
        text_vectors: embeddings of its captions that are encoded already.
        ms: time to read and decode it.
        columns: of the image's row.
    """

    sample: Sample
    entry: LedgerEntry | None
    id: str = ""
    pixels: Pixels | None = None
    vector: Rows | None = None
    text_vectors: dict[str, Rows] = field(default_factory=dict)
    ms: float = 0.0
    columns: Row = field(default_factory=dict)

    @property
    def moderation(self) -> Moderation:
        """What a policy found in the image."""
        if self.columns.get(HELD):
            return "held"
        return "flagged" if self.columns.get(FLAGGED) else ""


def decoded_columns(sample: Sample, image: DecodedImage) -> Row:
    """The metadata columns of a decoded image, EXIF included."""
    columns = sample_columns(sample, image.width, image.height, image.bytes, image.format)
    return {**image.exif, **columns}


def sample_columns(
    sample: Sample, width: int = 0, height: int = 0, size: int = 0, kind: str = ""
) -> Row:
    """The metadata columns of an image; 0 and "" mean unknown."""
    return {
        **clean_metadata(sample.metadata),
        "width": width,
        "height": height,
        "bytes": size,
        "mtime": max(sample.mtime_ns, 0) / 1e9,
        "format": kind[:16],
    }


def image_row(item: PendingItem, vector: Rows) -> Row:
    """The row of an image."""
    sample = item.sample
    return {
        **item.columns,
        "id": item.id,
        "vector": vector,
        "path": sample.uri,
        "relative_path": sample.relative,
        "paths": [sample.uri],
        "captions": shown_captions(sample.captions),
    }


def text_row(key: str, text: str, item: PendingItem, vector: Rows) -> Row:
    """The row of a caption, or of a text without an image."""
    own = {
        name: value
        for name, value in item.columns.items()
        if name not in IMAGE_FIELDS and not is_moderation(name)
    }
    return {
        **clean_metadata(item.sample.metadata),
        **own,
        **text_moderation(item.columns),
        "id": key,
        "vector": vector,
        "text": text,
        "image_id": item.id,
        "path": item.sample.uri if item.id else "",
        "relative_path": item.sample.relative,
    }


def text_key(item: PendingItem, text: str) -> str:
    """The id of a caption: a hash of its image, or without one of the line it is from."""
    return text_id(item.id or item.sample.uri, text)


def text_keys(item: PendingItem) -> list[str]:
    """The ids of all captions of an item."""
    return [text_key(item, text) for text in item.sample.captions]

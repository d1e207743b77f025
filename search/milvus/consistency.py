"""Compare the ledger of a collection with its pictures, without reading them: by counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from twinlens.search.milvus.lite.arrays import int64_array, numpy_of, string_array
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.milvus.lite.rows import View
from twinlens.search.milvus.reader import CollectionReader
from twinlens.search.records import TENANT

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of the ledger that name a picture.
_WITH_IMAGE = 'status == "ok" and image_id != ""'


def count_lost(collection: CollectionReader) -> int:
    """At least how many pictures the ledger names that are not stored; all tenants together.

    On Milvus Lite it compares the numbers of different pictures. A server cannot count those, so it
    is asked only whether no picture is stored at all. ``twinlens.ingest.integrity`` compares row by
    row.
    """
    client = collection.client
    name, ledger = collection.physical("images"), collection.physical("files")
    if isinstance(client, LiteClient) and client.understands(name) and client.understands(ledger):
        # The ledger first: every picture that it names is stored by then.
        entries = client.view(ledger)
        stored = _live(client.view(name))
        if _live(entries) <= stored:
            return 0
        return max(0, _named_images(entries, divided=collection.scope.divided) - stored)
    if collection.count("images", all_tenants=True):
        return 0
    return collection.count("files", _WITH_IMAGE, all_tenants=True)


def lost_message(name: str, lost: int) -> str:
    """What to say of a collection that lacks pictures which its ledger names."""
    are = "picture is" if lost == 1 else "pictures are"
    return (
        f"{name}: {lost:,} {are} in the ledger but not stored: ingest the same folders once more "
        "to read them again, or restore a backup; `twinlens check` says more"
    )


def _live(view: View) -> int:
    return sum(int(mask.sum()) for _, mask in view)


def _named_images(entries: View, *, divided: bool) -> int:
    """How many different pictures the rows of the ledger name.

    Written with Arrow: Milvus Lite's filters take longer to import than a search, and so does
    pandas, which Arrow imports for Python values.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    ok, none = string_array(["ok"]), string_array([""])
    parts: list[pa.Array] = []
    for block, live in entries:
        status, image = block.table.column("status"), block.table.column("image_id")
        named = numpy_of(pc.is_in(status, value_set=ok)) & ~numpy_of(
            pc.is_in(image, value_set=none)
        )
        if divided:
            # The last one stands between the others.
            image = pc.binary_join_element_wise(block.table.column(TENANT), image, status)
        parts += image.take(int64_array(np.flatnonzero(named & live))).chunks
    return int(pc.count_distinct(pa.chunked_array(parts)).as_py()) if parts else 0

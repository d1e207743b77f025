"""What a search costs the server, for queues that are shared fairly."""

from __future__ import annotations

from twinlens.search.query.parts import Image, Not
from twinlens.search.query.request import SearchRequest

#: Rows that cost as much to read, and to write as JSON, as an ordinary search.
ROWS = 250
#: Numbers of vectors that cost as much to read as one row.
NUMBERS = 256


def cost_of(request: SearchRequest, dim: int) -> int:
    """How many ordinary searches a search counts as.

    One, one more for each picture of the query, which must be decoded and encoded, and one more for
    each 250 rows that are read. A row counts more if its vector is read, too.

    Args:
        request: the search.
        dim: numbers of a vector of the collection.
    """
    options = request.options
    rows = options["limit"] + options["offset"]
    if options["collapse"] is not None or options["mode"] != "dense":
        rows += rows * dim // NUMBERS
    pictures = sum(
        isinstance(part.part if isinstance(part, Not) else part, Image) for part in request.parts
    )
    return 1 + pictures + rows // ROWS

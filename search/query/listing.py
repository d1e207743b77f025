"""What is stored, in order and page by page: the pictures of a filter, the paths below a root."""

from __future__ import annotations

from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.expressions import begins, quote
from twinlens.search.records import Kind, Row

#: Rows of a page.
PAGE = 1_000


def list_pictures(collection: Collection, expression: str = "", after: str = "") -> list[Row]:
    """The next ``PAGE`` pictures after an id for which a Milvus expression holds: id and path."""
    return _page(collection, "images", ["id", "path"], expression, f"id > {quote(after)}")


def list_paths(collection: Collection, root: str, after: str = "") -> list[str]:
    """The next ``PAGE`` paths after a path that the ledger has below a root."""
    below = f"root == {quote(root)} or ({begins('path', root + '/')})"
    expression = f'({below}) and status != "gone"'
    rows = _page(collection, "files", ["path"], expression, f"path > {quote(after)}")
    return [row["path"] for row in rows]


def _page(
    collection: Collection, kind: Kind, fields: list[str], expression: str, after: str
) -> list[Row]:
    wanted = f"({expression}) and {after}" if expression else after
    # A plain query with a limit gives any rows that match, an iterator the first by their keys.
    for rows in collection.scan(kind, fields, wanted, batch=PAGE):
        return rows
    return []

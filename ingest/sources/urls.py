"""Read URL lists: one image URL on each line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twinlens.ingest.sample import Failure, Item, Sample, failure_of
from twinlens.ingest.sources.encodings import encoding_of
from twinlens.ingest.sources.text_lines import open_text
from twinlens.search.records import MAX_PATH_BYTES, cut_bytes

#: Downloads a URL: ``twinlens.search.images.fetch.Fetcher(...).fetch``.
Fetch = Callable[[str], bytes]

_URL = re.compile(r"https?://[^\s/?#][^\s]*", re.IGNORECASE)
_HEAD = 1 << 16


def no_fetch(url: str) -> bytes:
    """Refuse every download."""
    raise ConnectionError("it is on the web, and this run downloads nothing")


def is_url(text: str) -> bool:
    """Whether a text is an ``http`` or ``https`` URL."""
    return _URL.fullmatch(text) is not None


def plain_url(text: str) -> str:
    """A URL as a browser takes it: without blanks around it, and ``%20`` for those within.

    Any other text is returned unchanged, as is one with a tab: there, two columns were meant.
    """
    url = "".join(text.strip().splitlines())
    if "\t" in url or not url.lower().startswith(("http://", "https://")):
        return text
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if any(ch.isspace() for ch in host):
        return text
    path = re.sub(r"\s", lambda found: quote(found[0]), path)
    return f"{scheme}://{host}{slash}{path}"


def is_url_list(path: Path) -> bool:
    """Whether a file ends in ``.urls``, or is a ``.txt`` whose first entry is a URL.

    Raises:
        OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix != ".txt":
        return suffix == ".urls"
    with path.open("rb") as file:
        head = file.read(_HEAD)
    text = head.decode(encoding_of(head), "replace")
    return is_url(next(filter(None, map(_entry, text.splitlines())), ""))


def read_urls(path: Path, fetch: Fetch, *, refresh: bool = False, uri: str = "") -> Iterator[Item]:
    """Yield the images of a list; skip empty lines and comments, which start with ``#``.

    Args:
        path: the list.
        fetch: downloads a URL.
        refresh: download images again that are stored already.
        uri: the list's permanent name, if ``path`` is a temporary copy.
    """
    uri = uri or str(path.absolute())
    try:
        with open_text(path, errors="replace") as file:
            number = 0
            while line := file.readline(MAX_PATH_BYTES + 2):
                number += 1
                if not line.endswith("\n") and len(line) > MAX_PATH_BYTES:
                    while line and not line.endswith("\n"):
                        line = file.readline(_HEAD)
                    yield _no_address(uri, number, "the line is too long")
                elif entry := _entry(line):
                    if is_url(entry):
                        yield url_item(entry, uri, fetch, refresh=refresh)
                    else:
                        yield _no_address(uri, number, f"{entry[:100]!r} is not a URL")
    except OSError as error:
        yield failure_of(error, uri, uri)


def url_item(
    url: str,
    root: str,
    fetch: Fetch,
    *,
    captions: tuple[str, ...] = (),
    metadata: Mapping[str, Any] | None = None,
    refresh: bool = False,
) -> Item:
    """Return the image at a URL as a sample; it is downloaded when its bytes are needed.

    Args:
        url: of the image.
        root: the source that lists it.
        fetch: downloads a URL.
        captions, metadata: from that source.
        refresh: download it again if it is stored already.
    """
    url = url.partition("#")[0]
    if len(url.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        reason = f"its address is longer than {MAX_PATH_BYTES} bytes"
        return Failure(cut_bytes(url, MAX_PATH_BYTES), reason, root)
    return Sample(
        uri=url,
        root=root,
        relative=url,
        load=partial(fetch, url),
        fixed=not refresh,
        captions=captions,
        metadata=metadata or {},
    )


def _entry(line: str) -> str:
    line = plain_url(line.strip().strip("\ufeff\u200b"))
    return "" if line.startswith("#") else line


def _no_address(uri: str, number: int, what: str) -> Failure:
    # The list is read again in every run, so the failure need not be stored.
    return Failure(f"{uri}#{number}", f"line {number}: {what}", uri, transient=True)

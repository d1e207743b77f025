"""Lists of addresses: a picture on the web on each line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twinlens.ingest.sample import Failure, Item, Sample, failure_of
from twinlens.search.records import MAX_PATH_BYTES, cut_bytes

#: Fetches what is at an address: ``twinlens.search.images.fetch.Fetcher(...).fetch``.
Fetch = Callable[[str], bytes]

_URL = re.compile(r"https?://[^\s/?#][^\s]*", re.IGNORECASE)
_HEAD = 1 << 16


def no_fetch(url: str) -> bytes:
    """Stands in where nothing is to be fetched."""
    raise ConnectionError("it is on the web, and nothing is fetched in this run")


def is_url(text: str) -> bool:
    """Whether a text is the address of something on the web."""
    return _URL.fullmatch(text) is not None


def is_url_list(path: Path) -> bool:
    """Whether a file is called ``.urls``, or is a ``.txt`` whose first entry is an address.

    Raises:
        OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix != ".txt":
        return suffix == ".urls"
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8-sig", "replace")
    return is_url(next(filter(None, map(_entry, head.splitlines())), ""))


def read_urls(path: Path, fetch: Fetch, *, refresh: bool = False, uri: str = "") -> Iterator[Item]:
    """The pictures of a list; empty lines and what follows a ``#`` at a line's start do not count.

    Args:
        path: the list.
        fetch: how to fetch.
        refresh: fetch again what is stored already.
        uri: the list's name for good, where ``path`` is only a copy.
    """
    uri = uri or str(path.absolute())
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            number = 0
            while line := file.readline(MAX_PATH_BYTES + 2):
                number += 1
                if not line.endswith("\n") and len(line) > MAX_PATH_BYTES:
                    while line and not line.endswith("\n"):
                        line = file.readline(_HEAD)
                    yield _no_address(uri, number, "too long a line")
                elif entry := _entry(line):
                    if is_url(entry):
                        yield url_item(entry, uri, fetch, refresh=refresh)
                    else:
                        yield _no_address(uri, number, f"{entry[:100]!r} is no address")
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
    """The picture at an address, to be fetched when it is asked for.

    Args:
        url: the address.
        root: what was ingested that names it.
        fetch: how to fetch.
        captions, metadata: what is said of it there.
        refresh: fetch it again if it is stored already.
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
    line = line.strip()
    return "" if line.startswith("#") else line


def _no_address(uri: str, number: int, what: str) -> Failure:
    # It is read again each time with its list, so there is nothing to remember.
    return Failure(f"{uri}#{number}", f"line {number}: {what}", uri, transient=True)

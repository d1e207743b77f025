"""Read sources in object stores and other file systems with fsspec: ``s3://``, ``gs://``, ``hf://``.

Images are downloaded on demand, one by one. Archives, tables and caption files are copied to a
temporary file, one at a time.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from twinlens.ingest.sample import Failure, Item, Sample, Warn
from twinlens.ingest.sources import tables
from twinlens.ingest.sources.archives import Archive, TemporaryCopy, is_hidden
from twinlens.ingest.sources.caption_formats import SUFFIXES, TABLES, format_of
from twinlens.ingest.sources.captions import CaptionFile
from twinlens.ingest.sources.detect import Items, ReadOptions, archive_reader
from twinlens.ingest.sources.folder import EVERY_FILE, FileFilter
from twinlens.ingest.sources.passed_over import is_passed_over, tell_undecodable
from twinlens.ingest.sources.paths import is_address
from twinlens.ingest.sources.sidecar_names import Siblings, sidecars_of, usual_sidecars
from twinlens.ingest.sources.sidecars import MAX_SIDECAR_BYTES, SidecarError, parse_sidecars
from twinlens.search.errors import ImageError, SourceError, UsageError, first_line
from twinlens.search.images.decode import MAX_BYTES
from twinlens.search.images.formats import is_image_name
from twinlens.search.paths import name_forms
from twinlens.search.records import MAX_PATH_BYTES, cut_bytes

#: Bytes of the largest archive or table that is copied.
MAX_COPY = 64 << 30
#: Images whose sidecars are downloaded together.
_TOGETHER = 64
_CHUNK = 4 << 20
#: Keys under which drivers report a file's modification time, and a tag of its contents.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "content_md5", "checksum")

Info = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remote:
    """A path in an fsspec file system.

    Attributes:
        fs: the ``fsspec`` file system (the driver).
        path: in the driver's own form.
    """

    fs: Any
    path: str

    @classmethod
    def of(cls, address: str) -> Remote:
        """Resolve a URL.

        Raises:
            SourceError: the driver is not installed, or refuses the URL.
        """
        scheme = address.partition("://")[0]
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise SourceError(
                f"reading {scheme}:// needs fsspec: pip install 'twinlens[remote]'"
            ) from error
        try:
            fs, path = url_to_fs(address)
            # Drivers cache listings for the life of the process.
            fs.invalidate_cache()
        except ImportError as error:
            package = _driver(scheme)
            raise SourceError(
                f"reading {scheme}:// needs a driver: pip install {package}"
            ) from error
        except Exception as error:  # a driver's own, for its address or its credentials
            raise SourceError(f"{address}: {_error_text(error)}") from error
        return cls(fs, str(path).rstrip("/") or "/")

    @property
    def uri(self) -> str:
        """The permanent name of this path."""
        return self.uri_of(self.path)

    def uri_of(self, path: str) -> str:
        """Return the permanent name of another path."""
        return str(self.fs.unstrip_protocol(path)).rstrip("/")

    def info(self, path: str) -> Info:
        """Return the driver's details of a path.

        Raises:
            OSError: there is no such path, or the driver failed.
        """
        found: Info = _call_driver(lambda: self.fs.info(path))
        return found

    def listing(self, *folders: str) -> dict[str, Info]:
        """List folders, by path.

        Raises:
            OSError: there is no such folder, or the driver failed.
        """
        listed = (_call_driver(partial(self.fs.ls, folder, detail=True)) for folder in folders)
        return {str(info["name"]): info for infos in listed for info in infos}

    def copy(self, path: str) -> TemporaryCopy:
        """Copy a file to a temporary file.

        Raises:
            OSError: it cannot be read, or is larger than ``MAX_COPY``.
        """

        def chunks() -> Iterator[bytes]:
            with self.fs.open(path, "rb", block_size=_CHUNK) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk

        copy: TemporaryCopy = _call_driver(
            lambda: TemporaryCopy(chunks(), MAX_COPY, posixpath.splitext(path)[1])
        )
        return copy


def open_remote(address: str, options: ReadOptions) -> Items | CaptionFile:
    """Open a URL: a folder, image, archive, table or caption file, or a pattern that matches some.

    Raises:
        UsageError: there is nothing.
        SourceError: it cannot be read, or the driver is not installed.
    """
    place = Remote.of(address)
    files, columns = options.files, (options.image_column, options.caption_column)
    try:
        if any(sign in place.path for sign in "*?["):
            names = sorted(_call_driver(lambda: place.fs.glob(place.path)))
            if not names:
                raise UsageError(f"nothing matches {address}")
            root = place.uri_of(_fixed_part(place.path))
            found = place.listing(*{posixpath.dirname(name) for name in names})
            return lambda: _files(place, root, found, files, columns, options.warn, names)
        info = place.info(place.path)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {address}") from error
    except OSError as error:
        raise SourceError(f"{address} cannot be read: {_error_text(error)}") from error
    if info.get("type") == "directory":
        return lambda: _walk(place, files, columns, options.warn)
    if not is_image_name(place.path) and posixpath.splitext(place.path)[1].lower() in SUFFIXES:
        captions = _captions(place, options)
        if captions is not None:
            return captions
    there = [name for name in usual_sidecars(place.path) if place.fs.exists(name)]
    found = {place.path: info, **{name: place.info(name) for name in there}}
    chosen = [place.path]
    return lambda: _files(place, place.uri, found, EVERY_FILE, columns, options.warn, chosen)


def open_remote_captions(address: str, options: ReadOptions) -> CaptionFile:
    """Open a caption file at a URL.

    Raises:
        SourceError: it cannot be read, or is no caption file.
    """
    found = _captions(Remote.of(address), options)
    if found is None:
        raise SourceError(f"{address} is not a caption file")
    return found


class RemoteImageFinder:
    """Finds the images that a remote caption file names, relative to its folder."""

    def __init__(self, captions: str) -> None:
        self._place = Remote.of(captions)
        self._home = posixpath.dirname(self._place.path)
        self._folder = ""
        self._found: Mapping[str, Info] = {}

    def find(self, name: str) -> Item | None:
        """Return the image of that name; None if there is none."""
        path = posixpath.normpath(posixpath.join(self._home, name))
        if is_address(name) or path.startswith(".."):
            return None
        try:
            if posixpath.dirname(path) != self._folder:
                self._folder = posixpath.dirname(path)
                self._found = {}
                self._found = self._place.listing(self._folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _unreadable(self._place.uri_of(path), self._place.uri, error)
        path = next((form for form in name_forms(path) if form in self._found), "")
        if not path:
            return None
        beside = _sidecars(self._place, [path], self._found)
        return _picture(
            self._place, self._place.uri_of(self._home), path, self._found[path], beside
        )


def _captions(place: Remote, options: ReadOptions) -> CaptionFile | None:
    try:
        copy = place.copy(place.path)
    except OSError as error:
        raise SourceError(f"{place.uri} cannot be read: {_error_text(error)}") from error
    found = format_of(copy.path)
    if found is None or _holds_pictures(place.path, copy, options.image_column):
        return None
    # CaptionFile reads all of it here; the copy is not needed afterwards.
    return options.caption_file(copy.path, found, place.uri)


def _holds_pictures(path: str, copy: TemporaryCopy, image_column: str) -> bool:
    is_table = posixpath.splitext(path)[1].lower() in TABLES
    return is_table and tables.holds_images(copy.path, image_column)


def _walk(place: Remote, files: FileFilter, columns: tuple[str, str], warn: Warn) -> Iterator[Item]:
    root = place.uri
    try:
        for _, folders, found in place.fs.walk(place.path, detail=True):
            for name in list(folders):
                if is_passed_over(name):
                    warn(root, f"folders called {name} are passed over: name one to read it")
                if name.startswith(".") or is_passed_over(name):
                    del folders[name]
            by_path = {str(info["name"]): info for info in found.values()}
            yield from _files(place, root, by_path, files, columns, warn)
    except Exception as error:  # noqa: BLE001 - a driver's own; what was listed so far is kept
        yield _unreadable(root, root, error)


def _files(
    place: Remote,
    root: str,
    found: Mapping[str, Info],
    files: FileFilter,
    columns: tuple[str, str],
    warn: Warn,
    chosen: Iterable[str] | None = None,
) -> Iterator[Item]:
    """Yield the images among the listed files, and those in archives and tables, in name order.

    ``chosen`` selects some; the others can still be their sidecars.
    """
    names = [
        path
        for path in sorted(found if chosen is None else chosen)
        if not is_hidden(posixpath.basename(path)) and files.takes(_below(place.uri_of(path), root))
    ]
    tell_undecodable(names, root, warn)
    plain = iter([path for path in names if is_image_name(path)])
    while batch := list(islice(plain, _TOGETHER)):
        beside = _sidecars(place, batch, found)
        for path in batch:
            yield _picture(place, root, path, found[path], beside)
    for path in names:
        if archive_reader(path) is not None or posixpath.splitext(path)[1].lower() in TABLES:
            yield from _container(place, root, path, found[path], columns, warn)


def _container(
    place: Remote, root: str, path: str, info: Info, columns: tuple[str, str], warn: Warn
) -> Iterator[Item]:
    uri = place.uri_of(path)
    relative = "" if uri == root else f"{_below(uri, root)}!"
    where = tables.UriPrefix(root, f"{uri}!", relative)
    try:
        copy = place.copy(path)
        if (read := archive_reader(path)) is not None:
            archive = Archive(uri, where, copy.path, max(_stamp(info), 0), copy)
            yield from read(archive, EVERY_FILE, warn)
        elif _holds_pictures(path, copy, columns[0]):
            for item in tables.samples([copy.path], where, *columns):
                yield tables.keep_copy(item, copy, _stamp(info))
    except (OSError, SourceError) as error:
        yield _unreadable(uri, root, error)


def _picture(
    place: Remote, root: str, path: str, info: Info, beside: Mapping[str, bytes | Exception]
) -> Item:
    uri = place.uri_of(path)
    size = int(info.get("size") or -1)

    def read(name: str) -> bytes | None:
        data = beside.get(name)
        if isinstance(data, PermissionError):
            raise SidecarError("cannot be read: no permission")
        if isinstance(data, Exception):
            raise data
        return data

    try:
        if len(uri.encode()) > MAX_PATH_BYTES:
            raise ValueError(f"its name is longer than {MAX_PATH_BYTES} bytes")
        described = parse_sidecars(path, Siblings(beside), read)
    except ValueError as error:
        return Failure(cut_bytes(uri, MAX_PATH_BYTES), str(error), root)
    except Exception as error:  # noqa: BLE001 - a driver's own
        return _unreadable(uri, root, error)
    return Sample(
        uri=uri,
        root=root,
        relative=_below(uri, root),
        load=partial(_load, place.fs, path, size),
        size=size,
        mtime_ns=_stamp(info),
        captions=described.captions,
        metadata=described.metadata,
        notes=described.notes,
    )


def _load(fs: Any, path: str, size: int) -> bytes:
    whole = 0 <= size <= MAX_BYTES
    data: bytes = _call_driver(
        lambda: fs.cat_file(path) if whole else fs.cat_file(path, start=0, end=MAX_BYTES + 1)
    )
    if len(data) > MAX_BYTES:
        raise ImageError(f"larger than {MAX_BYTES >> 20} MB")
    return data


def _sidecars(
    place: Remote, batch: list[str], found: Mapping[str, Info]
) -> dict[str, bytes | Exception]:
    """Download the sidecars of images together; give the error of one that fails."""
    siblings = Siblings(found)
    names = {name for path in batch for name in sidecars_of(path, siblings)}
    small = [name for name in names if (found[name].get("size") or 0) <= MAX_SIDECAR_BYTES]
    fetched: dict[str, bytes | Exception] = {
        name: SidecarError("is larger than 1 MB and is not used as a caption")
        for name in names - set(small)
        if not name.endswith(".json")
    }
    if small:
        try:
            fetched |= place.fs.cat(sorted(small), on_error="return")
        except Exception as error:  # noqa: BLE001 - a driver's own
            fetched |= dict.fromkeys(small, error)
    return fetched


def _fixed_part(pattern: str) -> str:
    """Return the folder part of a pattern before its first wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return "/".join(parts[:first])


def _stamp(info: Info) -> int:
    """Return a file's modification time in nanoseconds since 1970, -1 if unknown.

    If the driver has only a tag of the contents, return a small number made of that: it also
    differs between versions.
    """
    time = next((info[name] for name in _TIMES if info.get(name)), None)
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.replace("Z", "+00:00"))
        except ValueError:
            time = None
    with suppress(ValueError, OverflowError, OSError):  # no number, or years that no clock has
        if isinstance(time, datetime):
            return int(time.timestamp() * 1e6) * 1_000
        if isinstance(time, int | float):
            return int(time * 1e9)
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    return int(hashlib.blake2b(tag.encode(), digest_size=5).hexdigest(), 16) if tag else -1


def _below(uri: str, root: str) -> str:
    if uri == root:
        return posixpath.basename(uri)
    return uri.removeprefix(root).lstrip("/")


def _call_driver(ask: Callable[[], Any]) -> Any:
    """Call a driver; turn exceptions of its own into ``OSError``."""
    try:
        return ask()
    except OSError:
        raise
    except Exception as error:  # a driver's own
        raise ConnectionError(_error_text(error)) from error


def _driver(scheme: str) -> str:
    """Return the package that provides the driver of a URL scheme."""
    from fsspec.registry import known_implementations

    return str(known_implementations.get(scheme, {}).get("class", scheme)).partition(".")[0]


def _unreadable(uri: str, root: str, error: Exception) -> Failure:
    return Failure(
        cut_bytes(uri, MAX_PATH_BYTES),
        f"cannot be read: {_error_text(error)}",
        root,
        transient=True,
    )


def _error_text(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return str(getattr(error, "strerror", None) or first_line(error, 200))

"""Prepare the files of the pages: joined, compressed, and named so that browsers cache them long.

Every file is also at ``/static/VERSION/NAME``, where the version is a hash of all files. Pages name
their files by that address, so a browser keeps them for a year and never mixes versions.

Pages and their scripts are prepared once for each language: in English under the name of their
file, in others under ``LANGUAGE/NAME``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

from twinlens.search.filters import KEYWORDS
from twinlens.server.bundle import bundle_modules, bundle_sheets
from twinlens.server.encodings import Encoding, brotli_compress
from twinlens.server.languages import DEFAULT, fill_in, in_language, languages_of

FOLDER = Path(__file__).parent / "page"
#: The file types that are served. Other files in the folder are not.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: The texts of the HTML, in the folder of a language; not served.
PAGE_TEXTS = "pages.json"
#: What the page of the documentation needs of Swagger UI, from the package ``fastapi-offline``.
SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")
#: A module that has no file: the words of the filter language are declared in its parser.
KEYWORDS_MODULE = "shared/filter-keywords.js"
#: Bytes; of a larger file brotli at its best takes seconds.
_LARGE = 300_000
_ENTRY = re.compile(r'<script type="module" src="/static/([^"]+)">')


@dataclass(frozen=True)
class Asset:
    """A file of the pages, with its media type; compressed when that is first asked for."""

    data: bytes
    type: str
    _compressed: dict[Encoding, bytes] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def digest(self) -> str:
        """A hash of the contents, for ETags."""
        return hashlib.blake2b(self.data, digest_size=12).hexdigest()

    def compressed(self, encoding: Encoding) -> bytes:
        """The contents with a content coding, made once; takes some milliseconds then."""
        with self._lock:
            if encoding not in self._compressed:
                self._compressed[encoding] = _best(self.data, encoding)
            return self._compressed[encoding]


@dataclass(frozen=True)
class Assets:
    """All files of the pages by their names.

    Attributes:
        files: as they are served.
        version: a hash of all of them, for addresses that change when they do.
        languages: those that the pages have been translated to, the default one first.
    """

    files: Mapping[str, Asset]
    version: str
    languages: list[str]

    @property
    def has_docs(self) -> bool:
        """Whether Swagger UI is installed."""
        return f"docs/{SWAGGER[0]}" in self.files

    def page(self, name: str, language: str) -> Asset:
        """A page in a language, or in the default one if it has no translation."""
        return self.files.get(f"{language}/{name}") or self.files[name]

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Assets:
        """Read the files of a folder, and join the modules and style sheets of each page."""
        texts = {
            path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(folder.rglob("*"))
            if (path.suffix in TYPES or path.name == PAGE_TEXTS) and path.is_file()
        }
        texts |= {f"docs/{name}": text for name, text in _swagger().items()}
        texts[KEYWORDS_MODULE] = _keywords()
        languages = languages_of(texts)
        joined = [_joined(in_language(texts, language), language) for language in languages]
        texts = {name: text for name, text in texts.items() if Path(name).suffix in TYPES}
        for pages in joined:
            texts |= pages
        whole = "\0".join(f"{name}\0{text}" for name, text in sorted(texts.items()))
        version = hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()
        files = {name: _asset(name, text, version) for name, text in texts.items()}
        return cls(files, version, languages)


@cache
def page_assets() -> Assets:
    """The files of the pages, prepared once for all servers of this process."""
    return Assets.read()


def _asset(name: str, text: str, version: str) -> Asset:
    """A file whose addresses of other files have the version."""
    if not name.startswith("docs/swagger"):
        text = text.replace("/static/", f"/static/{version}/")
    return Asset(text.encode(), TYPES[Path(name).suffix])


def _joined(texts: Mapping[str, str], language: str) -> dict[str, str]:
    """The pages in a language with their joined files."""
    joined = {}
    prefix = "" if language == DEFAULT else f"{language}/"
    page_texts = texts[f"texts/{DEFAULT}/{PAGE_TEXTS}"]
    for name, source in texts.items():
        folder, _, file = name.partition("/")
        # Swagger UI is in English only.
        if file != "index.html" or (prefix and folder == "docs"):
            continue
        page = fill_in(source, page_texts, folder, language)
        for entry in _ENTRY.findall(page):
            joined[prefix + entry] = bundle_modules(texts, entry)
        page = _ENTRY.sub(rf'<script type="module" src="/static/{prefix}\1">', page)
        if folder == "docs" and f"docs/{SWAGGER[0]}" not in texts:
            continue
        sheet = f"{name.removesuffix('.html')}.css"
        joined[prefix + name], joined[sheet] = bundle_sheets(page, texts, sheet)
    return joined


def _keywords() -> str:
    return f"export const KEYWORDS = new Set({json.dumps(sorted(KEYWORDS))});\n"


def _swagger() -> dict[str, str]:
    """The files of Swagger UI; empty if their package is not installed."""
    found = find_spec("fastapi_offline")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "static"
    return {name: (folder / name).read_text(encoding="utf-8") for name in SWAGGER}


def _best(data: bytes, encoding: Encoding) -> bytes:
    if encoding == "br":
        return brotli_compress(data, 9 if len(data) > _LARGE else 11)
    return gzip.compress(data, 9, mtime=0)

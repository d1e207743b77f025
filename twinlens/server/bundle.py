"""Join the JavaScript modules of a page into one script, and its style sheets into one.

A browser learns of a module's imports only when it has the module, so over a slow connection each
level of imports costs a round trip. Our modules use the plainest form of imports and exports only,
which this needs no parser of JavaScript for: ``import { a, b as c } from "./x.js";`` and
``export`` before a function, a class or a constant.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(
    r"^export ((?:async )?function\*?|class|const) ?([\w$]+)(?=[\s(])", re.MULTILINE
)
_OTHER = re.compile(r"^(import|export|await)\b.*", re.MULTILINE)
#: Whole lines of comments; code never stands beside these.
_COMMENTS = re.compile(r"^[ \t]*(?://.*|/\*\*(?:(?!\*/)[\s\S])*\*/[ \t]*)\n", re.MULTILINE)
_SHEETS = re.compile(r'(?:^[ \t]*<link rel="stylesheet" href="/static/([^"]+)">\n)+', re.MULTILINE)
_SHEET = re.compile(r'href="/static/([^"]+)"')


def bundle_modules(files: Mapping[str, str], entry: str) -> str:
    """Join a module and all that it imports into one module, which imports nothing.

    Args:
        files: the source of each module by its path.
        entry: the path of the module to start with.

    Raises:
        ValueError: modules import each other in a circle, or use other forms of imports or exports
            than those above.
        KeyError: there is no such module.
    """
    order: list[str] = []
    _visit(files, entry, (), order)
    names = {path: f"module{number}" for number, path in enumerate(order)}
    return "\n".join(_wrapped(path, files[path], names) for path in order) + "\n"


def bundle_sheets(page: str, files: Mapping[str, str], name: str) -> tuple[str, str]:
    """A page with one style sheet in place of several that follow each other, and that sheet.

    Args:
        page: the HTML, with links to ``/static/PATH``.
        files: the sheets by their paths.
        name: the path of the joined sheet.

    Raises:
        KeyError: there is no such sheet.
    """
    found = _SHEETS.search(page)
    if found is None:
        return page, ""
    sheet = "\n".join(files[path] for path in _SHEET.findall(found[0]))
    link = f'  <link rel="stylesheet" href="/static/{name}">\n'
    return page[: found.start()] + link + page[found.end() :], sheet


def _visit(files: Mapping[str, str], path: str, above: tuple[str, ...], order: list[str]) -> None:
    """Append a module to the order, after everything that it imports."""
    if path in above:
        raise ValueError(f"modules import each other in a circle: {' → '.join((*above, path))}")
    if path in order:
        return
    for _, imported in _IMPORT.findall(files[path]):
        _visit(files, _resolved(path, imported), (*above, path), order)
    order.append(path)


def _wrapped(path: str, source: str, names: Mapping[str, str]) -> str:
    """A module as a function that runs once and returns what the module exports."""
    exported = [found[2] for found in _EXPORT.finditer(source)]

    def constants(found: re.Match[str]) -> str:
        wanted = re.sub(r"(\w+) as (\w+)", r"\1: \2", " ".join(found[1].split()))
        return f"const {{ {wanted} }} = {names[_resolved(path, found[2])]};"

    body = _EXPORT.sub(lambda found: f"{found[1]} {found[2]}", _IMPORT.sub(constants, source))
    if left := _OTHER.search(body):
        raise ValueError(f"{path} cannot be joined with others: {left[0]}")
    body = _COMMENTS.sub("", body)
    return (
        f"// {path}\nconst {names[path]} = (() => {{\n{body.strip()}\n"
        f"return {{ {', '.join(exported)} }};\n}})();"
    )


def _resolved(path: str, imported: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), imported))

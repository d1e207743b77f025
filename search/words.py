"""Split names and texts into words, for full-text search and to recognise names in queries.

A tokenizer may take ``IMG_2041`` for one word (Milvus Lite) or for two (a Milvus server). So both
what is stored and what is asked have such words whole and in pieces.
"""

from __future__ import annotations

import re
import unicodedata

_TOKEN = re.compile(r"\w+")
_PIECE = re.compile(r"[0-9]+|[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])|[A-Z][^\W\d_A-Z]*")
_EXTENSION = re.compile(r"(?<=[^/])\.[A-Za-z][A-Za-z0-9]{0,4}$")


def pieces(text: str) -> list[str]:
    """The words and numbers that a text is made of: ``SunsetBeach_2041`` has three."""
    return _PIECE.findall(unicodedata.normalize("NFC", text))


def searchable(text: str) -> str:
    """A text, followed by the pieces of those of its words that have several.

    ``my IMG_2041`` becomes ``my IMG_2041 IMG 2041``.
    """
    text = unicodedata.normalize("NFC", text)
    compound = [parts for parts in map(_PIECE.findall, _TOKEN.findall(text)) if len(parts) > 1]
    return " ".join([text, *(piece for parts in compound for piece in parts)])


def path_words(path: str) -> str:
    """The words of a path without its extension, compound ones whole and in pieces."""
    text = unicodedata.normalize("NFC", without_extension(path))
    found: list[str] = []
    for token in _TOKEN.findall(text):
        parts = _PIECE.findall(token)
        found += [token, *parts] if len(parts) > 1 else parts
    return " ".join(found)


def without_extension(name: str) -> str:
    """A path or name without the extension of a file."""
    return _EXTENSION.sub("", name)


def holds_all(text: str, query: str) -> bool:
    """Whether a text has all words of a query, each whole or in pieces."""
    held = {word.lower() for word in _TOKEN.findall(searchable(text))}
    asked = _TOKEN.findall(unicodedata.normalize("NFC", query))
    return bool(asked) and all(
        token.lower() in held or (parts and all(piece.lower() in held for piece in parts))
        for token, parts in ((token, _PIECE.findall(token)) for token in asked)
    )


class NameQuery:
    """A query as a name of files.

    Args:
        query: its words.
    """

    def __init__(self, query: str) -> None:
        self._name = unicodedata.normalize("NFC", query).strip().lower()
        stem = without_extension(query.strip())
        self._words = [piece.lower() for piece in pieces(stem)]
        #: Whether it looks like a name: it has numbers, or words like ``sunset_beach``.
        self.is_name = any(word.isdigit() for word in self._words) or any(
            len(pieces(token)) > 1 for token in query.split()
        )

    @property
    def length(self) -> int:
        """How many words it has."""
        return len(self._words)

    def closeness(self, path: str) -> int:
        """How well a path goes by this name.

        Returns:
            3 if the file has this name, 2 if its name has the same words, 1 if the query looks like
            a name, and its words follow each other in the path; 0 otherwise.
        """
        if not self._words:
            return 0
        name = unicodedata.normalize("NFC", re.split(r"[/\\!]", path)[-1])
        if self._name in (name.lower(), without_extension(name).lower()):
            return 3
        words = [piece.lower() for piece in pieces(without_extension(path))]
        size = len(self._words)
        if words[-size:] == self._words and len(pieces(without_extension(name))) == size:
            return 2
        starts = range(len(words) - size + 1) if self.is_name else ()
        return int(any(words[start : start + size] == self._words for start in starts))

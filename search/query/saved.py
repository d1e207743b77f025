"""``SavedSearch``: a search with a name, kept in the collection's own metadata."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Unpack, cast

from twinlens.search.errors import UsageError
from twinlens.search.frozen import FrozenDict
from twinlens.search.query.parts import NOT_WEIGHT, Id, Not, Part, Text, signed
from twinlens.search.query.request import OPTIONS, SearchOptions, SearchRequest
from twinlens.search.records import clean_text

if TYPE_CHECKING:
    from twinlens.search.milvus.collection import Collection

_log = logging.getLogger("twinlens")

#: Characters of a name, and saved searches of one collection.
MAX_NAME, MAX_SAVED = 100, 200
#: Bytes of one search as JSON, and of all of a collection: Milvus sends them with each description
#: of it.
MAX_BYTES, MAX_ALL_BYTES = 16_000, 256_000
#: Options of a search that are not saved.
NOT_SAVED = frozenset({"image", "cursor", "offset"})
#: Options that name stored items.
_NAMES = ("like", "unlike")
CANNOT_SAVE = (
    "a saved search has words, ids and a filter: pictures and embeddings cannot be saved, so "
    "ingest the picture and search by its id"
)


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A search with a name: ``index.search(saved.query, **saved.options)`` runs it.

    Attributes:
        name: its name.
        query: what it searches for; empty if it only has a filter, which ``index.browse`` lists.
        options: those that differ from their defaults; see
            ``twinlens.search.query.request.SearchOptions``.
    """

    name: str
    query: tuple[Part, ...] = ()
    options: Mapping[str, Any] = field(default_factory=FrozenDict)

    @classmethod
    def of(cls, name: str, query: object = None, **options: Unpack[SearchOptions]) -> SavedSearch:
        """Check a search, and its name.

        Args:
            name: 1 to ``MAX_NAME`` characters.
            query, options: as ``Index.search`` takes them, without pictures, embeddings, a cursor
                and an offset; with a filter the query may be left out.

        Raises:
            UsageError: the name, the query or an option is not valid, or cannot be saved.
        """
        name = checked_name(name)
        given = cast("dict[str, Any]", options)
        if given.get("image") is not None:
            raise UsageError(CANNOT_SAVE)
        if given.get("cursor") or given.get("offset"):
            raise UsageError("a saved search begins at the first hit: leave out the page")
        named = len(given.get("like", ())) + len(given.get("unlike", ()))
        parts: tuple[Part, ...] = ()
        if query is None or (isinstance(query, list | tuple) and not query):
            query = None
        if query is not None or named:
            parts = SearchRequest.of(query, **options).parts
            parts = parts[: len(parts) - named]
        elif str(given.get("where", "")).strip():
            SearchRequest.of("any", **options)
        else:
            raise UsageError("there is nothing to save: give words, an id or a filter")
        for part in parts:
            if not isinstance(signed(part)[0], Text | Id):
                raise UsageError(CANNOT_SAVE)
        changed = {
            key: tuple(given[key]) if key in _NAMES else given[key]
            for key, option in OPTIONS.items()
            if given.get(key, option.default) != option.default
            and not (key in _NAMES and not len(given[key]))
        }
        saved = cls(name, parts, FrozenDict(changed))
        if len(saved.to_text().encode()) > MAX_BYTES:
            raise UsageError(f"a saved search takes at most {MAX_BYTES:,} bytes")
        return saved

    @classmethod
    def from_json(cls, name: str, search: Mapping[str, Any]) -> SavedSearch:
        """Read what ``to_json`` returned.

        Raises:
            UsageError: it is not valid, or of a later version.
        """
        given = dict(search)
        query = [_part_from_json(one) for one in given.pop("query", ())]
        return cls.of(name, query, **cast("SearchOptions", given))

    def to_json(self) -> dict[str, Any]:
        """The search without its name, as the body of ``POST /v1/search``."""
        query = {"query": [_part_to_json(part) for part in self.query]} if self.query else {}
        options = {
            key: list(value) if key in _NAMES else value for key, value in self.options.items()
        }
        return query | options

    def to_text(self) -> str:
        """The search with its name as JSON, as it is stored."""
        text = json.dumps(
            {"name": self.name, "search": self.to_json()}, ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8", "replace").decode()

    @classmethod
    def from_text(cls, text: str) -> SavedSearch:
        """Read what ``to_text`` returned.

        Raises:
            UsageError: it is damaged, or of a later version.
        """
        try:
            stored = json.loads(text)
            return cls.from_json(stored["name"], stored["search"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UsageError(f"not a saved search: {text[:60]!r}") from error

    def with_names(self, change: Callable[[str], str]) -> SavedSearch:
        """The search with all ids and paths of stored items changed."""
        options = {
            key: tuple(map(change, value)) if key in _NAMES else value
            for key, value in self.options.items()
        }
        query = tuple(_with_name(part, change) for part in self.query)
        return replace(self, query=query, options=FrozenDict(options))

    def names(self) -> list[str]:
        """The ids and paths of stored items that it has."""
        parts = (signed(part)[0] for part in self.query)
        ids = [part.id for part in parts if isinstance(part, Id)]
        return ids + [one for key in _NAMES for one in self.options.get(key, ())]


def list_saved(collection: Collection) -> list[SavedSearch]:
    """The saved searches of a collection, sorted by name."""
    found = []
    for text in collection.saved.read().values():
        try:
            found.append(SavedSearch.from_text(text))
        except UsageError as error:
            _log.warning("%s: a saved search cannot be read: %s", collection.name, error)
    return sorted(found, key=lambda one: (one.name.casefold(), one.name))


def save(collection: Collection, saved: SavedSearch) -> SavedSearch:
    """Store a search, in place of one of the same name; its paths become ids.

    Returns:
        What was stored.

    Raises:
        UsageError: an id is not stored, or the collection has too many saved searches.
        FilterError: the filter is not valid.
    """
    from twinlens.search.filters import compile_filter
    from twinlens.search.query.stored import find_stored

    if collection.scope.divided and not collection.has_tenant():
        raise UsageError(f"nothing of {collection.tenant} is stored: ingest first, then save")
    where, target = saved.options.get("where", ""), saved.options.get("target", "images")
    compile_filter(where, collection.fields(target), collection.capabilities)
    found = find_stored(collection, saved.names()) if saved.names() else {}
    saved = saved.with_names(lambda name: found[name].id)
    store(collection, saved)
    return saved


def store(collection: Collection, saved: SavedSearch) -> None:
    """Store a search as it is.

    Raises:
        UsageError: the collection has too many saved searches.
    """
    key, text = _key(saved.name), saved.to_text()
    others = {one: stored for one, stored in collection.saved.read().items() if one != key}
    if len(others) >= MAX_SAVED:
        raise UsageError(
            f"a collection has at most {MAX_SAVED} saved searches: delete one with "
            "`twinlens saved --remove NAME`"
        )
    if sum(len(one.encode()) for one in (*others.values(), text)) > MAX_ALL_BYTES:
        raise UsageError(
            f"the saved searches of a collection take at most {MAX_ALL_BYTES:,} bytes: delete one "
            "with `twinlens saved --remove NAME`"
        )
    collection.saved.put({key: text})
    collection.check_open()


def delete(collection: Collection, name: str) -> None:
    """Delete a saved search.

    Raises:
        UsageError: there is none of that name.
    """
    name = checked_name(name)
    if _key(name) not in collection.saved.read():
        raise not_saved(name, (one.name for one in list_saved(collection)))
    collection.saved.remove([_key(name)])
    collection.check_open()


def checked_name(name: str) -> str:
    """A name for a saved search, with single spaces.

    Raises:
        UsageError: it is empty or too long.
    """
    cleaned = clean_text(name)
    if not cleaned or len(cleaned) > MAX_NAME:
        raise UsageError(
            f"the name of a search has 1 to {MAX_NAME} characters, unlike {name[:60]!r}"
        )
    return cleaned


def find_saved(searches: Iterable[SavedSearch], name: str) -> SavedSearch:
    """The saved search of a name.

    Raises:
        UsageError: there is none.
    """
    listed = list(searches)
    wanted = checked_name(name)
    for one in listed:
        if one.name == wanted:
            return one
    raise not_saved(wanted, (one.name for one in listed))


def not_saved(name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that no saved search has."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ": `twinlens saved` lists them"
    return UsageError(f"there is no saved search {name!r}{hint}")


def _key(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def _part_to_json(part: Part) -> Any:
    if isinstance(part, Not):
        assert not isinstance(part.part, str)
        inner = _part_to_json(part.part)
        return {"not": inner} | _weight(part.weight, NOT_WEIGHT)
    if isinstance(part, Text):
        return part.text if part.weight == 1 else {"text": part.text, "weight": part.weight}
    assert isinstance(part, Id)
    return {"id": part.id} | _weight(part.weight, 1.0)


def _weight(weight: float, default: float) -> dict[str, float]:
    return {} if weight == default else {"weight": float(weight)}


def _part_from_json(sent: Any) -> Part:
    if isinstance(sent, str):
        return Text(sent)
    if "not" in sent:
        inner = _part_from_json(sent["not"])
        return Not(inner, sent.get("weight", NOT_WEIGHT))  # type: ignore[arg-type]  # it checks
    if "text" in sent:
        return Text(sent["text"], sent.get("weight", 1.0))
    return Id(sent["id"], sent.get("weight", 1.0))


def _with_name(part: Part, change: Callable[[str], str]) -> Part:
    if isinstance(part, Not):
        assert not isinstance(part.part, str)
        inner = _with_name(part.part, change)
        assert not isinstance(inner, Not)
        return replace(part, part=inner)
    return replace(part, id=change(part.id)) if isinstance(part, Id) else part

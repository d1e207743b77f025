"""Count the values of fields, so that people can narrow a search by clicking; see ``facets``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from twinlens.search.filters import field_reference, literal
from twinlens.search.milvus.collection import Collection
from twinlens.search.records import (
    CAPTION_PROBABILITY,
    FIXED_FIELDS,
    FLAG,
    POLICY_DIGEST,
    FieldType,
    Row,
)

#: The most values of a facet, and facets, that are returned.
MAX_VALUES, MAX_FACETS = 40, 12
#: Fields that are read at most, and different values that are counted of each.
MAX_FIELDS, MAX_DISTINCT = 64, 2_000
#: A field with more different values than this per image tells images apart, not groups of them.
_MOST_DISTINCT = 0.5
#: So many values are always few, as in a collection of ten pictures.
_FEW = 5
#: Fields of names that people give to pictures; see ``twinlens.search.query.labels``.
LabelField = Literal["albums", "tags"]
LABEL_FIELDS: tuple[LabelField, ...] = get_args(LabelField)
#: The order of facets that most collections have; others follow by name.
_FIRST = (*LABEL_FIELDS, "year", "camera", "folder", "format")
#: Between the elements of a list, as ``twinlens.search.metadata`` stores it.
COMMA = ", "
#: Dates have the timeline, places the map.
_LEFT_OUT = {"taken", "latitude", "longitude", CAPTION_PROBABILITY, POLICY_DIGEST}


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a field.

    Attributes:
        value: the value; of lists, one element.
        count: how many images have it.
        where: the filter that selects them.
    """

    value: str | int | float | bool
    count: int
    where: str


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of a field, most frequent first; years latest first.

    Attributes:
        field: its name; "folder" is the first folder below the ingested one.
        values: at most ``MAX_VALUES``.
        more: how many further values there are.
    """

    field: str
    values: tuple[FacetValue, ...]
    more: int = 0


def facets(collection: Collection, expression: str = "") -> tuple[Facet, ...]:
    """Count the values of the fields by which people narrow a search.

    These are year, camera, folder and format, and every other field of text, integers or booleans
    with few different values. A text with commas whose parts repeat counts as a list (keywords).

    Args:
        collection: whose images.
        expression: a Milvus expression that they must satisfy.

    Returns:
        At most ``MAX_FACETS``, each with at least two values.
    """
    types = collection.fields("images")
    names = [name for name, kind in types.items() if _may_be_facet(name, kind)][:MAX_FIELDS]
    counters = {name: _Counter() for name in ["folder", *names]}
    images = 0
    for rows in collection.scan("images", [*names, "relative_path"], expression):
        images += len(rows)
        _count(rows, counters)
    found = (
        _facet(name, counter, images, lists=collection.capabilities.infix)
        for name, counter in counters.items()
    )
    kept = [facet for facet in found if facet is not None]
    place = {name: number for number, name in enumerate(_FIRST)}
    kept.sort(key=lambda facet: (place.get(facet.field, len(place)), facet.field))
    return tuple(kept[:MAX_FACETS])


def count_values(collection: Collection, name: str, expression: str = "") -> list[FacetValue]:
    """Count the elements of a list field, such as "albums", in all images.

    Args:
        collection: whose images.
        name: of the field.
        expression: a Milvus expression that they must satisfy.
    """
    counts: Counter[str] = Counter()
    for rows in collection.scan("images", [name], expression):
        for row in rows:
            counts.update({part for part in str(row.get(name, "")).split(COMMA) if part})
    return [
        FacetValue(value, count, _filter(name, value, as_list=collection.capabilities.infix))
        for value, count in counts.items()
    ]


class _Counter:
    """Counts the values of one field, whole and in parts; stops when there are too many."""

    def __init__(self) -> None:
        self.whole: Counter[Any] = Counter()
        self.parts: Counter[str] = Counter()
        self.lists = 0

    @property
    def is_list(self) -> bool:
        """Whether the values are lists: many have commas, and their parts repeat."""
        return 5 * self.lists >= self.whole.total() and len(self.parts) < len(self.whole)

    def add(self, value: object) -> None:
        if not isinstance(value, str | int) or value == "" or len(self.whole) > MAX_DISTINCT:
            return
        self.whole[value] += 1
        if isinstance(value, str):
            parts = {part for part in value.split(COMMA) if part}
            self.lists += len(parts) > 1
            self.parts.update(parts)


def _may_be_facet(name: str, kind: FieldType) -> bool:
    if name in _LEFT_OUT or (name.startswith(FLAG) and name.endswith("_score")):
        return False
    if name in FIXED_FIELDS:
        return name == "format"
    return kind in ("text", "integer", "boolean")


def _count(rows: Iterable[Row], counters: Mapping[str, _Counter]) -> None:
    for row in rows:
        for name, value in row.items():
            counter = counters.get(name)
            if counter is not None:
                counter.add(value)
        folder, below, _ = str(row.get("relative_path", "")).partition("/")
        if below:
            counters["folder"].add(folder)


def _facet(name: str, counter: _Counter, images: int, *, lists: bool) -> Facet | None:
    """The facet of a field; None if its values do not group images."""
    as_list = lists and (counter.is_list or name in LABEL_FIELDS)
    counts = counter.parts if as_list else counter.whole
    if name in LABEL_FIELDS and counts:
        return _of_counts(name, counts, as_list=as_list)
    few = len(counts) <= MAX_DISTINCT and len(counts) <= max(_FEW, _MOST_DISTINCT * images)
    if len(counts) < 2 or not few or counts.most_common(1)[0][1] < 2:
        return None
    return _of_counts(name, counts, as_list=as_list)


def _of_counts(name: str, counts: Counter[Any], *, as_list: bool) -> Facet:
    if name == "year":
        ordered = sorted(counts.items(), reverse=True)
    else:
        ordered = sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))
    values = tuple(
        FacetValue(value, count, _filter(name, value, as_list=as_list))
        for value, count in ordered[:MAX_VALUES]
    )
    return Facet(name, values, max(0, len(ordered) - MAX_VALUES))


def _filter(name: str, value: Any, *, as_list: bool) -> str:
    """The filter that selects images with a value."""
    if name == "folder":
        return f"path startswith {literal(f'{value}/')}"
    field = field_reference(name)
    if not as_list:
        return f"{field} == {literal(value)}"
    first, last = f"{value}{COMMA}", f"{COMMA}{value}"
    return (
        f"({field} == {literal(value)} or {field} startswith {literal(first)}"
        f" or {field} endswith {literal(last)} or {field} contains {literal(last + COMMA)})"
    )

"""Count the values of fields, so that people can narrow a search by clicking; see ``facets``.

The values of a field are counted under the filter without the parts that choose values of that
field, so that the others can still be chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from twinlens.search.filters import compile_node, field_reference, literal
from twinlens.search.metadata import LIST_SEPARATOR
from twinlens.search.milvus.collection import Collection
from twinlens.search.query.choices import FOLDER, Choice, split_choices
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
_FIRST = (*LABEL_FIELDS, "year", "camera", FOLDER, "format")
#: The column that the folder is the beginning of.
_PATH = "relative_path"
#: Dates have the timeline, places the map.
_LEFT_OUT = {"taken", "latitude", "longitude", CAPTION_PROBABILITY, POLICY_DIGEST}


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a field.

    Attributes:
        value: the value; of lists, one element.
        count: how many images have it.
        where: the filter that selects them.
        chosen: whether the filter of ``facets`` chooses it.
    """

    value: str | int | float | bool
    count: int
    where: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of a field, most frequent first; years latest first.

    Attributes:
        field: its name; "folder" is the first folder below the ingested one.
        values: at most ``MAX_VALUES``.
        more: how many further values there are.
        clauses: the parts of the filter of ``facets`` that choose values of this field; they are
            left out where its values are counted.
    """

    field: str
    values: tuple[FacetValue, ...]
    more: int = 0
    clauses: tuple[str, ...] = ()


def facets(
    collection: Collection, where: str = "", *, include_held: bool = False
) -> tuple[Facet, ...]:
    """Count the values of the fields by which people narrow a search.

    These are year, camera, folder and format, and every other field of text, integers or booleans
    with few different values. A text with commas whose parts repeat counts as a list (keywords).

    Args:
        collection: whose images.
        where: a filter that they must satisfy. Its parts that choose values of a field do not
            apply to the values of that field.
        include_held: also count what a moderation policy holds back.

    Returns:
        At most ``MAX_FACETS``, each with at least two values or a chosen one.

    Raises:
        FilterError: the filter is not valid.
    """
    types = collection.fields("images")
    names = [name for name, kind in types.items() if _may_be_facet(name, kind)][:MAX_FIELDS]
    rest, choices = split_choices(where, types, {FOLDER, *names})
    can = collection.capabilities
    expression = compile_node(rest, types, can, visible=not include_held)
    counters = {name: _Counter() for name in [FOLDER, *names]}
    for rows in collection.scan("images", [*names, _PATH], expression):
        _count(rows, counters, choices)
    found = (
        _facet(name, counter, choices.get(name), lists=can.infix)
        for name, counter in counters.items()
    )
    kept = [facet for facet in found if facet is not None]
    place = {name: number for number, name in enumerate(_FIRST)}

    def order(facet: Facet) -> tuple[int, str]:
        return place.get(facet.field, len(place)), facet.field

    # Those whose values are chosen first: they are not left out.
    kept.sort(key=lambda facet: (not facet.clauses, order(facet)))
    return tuple(sorted(kept[:MAX_FACETS], key=order))


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
            counts.update({part for part in str(row.get(name, "")).split(LIST_SEPARATOR) if part})
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
        #: How many images were counted, with and without a value.
        self.images = 0

    @property
    def is_list(self) -> bool:
        """Whether the values are lists: many have commas, and their parts repeat."""
        return 5 * self.lists >= self.whole.total() and len(self.parts) < len(self.whole)

    def add(self, value: object) -> None:
        self.images += 1
        if not isinstance(value, str | int) or value == "" or len(self.whole) > MAX_DISTINCT:
            return
        self.whole[value] += 1
        if isinstance(value, str):
            parts = {part for part in value.split(LIST_SEPARATOR) if part}
            self.lists += len(parts) > 1
            self.parts.update(parts)


def _may_be_facet(name: str, kind: FieldType) -> bool:
    if name in _LEFT_OUT or (name.startswith(FLAG) and name.endswith("_score")):
        return False
    if name in FIXED_FIELDS:
        return name == "format"
    return kind in ("text", "integer", "boolean")


def _count(
    rows: Iterable[Row], counters: Mapping[str, _Counter], choices: Mapping[str, Choice]
) -> None:
    """Count each row in the fields whose own choices are the only ones that exclude it."""
    for row in rows:
        missed = [
            name
            for name, choice in choices.items()
            if not choice.selects(row.get(_PATH if name == FOLDER else name))
        ]
        if len(missed) > 1:
            continue
        folder, below, _ = str(row.get(_PATH, "")).partition("/")
        for name in missed or counters:
            counters[name].add((folder if below else "") if name == FOLDER else row.get(name))


def _facet(name: str, counter: _Counter, choice: Choice | None, *, lists: bool) -> Facet | None:
    """The facet of a field; None if its values do not group images."""
    elements = choice is not None and choice.of_elements
    as_list = lists and (counter.is_list or elements or name in LABEL_FIELDS)
    counts = counter.parts if as_list else counter.whole
    if name in LABEL_FIELDS and counts:
        return _of_counts(name, counts, choice, as_list=as_list)
    most = max(_FEW, _MOST_DISTINCT * counter.images)
    if len(counts) > MAX_DISTINCT or len(counts) > most:
        return None
    if choice is None and (len(counts) < 2 or counts.most_common(1)[0][1] < 2):
        return None
    return _of_counts(name, counts, choice, as_list=as_list)


def _of_counts(
    name: str, counts: Mapping[Any, int], choice: Choice | None, *, as_list: bool
) -> Facet:
    if name == "year":
        ordered = sorted(counts.items(), reverse=True)
    else:
        ordered = sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))
    shown, others = ordered[:MAX_VALUES], dict(ordered[MAX_VALUES:])
    if choice is not None:
        # Those that are chosen and frequent elsewhere only can still be taken back.
        named = [value for value in choice.values if value in others or value not in counts]
        shown += [(value, others.pop(value, 0)) for value in named[:MAX_VALUES]]
    values = tuple(
        FacetValue(
            value,
            count,
            _filter(name, value, as_list=as_list),
            choice is not None and choice.names(f"{value}/" if name == FOLDER else value),
        )
        for value, count in shown
    )
    return Facet(name, values, len(others), choice.clauses if choice is not None else ())


def _filter(name: str, value: Any, *, as_list: bool) -> str:
    """The filter that selects images with a value."""
    if name == FOLDER:
        return f"path startswith {literal(f'{value}/')}"
    field = field_reference(name)
    if not as_list:
        return f"{field} == {literal(value)}"
    return f"{field} has {literal(value)}"

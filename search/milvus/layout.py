"""``Layout``: how a collection is stored: index, vectors, shards, replicas, memory mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, TypedDict, Unpack

from twinlens.search.errors import OptionError, UnsupportedError, UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.options import Option, check_options, is_set, options_of

#: Number types of stored vectors. bfloat16 is not supported: it is as large as float16, with three
#: bits less precision for unit vectors. For 8 bits a number there are indexes: IVF_SQ8, HNSW_SQ.
VECTORS = ("float32", "float16")
_PREFIX = "twinlens."


class LayoutOptions(TypedDict, total=False):
    """The options of a layout; unset ones keep the present value, or the default.

    An option is declared here and nowhere else: the command line derives its flags from
    ``OPTIONS``.
    """

    index: Annotated[
        str,
        Option(
            None, "Index type: auto, FLAT, HNSW, IVF_SQ8, ...; see docs/operations/backends.md."
        ),
    ]
    vectors: Annotated[str, Option(None, "Precision of stored vectors: float32 or float16.")]
    shards: Annotated[
        int, Option(None, "Number of shards on a server, which are written in parallel.", ge=1)
    ]
    replicas: Annotated[
        int, Option(None, "Number of copies in memory, each on its own query nodes.", ge=1)
    ]
    mmap: Annotated[bool, Option(None, "Keep rows on the server's disk, mapped into memory.")]


#: Every option by name.
OPTIONS = options_of(LayoutOptions)
_KINDS = {name: option.kind for name, option in OPTIONS.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a collection is stored.

    Attributes:
        index, vectors, shards, replicas, mmap: see ``LayoutOptions``.
        tenants: whether its rows belong to tenants, each of which sees only its own.
        asked: the options that were set explicitly, even to their default.

    Raises:
        UsageError: a number below 1, or an unknown number type.
    """

    index: str = ann.AUTO
    vectors: str = "float32"
    shards: int = 1
    replicas: int = 1
    mmap: bool = False
    tenants: bool = False
    asked: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.vectors not in VECTORS:
            raise OptionError(f"must be {' or '.join(VECTORS)}, not {self.vectors!r}", "vectors")
        for name, number in (("shards", self.shards), ("replicas", self.replicas)):
            if number < 1:
                raise OptionError(f"must be at least 1, not {number}", name)

    @property
    def half(self) -> bool:
        """Whether vectors are stored as float16."""
        return self.vectors == "float16"

    def changed(self, **options: Unpack[LayoutOptions]) -> Layout:
        """The layout with some options changed; "" and None leave an option unchanged.

        Raises:
            UsageError: there is no such option, or it has the wrong type.
        """
        given = {name: value for name, value in options.items() if is_set(value)}
        check_options(options, _KINDS, unset=True)
        # "auto" accepts any index, so it does not count.
        asked = {name for name in given if (name, given[name]) != ("index", ann.AUTO)}
        return replace(self, **given, asked=self.asked | asked)  # type: ignore[arg-type]

    def resolved(self, can: Capabilities) -> Layout:
        """The layout with "auto" replaced by an index type of the backend.

        Raises:
            UsageError: there is no such index.
            UnsupportedError: the backend does not support the layout.
        """
        if self.half and not can.half_precision:
            raise UnsupportedError(
                f"{can.label} stores vectors as float32 only: float16 needs a server from 2.4 on"
            )
        if self.mmap and not can.mmap:
            raise UnsupportedError(
                f"{can.label} has no memory mapping: it needs a server from 2.4 on"
            )
        if self.shards > can.shards:
            raise UnsupportedError(
                f"{can.label} has at most {can.shards} shards, not {self.shards}"
            )
        if self.replicas > 1 and can.lite:
            raise UnsupportedError(f"{can.label} has no replicas: they need a server")
        return replace(self, index=ann.resolve(self.index, can.index_types, can.label))

    def check_matches(self, wanted: Layout, name: str) -> None:
        """Raise ``UsageError`` if explicitly set options differ from an existing collection's.

        Args:
            wanted: the layout with those options, from ``changed``.
            name: of the collection.
        """
        for option in LayoutOptions.__annotations__:
            if option not in wanted.asked:
                continue
            mine, value = getattr(self, option), getattr(wanted, option)
            if option == "index":
                value = ann.resolve(value, ann.KINDS, "a server")
            if value != mine:
                raise UsageError(
                    f"the collection {name!r} has {option} {_shown(mine)}, not {_shown(value)}: "
                    f"`twinlens reindex` changes that"
                )

    def same_rows(self, other: Layout) -> bool:
        """Whether both are the same on disk; replicas exist only in memory."""
        return replace(self, replicas=1) == replace(other, replicas=1)

    def properties(self) -> dict[str, str]:
        """The properties of a collection with this layout."""
        return {
            f"{_PREFIX}{name}": str(int(value)) if isinstance(value, bool) else str(value)
            for name, value in ((name, getattr(self, name)) for name in _STORED)
        }

    @classmethod
    def read(cls, properties: Mapping[str, str]) -> Layout:
        """Read the layout from a collection's properties; missing ones get the oldest default."""
        stored = {
            name: properties[f"{_PREFIX}{name}"]
            for name in _STORED
            if f"{_PREFIX}{name}" in properties
        }
        return cls(
            index=stored.get("index", ann.EXACT),
            vectors=stored.get("vectors", "float32"),
            shards=int(stored.get("shards", 1)),
            replicas=int(stored.get("replicas", 1)),
            mmap=stored.get("mmap") == "1",
            tenants=stored.get("tenants") == "1",
        )


#: The attributes that are stored as properties of a collection.
_STORED = (*LayoutOptions.__annotations__, "tenants")


def _shown(value: object) -> str:
    """A value as it is written on the command line."""
    return ("off", "on")[value] if isinstance(value, bool) else str(value)

"""How a collection is laid out on its backend: index, vectors, shards, replicas, memory mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, TypedDict, Unpack

from twinlens.search.errors import UnsupportedError, UsageError
from twinlens.search.milvus import indexes as ann
from twinlens.search.milvus.capabilities import Capabilities
from twinlens.search.options import Option, check_options, options_of, says_something

#: How vectors can be stored. bfloat16 is not among them: as large as float16, and of unit vectors'
#: numbers it keeps three bits less. For 8 bits a number there are indexes: IVF_SQ8, HNSW_SQ.
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
    """How a collection is laid out.

    Attributes:
        index, vectors, shards, replicas, mmap: see ``LayoutOptions``.
        tenants: whether its rows belong to tenants, each of which sees only its own.
        asked: which of these somebody asked for, as by default or not.

    Raises:
        UsageError: a number that is none, a type of vectors that there is not.
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
            raise UsageError(f"vectors are stored as {' or '.join(VECTORS)}, not {self.vectors!r}")
        for name, number in (("shards", self.shards), ("replicas", self.replicas)):
            if number < 1:
                raise UsageError(f"there must be at least one of {name}, not {number}")

    @property
    def half(self) -> bool:
        """Whether vectors are stored in 16 bits."""
        return self.vectors == "float16"

    def changed(self, **options: Unpack[LayoutOptions]) -> Layout:
        """The same with some of it otherwise; "" and None leave it as it is.

        Raises:
            UsageError: there is no such option, or it cannot be that.
        """
        given = {name: value for name, value in options.items() if says_something(value)}
        check_options(options, _KINDS, unset=True)
        # "auto" asks for what is best, whatever that is.
        asked = {name for name in given if (name, given[name]) != ("index", ann.AUTO)}
        return replace(self, **given, asked=self.asked | asked)  # type: ignore[arg-type]

    def resolved(self, can: Capabilities) -> Layout:
        """The same with the index's name in place of "auto".

        Raises:
            UsageError: there is no such index.
            UnsupportedError: the backend lacks something of it.
        """
        if self.half and not can.half_precision:
            raise UnsupportedError(
                f"{can.label} stores vectors in 32 bits only: a server from 2.4 on has float16"
            )
        if self.mmap and not can.mmap:
            raise UnsupportedError(
                f"{can.label} cannot map a collection into memory: a server from 2.4 on can"
            )
        if self.shards > can.shards:
            raise UnsupportedError(
                f"{can.label} has at most {can.shards} shards, not {self.shards}"
            )
        if self.replicas > 1 and can.lite:
            raise UnsupportedError(f"{can.label} has no replicas: they need a server")
        return replace(self, index=ann.resolve(self.index, can.index_types, can.label))

    def check_matches(self, wanted: Layout, name: str) -> None:
        """Raise ``UsageError`` where a collection that exists is asked to be otherwise.

        Args:
            wanted: what was asked for, by ``changed``.
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
                    f"the collection {name!r} has {option} {_said(mine)}, not {_said(value)}: "
                    f"`twinlens reindex` changes that"
                )

    def same_rows(self, other: Layout) -> bool:
        """Whether both are the same on disk: replicas are a matter of memory."""
        return replace(self, replicas=1) == replace(other, replicas=1)

    def properties(self) -> dict[str, str]:
        """As properties of a collection."""
        return {
            f"{_PREFIX}{name}": str(int(value)) if isinstance(value, bool) else str(value)
            for name, value in ((name, getattr(self, name)) for name in _KEPT)
        }

    @classmethod
    def read(cls, properties: Mapping[str, str]) -> Layout:
        """Back from a collection's properties; what is not among them is as it was at first."""
        kept = {
            name: properties[f"{_PREFIX}{name}"]
            for name in _KEPT
            if f"{_PREFIX}{name}" in properties
        }
        return cls(
            index=kept.get("index", ann.EXACT),
            vectors=kept.get("vectors", "float32"),
            shards=int(kept.get("shards", 1)),
            replicas=int(kept.get("replicas", 1)),
            mmap=kept.get("mmap") == "1",
            tenants=kept.get("tenants") == "1",
        )


#: What is kept with a collection.
_KEPT = (*LayoutOptions.__annotations__, "tenants")


def _said(value: object) -> str:
    """A value as it is said on the command line."""
    return ("off", "on")[value] if isinstance(value, bool) else str(value)

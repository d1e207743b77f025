"""What commands have in common: their shared options, in groups that a command takes as one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

import twinlens
from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from twinlens.search.milvus.layout import LayoutOptions

#: What stands together in the help of whichever command has it.
COLLECTION = "Collection"
MODEL = "Model"
LAYOUT = "Layout"
OUTPUT = "Output"

Device = Annotated[
    str,
    typer.Option(
        envvar="TWINLENS_DEVICE",
        help="auto, cpu, mps, cuda, cuda:1, openvino; several: cuda:0,cuda:1 or cuda:all.",
        rich_help_panel=MODEL,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="JSON lines for programs.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.", rich_help_panel=OUTPUT)]


@dataclass(frozen=True)
class DatabaseOptions:
    """Where the collections are."""

    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            envvar="TWINLENS_DB",
            help="A Milvus Lite path ending in .db, or the address of Milvus or twinlens. "
            "Default: a file of the user's.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = None
    token: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_TOKEN",
            help="user:password or key of a server.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = ""

    @property
    def is_twinlens(self) -> bool:
        """Whether a twinlens server is at the address, not Milvus."""
        from twinlens.remote.client import is_twinlens

        address = self.db or ""
        return address.lower().startswith(("http://", "https://")) and is_twinlens(address)

    def connect(self, collection: str = "", model: str = "auto") -> twinlens.RemoteIndex:
        """A collection of the twinlens server at the address."""
        return twinlens.connect(self.db or "", collection, model=model, key=self.token)


@dataclass(frozen=True)
class CollectionOptions(DatabaseOptions):
    """One collection, asked for nothing that needs a model to be chosen."""

    collection: Annotated[
        str,
        typer.Option(
            "--collection",
            "-c",
            envvar="TWINLENS_COLLECTION",
            help="Which collection.",
            rich_help_panel=COLLECTION,
        ),
    ] = twinlens.DEFAULT_COLLECTION
    tenant: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_TENANT",
            help="Whose rows, of a collection that is divided among tenants.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = ""

    def open(self, device: str = "auto", *, create: bool = False) -> twinlens.Index:
        """The collection.

        Args:
            device: where its own model runs.
            create: whether its database may be made.
        """
        self.check_milvus()
        return twinlens.open(
            self.db,
            self.collection,
            device=device,
            token=self.token,
            tenant=self.tenant,
            create=create,
        )

    def check_milvus(self) -> None:
        """Raise ``UsageError`` where a twinlens server is at the address."""
        if self.is_twinlens:
            raise UsageError(f"this is not done over HTTP: run it where {self.db} runs")

    def reach(
        self, model: str = "auto", *, create: bool = False
    ) -> twinlens.Index | twinlens.RemoteIndex:
        """The collection, over HTTP where a twinlens server is at the address."""
        if not self.is_twinlens:
            return self.open(create=create)
        if self.tenant:
            raise UsageError("a twinlens server knows by the key whose rows are meant: no --tenant")
        return self.connect(self.collection, model)


@dataclass(frozen=True)
class ModelOptions(CollectionOptions):
    """One collection, and the encoder to fill it or to ask it with."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            envvar="TWINLENS_MODEL",
            help="The encoder: see `twinlens models`.",
            rich_help_panel=MODEL,
        ),
    ] = "auto"
    device: Device = "auto"

    def open(self, device: str = "", *, create: bool = False) -> twinlens.Index:
        """The collection with its encoder, on ``device`` or the one that was asked for."""
        self.check_milvus()
        return twinlens.open(
            self.db,
            self.collection,
            model=self.model,
            device=device or self.device,
            token=self.token,
            tenant=self.tenant,
            create=create,
        )


@dataclass(frozen=True)
class LayoutFlags:
    """How a collection is laid out; what is not said is as it is, or as is best."""

    index_kind: Annotated[
        str,
        typer.Option(
            "--index",
            help="Kind of index: auto, FLAT, HNSW, IVF_SQ8 …: see docs/operations/backends.md.",
            show_default=False,
            rich_help_panel=LAYOUT,
        ),
    ] = ""
    vectors: Annotated[
        str,
        typer.Option(
            help="How vectors are stored: float32 or float16.",
            show_default=False,
            rich_help_panel=LAYOUT,
        ),
    ] = ""
    shards: Annotated[
        int | None,
        typer.Option(
            help="Parts of a server's collection, written beside one another.",
            min=1,
            rich_help_panel=LAYOUT,
        ),
    ] = None
    replicas: Annotated[
        int | None,
        typer.Option(
            help="Copies in memory, each on query nodes of its own.", min=1, rich_help_panel=LAYOUT
        ),
    ] = None
    mmap: Annotated[
        bool | None,
        typer.Option(
            "--mmap/--no-mmap",
            help="Leave rows on the server's disk, mapped into memory.",
            rich_help_panel=LAYOUT,
        ),
    ] = None

    @property
    def options(self) -> LayoutOptions:
        """What was said."""
        said = {
            "index": self.index_kind,
            "vectors": self.vectors,
            "shards": self.shards,
            "replicas": self.replicas,
            "mmap": self.mmap,
        }
        given = {name: value for name, value in said.items() if value not in ("", None)}
        return cast("LayoutOptions", given)


def names_of(group: type[Any]) -> list[str]:
    """What the options of a group are called on the command line."""
    names = []
    for name, kind in get_type_hints(group, include_extras=True).items():
        (option,) = kind.__metadata__
        # In an annotation typer takes the first name for the default, and sorts that out later.
        said = [one for one in (option.default, *(option.param_decls or ())) if one is not ...]
        names.append((said or [f"--{name.replace('_', '-')}"])[0].partition("/")[0])
    return names


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """The same command as typer takes it: each group among its parameters made its fields.

    Args:
        command: its parameters are options and arguments of typer, or groups: dataclasses of
            options. Those of groups come last in the help.
    """
    groups: dict[str, Any] = {}
    parameters, shared = [], []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = parameter.annotation
        if not is_dataclass(group):
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = group
        types = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = Parameter.empty if field.default is MISSING else field.default
            shared.append(
                Parameter(
                    field.name,
                    Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=types[field.name],
                )
            )
    parameters += shared

    @wraps(command)
    def flattened(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    flattened.__annotations__ = {one.name: one.annotation for one in parameters}
    vars(flattened)["__signature__"] = inspect.Signature(parameters)
    return flattened


def lines_of(path: Path) -> list[str]:
    try:
        return Path(os.path.expanduser(path)).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}") from error

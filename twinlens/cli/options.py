"""Options shared by several commands, in groups that a command takes as one parameter."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

import twinlens
from twinlens.search.errors import NotStoredError, OptionError, UsageError
from twinlens.search.paths import expand_home

if TYPE_CHECKING:
    from twinlens.search.options import Option

#: Panels of --help.
COLLECTION = "Collection"
MODEL = "Model"
LAYOUT = "Layout"
OUTPUT = "Output"
#: Flags of the layout options that are not called ``--name``.
LAYOUT_FLAGS = {"mmap": ["--mmap/--no-mmap"]}

Device = Annotated[
    str,
    typer.Option(
        envvar="TWINLENS_DEVICE",
        help="Where the model runs: auto, cpu, mps, cuda, cuda:1, openvino; several GPUs: "
        "cuda:0,cuda:1 or all.",
        rich_help_panel=MODEL,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON lines, for programs.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=OUTPUT)
]


@dataclass(frozen=True)
class DatabaseOptions:
    """The database to use."""

    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            envvar="TWINLENS_DB",
            help="The database: a Milvus Lite path ending in .db, or the address of a Milvus or "
            "twinlens server. Default: twinlens.db in your data folder.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = None
    token: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_TOKEN",
            help="The server's password as user:password, or its API key.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = ""

    @property
    def is_twinlens(self) -> bool:
        """Whether the address is a twinlens server, and not Milvus."""
        from twinlens.remote.client import is_twinlens

        address = self.db or ""
        return address.lower().startswith(("http://", "https://")) and is_twinlens(address)

    def connect(self, collection: str = "", model: str = "auto") -> twinlens.RemoteIndex:
        """Open a collection of the twinlens server at the address."""
        return twinlens.connect(self.db or "", collection, model=model, key=self.token)


@dataclass(frozen=True)
class CollectionOptions(DatabaseOptions):
    """One collection, which uses its own model."""

    collection: Annotated[
        str,
        typer.Option(
            "--collection",
            "-c",
            envvar="TWINLENS_COLLECTION",
            help="The collection's name.",
            rich_help_panel=COLLECTION,
        ),
    ] = twinlens.DEFAULT_COLLECTION
    tenant: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_TENANT",
            help="The tenant whose rows to use, in a collection with tenants.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = ""

    def open(self, device: str = "auto", *, create: bool = False) -> twinlens.Index:
        """Open the collection in this process.

        Args:
            device: where its model runs.
            create: create the database if it does not exist.
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
        """Raise ``UsageError`` if the address is a twinlens server."""
        if self.is_twinlens:
            raise UsageError(f"this command does not work over HTTP: run it where {self.db} runs")

    def reach(
        self, model: str = "auto", *, create: bool = False
    ) -> twinlens.Index | twinlens.RemoteIndex:
        """Open the collection, over HTTP if the address is a twinlens server."""
        if not self.is_twinlens:
            return self.open(create=create)
        refuse_tenant(self.tenant)
        return self.connect(self.collection, model)


@dataclass(frozen=True)
class ModelOptions(CollectionOptions):
    """One collection, and the model to fill or search it with."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            envvar="TWINLENS_MODEL",
            help="The embedding model; `twinlens models` lists some.",
            rich_help_panel=MODEL,
        ),
    ] = "auto"
    device: Device = "auto"

    def open(self, device: str = "", *, create: bool = False) -> twinlens.Index:
        """Open the collection in this process, with its model on ``device`` or on --device."""
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


def flat(
    command: Callable[..., None], called: Mapping[str, str] = MappingProxyType({})
) -> Callable[..., None]:
    """Expand the groups among a command's parameters into their options, for typer.

    An ``OptionError`` of the command names the option as it is typed.

    Args:
        command: its parameters are typer options and arguments, or groups: dataclasses of options,
            which come last in the help.
        called: parameters of the command by the names of these options in Python, if they differ.
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
    flags = {one.name: flag for one in parameters if (flag := _flag(one))}

    @wraps(command)
    def flattened(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        try:
            command(**given)
        except OptionError as error:
            flag = flags.get(called.get(error.option, error.option))
            raise (UsageError(f"{flag} {error.wrong}") if flag else error) from error
        except NotStoredError as error:
            raise UsageError(f"{error}{_file_called(error.name)}") from error

    flattened.__annotations__ = {one.name: one.annotation for one in parameters}
    vars(flattened)["__signature__"] = inspect.Signature(parameters)
    return flattened


def _file_called(name: str) -> str:
    """What a name that is not stored is on this machine, for the end of a sentence."""
    if not name or "\0" in name or "://" in name or re.fullmatch(r"[0-9a-f]{16,}", name):
        return ""
    path = expand_home(name)
    if os.path.isdir(path):
        return ": it is a folder, so name one of its pictures"
    if os.path.exists(path):
        return f": `twinlens ingest {shlex.quote(name)}` stores that file"
    return ", and there is no such file"


def _flag(parameter: Parameter) -> str:
    """How an option is typed; "" for an argument."""
    for one in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(one, OptionInfo):
            # Typer takes the first name of an option for its default, and sorts that out later.
            names = [str(name) for name in (one.default, *(one.param_decls or ()))]
            long = (name for name in names if name.startswith("--"))
            return next(long, f"--{parameter.name.replace('_', '-')}").partition("/")[0]
    return ""


def with_options(
    options: Mapping[str, Option],
    *,
    before: str,
    panel: str,
    panels: Mapping[str, str] = MappingProxyType({}),
    flags: Mapping[str, Sequence[str]] = MappingProxyType({}),
    help: Mapping[str, str] = MappingProxyType({}),  # noqa: A002 - as typer calls it
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put declared options in place of a command's ``**options``, for typer.

    Args:
        options: the options by name.
        before: the parameter of the command that they are inserted before.
        panel, panels: the panel of --help, and those of single options.
        flags: the flags of options that are not called ``--name``.
        help: the help of options, where it differs from the declaration.
    """

    def flag_of(name: str, option: Option) -> Parameter:
        kind: Any = option.kind
        default = option.default
        if kind is list:
            kind, default = list[str], []
        elif kind is object:
            kind = str
        names = flags.get(name, [f"--{name.replace('_', '-')}"] if kind is bool else [])
        flag = typer.Option(
            *names,
            help=help.get(name, option.help),
            # Typer has no exclusive bound: there the option's own check complains.
            min=option.ge,
            max=option.le if option.gt is None else None,
            show_default=option.default not in ("", (), False, None),
            rich_help_panel=panels.get(name, panel),
        )
        if default is None:
            kind = kind | None
        return Parameter(
            name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, flag]
        )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            one.replace(kind=Parameter.KEYWORD_ONLY)
            for one in signature.parameters.values()
            if one.kind is not Parameter.VAR_KEYWORD
        ]
        at = next(number for number, one in enumerate(own) if one.name == before)
        own[at:at] = [flag_of(name, option) for name, option in options.items()]
        vars(command)["__signature__"] = signature.replace(parameters=own)
        return command

    return decorate


def refuse_tenant(tenant: str) -> None:
    """Raise ``UsageError`` if a tenant is given to a twinlens server."""
    if tenant:
        raise UsageError("the API key of a twinlens server selects the tenant: leave out --tenant")


def lines_of(path: Path) -> list[str]:
    """Read the lines of a text file.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return expand_home(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}") from error

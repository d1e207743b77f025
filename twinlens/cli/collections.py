"""``twinlens info``, ``delete``, ``export``, ``import`` and ``reindex``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

import twinlens
from twinlens.cli.advice import better_model
from twinlens.cli.options import (
    LAYOUT,
    LAYOUT_FLAGS,
    MODEL,
    AsJson,
    CollectionOptions,
    DatabaseOptions,
    Device,
    Quiet,
    refuse_tenant,
    with_options,
)
from twinlens.cli.output import (
    ITEMS_FAILED,
    contents,
    counted,
    new_table,
    print_failures,
    show,
)
from twinlens.cli.printing import confirm, say, say_json
from twinlens.search.errors import StoreError, TwinlensError, UsageError
from twinlens.search.milvus.layout import OPTIONS, LayoutOptions
from twinlens.search.models.catalogue import STARTER
from twinlens.search.options import is_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinlens.search.milvus.collection import CollectionInfo
    from twinlens.search.milvus.database import Database


#: How many tenants of a collection are listed.
_LISTED_TENANTS = 20


def info(
    place: DatabaseOptions,
    tenant: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_TENANT",
            help="The tenant whose rows to count, in collections with tenants.",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the collections with their counts, models and tenants, and the backend's features."""
    uri, backend, features, infos = _inspect(place, tenant)
    if as_json:
        for one in infos:
            say_json(_info_dict(one) | {"db": uri, "backend": backend})
        return
    say(f"{uri}: {backend}{features}")
    if not infos:
        none = "no collections yet: `twinlens ingest FOLDER` creates one"
        say(f"no collection has rows of the tenant {tenant}" if tenant else none)
        return
    table = new_table(
        "collection", "images", "texts", "files", "failed", "model", "dim", "fingerprint", "index"
    )
    for one in infos:
        print_ = one.fingerprint
        table.add_row(
            one.name, f"{one.images:,}", f"{one.texts:,}", f"{one.files:,}", f"{one.failed:,}",
            print_.label, str(print_.dim), print_.digest, _index_of(one),
        )  # fmt: skip
    show(table)
    for one in infos:
        if one.unindexed:
            wait = "waits" if one.unindexed == 1 else "wait"
            say(f"{one.name}: {counted(one.unindexed, 'row')} {wait} to be indexed")
        if one.lost:
            from twinlens.search.milvus.consistency import lost_message

            say(lost_message(one.name, one.lost))
        if one.snapshot_bytes:
            size = f"{one.snapshot_bytes / 1e6:,.1f} MB"
            say(f"{one.name}: {size} of snapshots for searching, a cache that can be deleted")
        if one.fingerprint.architecture == STARTER:
            say(f"{one.name}: starter is for trying and research, not for commercial use")
            say(better_model(place, one))
        if one.tenants is not None:
            more = len(one.tenants) - _LISTED_TENANTS
            named = ", ".join(one.tenants[:_LISTED_TENANTS]) + (
                f" and {more:,} more" if more > 0 else ""
            )
            say(f"{one.name}: {counted(len(one.tenants), 'tenant')}{named and ': '}{named}")


def _inspect(place: DatabaseOptions, tenant: str) -> tuple[str, str, str, list[CollectionInfo]]:
    """The database's address, backend, features and collections."""
    if place.is_twinlens:
        refuse_tenant(tenant)
        with place.connect() as server:
            return server.url, server.backend, ", over HTTP", server.collections()
    from twinlens.search.milvus.database import Database

    uri = place.db or twinlens.default_db()
    with Database(uri, token=place.token, create=False) as database:
        can = database.capabilities
        infos = [one for name in database.names() if (one := _describe(database, name, tenant))]
        hybrid = "full-text and hybrid search" if can.hybrid else "no full-text search"
        half = "half-precision vectors" if can.half_precision else "float32 vectors only"
        features = f" ({hybrid}; {half}; indexes: {', '.join(can.index_types)})"
        return database.uri, can.label, features, infos


def _describe(database: Database, name: str, tenant: str) -> CollectionInfo | None:
    """Describe a collection; ``None`` if it was just dropped, or has no rows of the tenant."""
    try:
        index = twinlens.Index(database, name)
        if not tenant:
            return index.info()
        return index.for_tenant(tenant).info() if tenant in index.tenants() else None
    except StoreError:
        if database.exists(name):
            raise
        return None


def delete(
    place: CollectionOptions,
    paths: Annotated[
        list[str] | None, typer.Argument(help="Pictures or folders to remove from the collection.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete the whole collection.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove pictures from a collection, or delete the collection; files stay."""
    if bool(paths) == everything:
        raise UsageError("give the paths to remove, or --all for the whole collection")
    with place.reach() as index:
        if not everything:
            _delete_paths(index, place.collection, paths or [])
            return
        now = index.info()
        holding = contents(now.images, now.texts)
        what = (
            f"the rows of {place.tenant} in {place.collection}"
            if place.tenant
            else place.collection
        )
        if not yes and not confirm(f"Delete {what}, {holding}?"):
            raise TwinlensError("nothing was deleted")
        index.drop()
    say(f"deleted {what}: {holding}")


def _delete_paths(
    index: twinlens.Index | twinlens.RemoteIndex, collection: str, paths: Sequence[str]
) -> None:
    """Remove paths from a collection; one under which nothing is stored is named."""
    from twinlens.ingest.sources.paths import name_of

    names = {name_of(path): path for path in paths}
    pictures = removed = 0
    found: list[str] = []
    unknown: list[str] = []
    # The longest first, so that a path is found before the folder that it lies in.
    for name in sorted(names, key=len, reverse=True):
        deleted = index.delete(name)
        pictures += deleted
        removed += deleted.paths
        if deleted or deleted.paths:
            found.append(name)
        elif not any(one.startswith(f"{name}/") for one in found):
            unknown.append(names[name])
    if len(unknown) == len(names):
        raise TwinlensError(
            f"nothing in {collection!r} is stored under these paths; nothing was deleted"
        )
    told = counted(removed, "path")
    if pictures:
        say(f"deleted {counted(pictures, 'picture')} from {collection}: removed {told}")
    else:
        say(f"removed {told} from {collection}: no picture had these paths alone")
    for path in unknown:
        say(f"failed: {path}: nothing is stored under this path", file=sys.stderr)
    if unknown:
        raise typer.Exit(ITEMS_FAILED)


def export(
    place: CollectionOptions,
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Export a collection to a folder of Parquet and .npy files."""
    with place.open() as index:
        done = index.export(folder)
    say(f"exported {contents(done.images, done.texts, done.files)} to {done.folder}")


def import_(
    place: CollectionOptions,
    folder: Annotated[Path, typer.Argument(help="A folder written by `twinlens export`.")],
) -> None:
    """Import an export into this or any other database, row by row as it was."""
    with place.open(create=True) as index:
        done = index.import_(folder)
    say(f"imported {contents(done.images, done.texts, done.files)} into {place.collection}")


@with_options(OPTIONS, before="memory", panel=LAYOUT, flags=LAYOUT_FLAGS)
def reindex(
    place: CollectionOptions,
    memory: Annotated[
        float,
        typer.Option(
            help="GiB of server memory for vectors, for --index auto.",
            min=0,
            rich_help_panel=LAYOUT,
        ),
    ] = 0.0,
    drop_unreadable: Annotated[
        bool,
        typer.Option(
            "--drop-unreadable",
            help="Drop pictures that cannot be read again.",
            rich_help_panel="Run",
        ),
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option(
            "--rollback", help="Switch back to the previous generation.", rich_help_panel="Run"
        ),
    ] = False,
    drop_old: Annotated[
        bool,
        typer.Option(
            "--drop-old", help="Delete all generations but the active one.", rich_help_panel="Run"
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="The new embedding model. Default: the present one.",
            rich_help_panel=MODEL,
        ),
    ] = "",
    device: Device = "auto",
    quiet: Quiet = False,
    **layout: Unpack[LayoutOptions],
) -> None:
    """Rebuild a collection for another model or index, then switch to it."""
    building = bool(model) or any(map(is_set, layout.values()))
    changes = ", ".join(["--model", *(f"--{name}" for name in OPTIONS)])
    if rollback and building:
        raise UsageError(f"--rollback rebuilds nothing: leave out {changes}")
    if memory and layout["index"] != "auto":
        raise UsageError("--memory works with --index auto only: add it")
    if drop_unreadable and not building:
        raise UsageError(f"--drop-unreadable works with a rebuild only: add {changes}")
    if not (building or rollback or drop_old):
        raise UsageError(f"nothing to do: give {changes}, --rollback or --drop-old")
    with place.open(device) as index:
        if rollback:
            say(f"{place.collection} is back to generation {index.rollback().number}")
        if building:
            from tqdm import tqdm

            with tqdm(unit=" rows", disable=True if quiet else None, file=sys.stderr) as bar:
                outcome = index.reindex(
                    model,
                    **layout,
                    memory=memory,
                    drop_unreadable=drop_unreadable,
                    progress=bar,
                )
            print_failures(outcome)
            if not outcome.switched:
                say(
                    f"generation {outcome.generation} is not active: "
                    f"{counted(outcome.failed_count, 'picture')} cannot be read again. Restore "
                    "the files, or use --drop-unreadable",
                    file=sys.stderr,
                )
                raise typer.Exit(ITEMS_FAILED)
            if not quiet:
                now = index.info()
                uses = f"generation {outcome.generation} ({now.fingerprint.label}, {now.index})"
                if outcome.seconds:
                    rebuilt = contents(outcome.images, outcome.texts)
                    say(f"{rebuilt} in {outcome.seconds:.1f} s; {place.collection} now uses {uses}")
                else:
                    say(f"nothing to rebuild: {place.collection} uses {uses}")
        if drop_old:
            dropped = index.drop_old()
            earlier = counted(len(dropped), "earlier or unfinished generation")
            say(f"deleted {earlier} of {place.collection}")


def _index_of(one: CollectionInfo) -> str:
    return one.index if one.vectors == "float32" else f"{one.index} of {one.vectors}"


def _info_dict(one: CollectionInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one) | {
        "fingerprint": asdict(one.fingerprint) | {"digest": one.fingerprint.digest}
    }

"""``twinlens info``, ``delete``, ``export``, ``import`` and ``reindex``: whole collections."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import twinlens
from twinlens.cli.options import (
    LAYOUT,
    MODEL,
    AsJson,
    CollectionOptions,
    DatabaseOptions,
    Device,
    LayoutFlags,
    Quiet,
    names_of,
)
from twinlens.cli.output import (
    ITEMS_FAILED,
    contents,
    counted,
    new_table,
    print_failures,
    show,
)
from twinlens.search.errors import StoreError, TwinlensError, UsageError

if TYPE_CHECKING:
    from twinlens.search.milvus.collection_info import CollectionInfo
    from twinlens.search.milvus.database import Database


#: Tenants of a collection that are named.
_NAMED = 20


def info(
    place: DatabaseOptions,
    tenant: Annotated[
        str,
        typer.Option(
            envvar="TWINLENS_TENANT",
            help="Whose rows to count, of collections that are divided among tenants.",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show the collections: their counts, models and tenants, and what the backend can do."""
    uri, backend, what_it_can, infos = _held(place, tenant)
    if as_json:
        for one in infos:
            print(json.dumps(_info_dict(one) | {"db": uri, "backend": backend}))
        return
    print(f"{uri}: {backend}{what_it_can}")
    if not infos:
        none = "no collections yet: `twinlens ingest FOLDER` makes one"
        print(f"no collection has rows of the tenant {tenant}" if tenant else none)
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
            wait = "waits for its" if one.unindexed == 1 else "wait for their"
            print(f"{one.name}: {counted(one.unindexed, 'row')} {wait} index")
        if one.tenants is not None:
            more = len(one.tenants) - _NAMED
            named = ", ".join(one.tenants[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
            print(f"{one.name}: {counted(len(one.tenants), 'tenant')}{named and ': '}{named}")


def _held(place: DatabaseOptions, tenant: str) -> tuple[str, str, str, list[CollectionInfo]]:
    """Where the database is, what it is, what it can do, and what it holds."""
    if place.is_twinlens:
        if tenant:
            raise UsageError("a twinlens server knows by the key whose rows are meant: no --tenant")
        with place.connect() as server:
            return server.url, server.backend, ", over HTTP", server.collections()
    from twinlens.search.milvus.database import Database

    uri = place.db or twinlens.default_db()
    with Database(uri, token=place.token, create=False) as database:
        can = database.capabilities
        infos = [one for name in database.names() if (one := _described(database, name, tenant))]
        hybrid = "full-text and hybrid search" if can.hybrid else "no full-text search"
        half = "half-precision vectors" if can.half_precision else "float32 vectors only"
        able = f" ({hybrid}; {half}; indexes: {', '.join(can.index_types)})"
        return database.uri, can.label, able, infos


def _described(database: Database, name: str, tenant: str) -> CollectionInfo | None:
    """A collection; ``None`` where it was dropped meanwhile, or the tenant has no rows in it."""
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
        list[str] | None, typer.Argument(help="Pictures or folders to take out.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete the whole collection.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take pictures out of a collection, or delete it; files are left alone."""
    if bool(paths) == everything:
        raise UsageError("name the paths to take out, or say --all for the whole collection")
    with place.reach() as index:
        if not everything:
            count = index.delete(*(paths or ()))
            if not count:
                raise TwinlensError(
                    f"no picture in {place.collection!r} has only such a path; nothing was deleted"
                )
            print(f"deleted {count} from {place.collection}")
            return
        now = index.info()
        holding = contents(now.images, now.texts)
        if not yes and not typer.confirm(f"Delete {place.collection}, {holding}?"):
            raise TwinlensError("nothing was deleted")
        index.drop()
    print(f"deleted {place.collection}: {holding}")


def export(
    place: CollectionOptions,
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Write a collection to a folder of Parquet and .npy files, to be imported anywhere."""
    with place.open() as index:
        done = index.export(folder)
    print(f"exported {contents(done.images, done.texts, done.files)} to {done.folder}")


def import_(
    place: CollectionOptions,
    folder: Annotated[Path, typer.Argument(help="What `twinlens export` has written.")],
) -> None:
    """Bring an export back, into this or any other database, as it was."""
    with place.open(create=True) as index:
        done = index.import_(folder)
    print(f"imported {contents(done.images, done.texts, done.files)} into {place.collection}")


def reindex(
    place: CollectionOptions,
    layout: LayoutFlags,
    memory: Annotated[
        float,
        typer.Option(
            help="GiB the server has for vectors, for --index auto.", min=0, rich_help_panel=LAYOUT
        ),
    ] = 0.0,
    drop_unreadable: Annotated[
        bool,
        typer.Option(
            "--drop-unreadable",
            help="Go on without pictures that cannot be read again.",
            rich_help_panel="Run",
        ),
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option(
            "--rollback", help="Serve the generation before again.", rich_help_panel="Run"
        ),
    ] = False,
    drop_old: Annotated[
        bool,
        typer.Option(
            "--drop-old", help="Delete what is not served any more.", rich_help_panel="Run"
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="The new encoder. Default: the present one.",
            rich_help_panel=MODEL,
        ),
    ] = "",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Build a collection anew for another model or index, beside the one that is served."""
    building = bool(model or layout.options)
    changes = ", ".join(["--model", *names_of(LayoutFlags)])
    if rollback and building:
        raise UsageError(f"--rollback builds nothing anew: leave out {changes}")
    if memory and layout.options.get("index") != "auto":
        raise UsageError("--memory is what --index auto chooses by: say that, too")
    if drop_unreadable and not building:
        raise UsageError(f"--drop-unreadable goes with what is built anew: {changes}")
    if not (building or rollback or drop_old):
        raise UsageError(f"say what to change: {changes}, --rollback, --drop-old")
    with place.open(device) as index:
        if rollback:
            print(f"{place.collection} is served from generation {index.rollback().number} again")
        if building:
            from tqdm import tqdm

            with tqdm(unit=" rows", disable=True if quiet else None, file=sys.stderr) as bar:
                outcome = index.reindex(
                    model,
                    **layout.options,
                    memory=memory,
                    drop_unreadable=drop_unreadable,
                    progress=bar,
                )
            print_failures(outcome)
            if not outcome.switched:
                print(
                    f"generation {outcome.generation} is not served: "
                    f"{counted(outcome.failed_count, 'picture')} cannot be read again. Bring back "
                    "what is missing, or say --drop-unreadable",
                    file=sys.stderr,
                )
                raise typer.Exit(ITEMS_FAILED)
            if not quiet:
                now = index.info()
                print(
                    f"{contents(outcome.images, outcome.texts)} in "
                    f"{outcome.seconds:.1f} s; {place.collection} is served from generation "
                    f"{outcome.generation} ({now.fingerprint.label}, {now.index})"
                )
        if drop_old:
            dropped = index.drop_old()
            earlier = counted(len(dropped), "earlier or unfinished generation")
            print(f"deleted {earlier} of {place.collection}")


def _index_of(one: CollectionInfo) -> str:
    return one.index if one.vectors == "float32" else f"{one.index} of {one.vectors}"


def _info_dict(one: CollectionInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one) | {
        "fingerprint": asdict(one.fingerprint) | {"digest": one.fingerprint.digest}
    }

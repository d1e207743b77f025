"""``twinlens info``, ``delete``, ``export``, ``import`` and ``reindex``: whole collections."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import twinlens
from search.errors import TwinlensError, UsageError
from twinlens_cli.exits import ITEMS_FAILED
from twinlens_cli.options import AsJson, Collection, Database, Device, Laying, Quiet
from twinlens_cli.tables import new_table, print_failures, show

if TYPE_CHECKING:
    from search.collection import CollectionInfo


def info(database: Database, as_json: AsJson = False) -> None:
    """Show the collections: their counts and models, and what the backend can do."""
    uri, backend, what_it_can, infos = _held(database)
    if as_json:
        for one in infos:
            print(json.dumps(_info_dict(one) | {"db": uri, "backend": backend}))
        return
    print(f"{uri}: {backend}{what_it_can}")
    if not infos:
        print("no collections yet: `twinlens ingest FOLDER` makes one")
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
            print(f"{one.name}: {one.unindexed:,} rows wait for their index")


def _held(database: Database) -> tuple[str, str, str, list[CollectionInfo]]:
    """Where the database is, what it is, what it can do, and what it holds."""
    if database.is_twinlens:
        with database.connect() as server:
            return server.url, server.backend, ", over HTTP", server.collections()
    from search.store import Store

    with Store(database.db or twinlens.default_db(), token=database.token) as store:
        can = store.capabilities
        infos = [twinlens.Index(store, name).info() for name in store.names()]
        hybrid = "full-text and hybrid search" if can.hybrid else "no full-text search"
        half = "half-precision vectors" if can.half_precision else "float32 vectors only"
        able = f" ({hybrid}; {half}; indexes: {', '.join(can.index_types)})"
        return store.uri, can.label, able, infos


def delete(
    place: Collection,
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
        held = index.info()
        if not yes and not typer.confirm(
            f"Delete {place.collection} with {held.images} images and {held.texts} texts?"
        ):
            raise TwinlensError("nothing was deleted")
        index.drop()
    print(f"deleted {place.collection}: {held.images} images, {held.texts} texts")


def export(
    place: Collection,
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Write a collection to a folder of Parquet and .npy files, to be imported anywhere."""
    with place.open() as index:
        done = index.export(folder)
    print(f"exported {done.images} images, {done.texts} texts, {done.files} files to {done.folder}")


def import_(
    place: Collection,
    folder: Annotated[Path, typer.Argument(help="What `twinlens export` has written.")],
) -> None:
    """Bring an export back, into this or any other database, as it was."""
    with place.open() as index:
        done = index.import_(folder)
    counts = f"{done.images} images, {done.texts} texts, {done.files} files"
    print(f"imported {counts} into {place.collection}")


def reindex(
    place: Collection,
    laying: Laying,
    memory: Annotated[
        float, typer.Option(help="GiB the server has for vectors, for --index auto.", min=0)
    ] = 0.0,
    drop_unreadable: Annotated[
        bool,
        typer.Option("--drop-unreadable", help="Go on without pictures that cannot be read again."),
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Serve the generation before again.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Delete what is not served any more.")
    ] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The new encoder. Default: the present one.")
    ] = "",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Build a collection anew for another model or index, beside the one that is served."""
    building = bool(model or laying.options)
    if rollback and building:
        raise UsageError("--rollback goes with neither --model nor --index nor --vectors")
    if not (building or rollback or drop_old):
        raise UsageError("say what to change: --model, --index, --vectors, --rollback, --drop-old")
    with place.open(device) as index:
        if rollback:
            print(f"{place.collection} is served from generation {index.rollback().number} again")
        if building:
            from tqdm import tqdm

            with tqdm(unit=" rows", disable=True if quiet else None, file=sys.stderr) as bar:
                outcome = index.reindex(
                    model,
                    **laying.options,
                    memory=memory,
                    drop_unreadable=drop_unreadable,
                    progress=bar,
                )
            print_failures(outcome)
            if not outcome.switched:
                print(
                    f"generation {outcome.generation} is not served: "
                    f"{outcome.failed_count} pictures cannot be read again. Bring them back, or "
                    "say --drop-unreadable",
                    file=sys.stderr,
                )
                raise typer.Exit(ITEMS_FAILED)
            if not quiet:
                held = index.info()
                print(
                    f"{outcome.images} images and {outcome.texts} texts in "
                    f"{outcome.seconds:.1f} s; {place.collection} is served from generation "
                    f"{outcome.generation} ({held.fingerprint.label}, {held.index})"
                )
        if drop_old:
            dropped = index.drop_old()
            print(f"deleted {len(dropped)} earlier or unfinished generations of {place.collection}")


def _index_of(one: CollectionInfo) -> str:
    return one.index if one.vectors == "float32" else f"{one.index} of {one.vectors}"


def _info_dict(one: CollectionInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one) | {
        "fingerprint": asdict(one.fingerprint) | {"digest": one.fingerprint.digest}
    }

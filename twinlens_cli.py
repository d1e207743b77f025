"""The ``twinlens`` command: thin, since whatever it does three lines of Python can do."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import twinlens
from search.errors import TwinlensError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from ingest.preview import Preview
    from ingest.report import IngestReport
    from search.engine import Hit

FAILURE = 1
USAGE = 2
ITEMS_FAILED = 3
INTERRUPTED = 130
#: How many failed items are listed one by one.
LISTED = 20

app = typer.Typer(
    name="twinlens",
    help="Find pictures by words, words by pictures, pictures by pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 failed, 2 wrongly asked, 3 some items could not be ingested.",
)

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="TWINLENS_DB",
        help="A Milvus Lite path ending in .db, or a server's URI. Default: a file of the user's.",
        show_default=False,
    ),
]
Collection = Annotated[
    str, typer.Option("--collection", "-c", envvar="TWINLENS_COLLECTION", help="Which collection.")
]
Token = Annotated[
    str,
    typer.Option(
        envvar="TWINLENS_TOKEN", help="user:password or API key of a server.", show_default=False
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", envvar="TWINLENS_MODEL", help="The encoder: see `twinlens models`."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="TWINLENS_DEVICE",
        help="auto, cpu, mps, cuda, cuda:1; several: cuda:0,cuda:1 or cuda:all.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines for programs.")]


def run() -> None:
    """Run the command; every error of ours becomes one line and an exit code."""
    try:
        app()
    except TwinlensError as error:
        print(f"twinlens: {error}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILURE)
    except KeyboardInterrupt:
        print("twinlens: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever reads our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _version(asked: bool) -> None:
    if asked:
        print(f"twinlens {twinlens.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def ingest(
    paths: Annotated[
        list[Path], typer.Argument(help="Folders of pictures, pictures, caption files.")
    ],
    captions: Annotated[
        Path | None, typer.Option(help="Captions for the pictures: JSON, CSV, Parquet, COCO, Flickr.")
    ] = None,
    include: Annotated[
        list[str], typer.Option(help="Take only files matching this glob; can be repeated.")
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    exclude: Annotated[
        list[str], typer.Option(help="Pass over files matching this glob; can be repeated.")
    ] = [],  # noqa: B006
    image_column: Annotated[str, typer.Option(help="The caption file's picture column.")] = "",
    caption_column: Annotated[str, typer.Option(help="The caption file's text column.")] = "",
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete pictures of these folders that are gone.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try items again that failed before.")
    ] = False,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    model: Model = "auto",
    device: Device = "auto",
    token: Token = "",
    report: Annotated[
        Path | None, typer.Option(help="Write a JSON line for every item to this file.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
) -> None:
    """Store pictures and captions; what is stored already is not encoded again."""
    source: dict[str, Any] = {
        "captions": captions,
        "include": include,
        "exclude": exclude,
        "image_column": image_column,
        "caption_column": caption_column,
    }
    with twinlens.open(db, collection, model=model, device=device, token=token) as index:
        if dry_run:
            _print_preview(index.preview(*paths, **source))
            return
        with _progress(paths, quiet) as progress:
            outcome = index.ingest(
                *paths,
                **source,
                prune=prune,
                retry_failed=retry_failed,
                report=report,
                progress=progress,
            )
        if not quiet:
            print(_summary(outcome, index))
    for failure in outcome.failed[:LISTED]:
        print(f"failed: {failure.uri}: {failure.reason}", file=sys.stderr)
    if outcome.failed_count > LISTED:
        more = outcome.failed_count - LISTED
        print(f"... and {more} more: --report FILE lists them all", file=sys.stderr)
    if outcome.failed_count:
        raise typer.Exit(ITEMS_FAILED)


@app.command()
def search(
    words: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to look for instead.")] = None,
    target: Annotated[str, typer.Option("--in", help="What to find: images or texts.")] = "images",
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many results.")] = 10,
    where: Annotated[
        str, typer.Option(help="Only what satisfies a filter: 'year >= 2020'.", show_default=False)
    ] = "",
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the results as a page, too.")] = None,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    model: Model = "auto",
    device: Device = "auto",
    token: Token = "",
) -> None:
    """Find pictures or texts by words or by a picture."""
    with twinlens.open(db, collection, model=model, device=device, token=token) as index:
        hits = index.search(words, image=image, target=target, limit=limit, where=where)
    asked = words if words is not None else str(image)
    if html is not None:
        from search.sheet import Section, write_sheet

        section = Section(asked, target, hits, picture=image)
        write_sheet(html, [section], title=asked, subtitle=f"{len(hits)} {target}")
    if as_json:
        for hit in hits:
            print(json.dumps(hit.to_dict(), ensure_ascii=False))
        return
    print_hits(f"{asked} → {target}", hits)
    if html is not None:
        print(f"written to {html}")


@app.command()
def info(
    as_json: AsJson = False,
    db: Db = None,
    token: Token = "",
) -> None:
    """Show the collections: their counts and models, and what the backend can do."""
    from search.store import Store

    with Store(db or twinlens.default_db(), token=token) as store:
        can = store.capabilities
        infos = [twinlens.Index(store, name).info() for name in store.names()]
        uri = store.uri
    if as_json:
        for one in infos:
            print(json.dumps(_info_dict(one) | {"db": uri, "backend": can.label}))
        return
    hybrid = "full-text and hybrid search" if can.hybrid else "no full-text search"
    half = "half-precision vectors" if can.half_precision else "float32 vectors only"
    print(f"{uri}: {can.label} ({hybrid}; {half}; indexes: {', '.join(can.index_types)})")
    if not infos:
        print("no collections yet: `twinlens ingest FOLDER` makes one")
        return
    table = _table(
        "collection", "images", "texts", "files", "failed", "model", "dim", "fingerprint"
    )
    for one in infos:
        print_ = one.fingerprint
        table.add_row(
            one.name, f"{one.images:,}", f"{one.texts:,}", f"{one.files:,}", f"{one.failed:,}",
            print_.label, str(print_.dim), print_.digest,
        )  # fmt: skip
    _print(table)


models_app = typer.Typer(help="Show the encoders we recommend, or fetch one ahead.")
app.add_typer(models_app, name="models")


@models_app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="A model, as `twinlens models` names it.")],
) -> None:
    """Fetch a model's weights ahead, so that a later ingest needs no network."""
    from search.models import resolve
    from search.weights import fetch, is_cached

    spec = resolve(name)
    was_here = is_cached(spec)
    fetch(spec)
    print(f"{spec.label} {'was here already' if was_here else 'is here now'}")


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Every architecture and tag that OpenCLIP knows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the encoders we recommend, what each costs and finds."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from search.models import CATALOGUE

    if everything:
        import open_clip

        for architecture, tag in open_clip.list_pretrained():
            print(f"{architecture}:{tag}")
        return
    if as_json:
        for entry in CATALOGUE:
            print(json.dumps(asdict(entry)))
        return
    table = _table("model", "openclip name", "text→image", "image→text", "dim", "MB", "licence", "")
    for entry in CATALOGUE:
        table.add_row(
            entry.name, entry.spec, _percent(entry.text_to_image), _percent(entry.image_to_text),
            str(entry.dim), f"{entry.download_mb:,}", entry.licence, entry.note,
        )  # fmt: skip
    _print(table)
    print("text→image and image→text: COCO recall@1 in per cent, zero-shot, as published")


@app.command()
def delete(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Pictures or folders to take out.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete the whole collection.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    token: Token = "",
) -> None:
    """Take pictures out of a collection, or delete it; files are left alone."""
    if bool(paths) == everything:
        raise UsageError("name the paths to take out, or say --all for the whole collection")
    with twinlens.open(db, collection, token=token) as index:
        if not everything:
            count = index.delete(*(paths or ()))
            if not count:
                raise TwinlensError(
                    f"nothing in {collection!r} has such a path; nothing was deleted"
                )
            print(f"deleted {count} from {collection}")
            return
        held = index.info()
        if not yes and not typer.confirm(
            f"Delete {collection} with {held.images} images and {held.texts} texts?"
        ):
            raise TwinlensError("nothing was deleted")
        index.drop()
    print(f"deleted {collection}: {held.images} images, {held.texts} texts")


@contextmanager
def _progress(paths: Sequence[Path], quiet: bool) -> Iterator[Any]:
    from threading import Thread

    from tqdm import tqdm

    from ingest.sources.folder import count

    with tqdm(unit=" items", disable=True if quiet else None, file=sys.stderr) as bar:
        if all(path.is_dir() for path in paths):
            # Beside the work: the bar learns how far it has to go when the counting is done.
            def learn() -> None:
                bar.total = sum(map(count, paths))

            Thread(target=learn, daemon=True).start()
        yield bar


def _print_preview(preview: Preview) -> None:
    print(
        f"{preview.new} to read ({preview.changed} of them changed), "
        f"{preview.captions_changed} with other captions, {preview.unchanged} unchanged, "
        f"{preview.missing} gone from disk, {preview.failed} that cannot be stored, "
        f"{preview.failed_before} failed before; nothing was done"
    )


def _summary(report: IngestReport, index: twinlens.Index) -> str:
    rate = report.images / report.seconds if report.seconds else 0.0
    parts = [f"{report.images} images and {report.texts} texts encoded"]
    for count, what in (
        (report.unchanged, "unchanged"),
        (report.duplicates, "more paths of stored images"),
        (report.updated, "updated"),
        (report.removed, "removed"),
        (report.missing, "gone from disk but kept (--prune removes them)"),
        (report.failed_count, "failed"),
        (report.failed_before, "failed before and unchanged (--retry-failed tries again)"),
    ):
        if count:
            parts.append(f"{count} {what}")
    speed = f", {rate:.0f} images/s" if report.images else ""
    held = index.info()
    return (
        f"{', '.join(parts)} in {report.seconds:.1f} s{speed}\n"
        f"{held.name} now holds {held.images} images and {held.texts} texts "
        f"({held.fingerprint.label})"
    )


def _info_dict(one: twinlens.CollectionInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one) | {
        "fingerprint": asdict(one.fingerprint) | {"digest": one.fingerprint.digest}
    }


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = {"#", "score", "images", "texts", "files", "failed", "dim", "MB", "text→image",
               "image→text"}  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def print_hits(title: str, hits: Sequence[Hit]) -> None:
    """Print results as a table."""
    from rich.markup import escape

    table = _table("#", "score", "text" if hits and hits[0].text else "picture", "captions")
    table.title, table.title_justify = escape(title), "left"
    for rank, hit in enumerate(hits, 1):
        where = str(hit.metadata.get("relative_path", hit.path))
        says = where if hit.text else " / ".join(hit.captions[:2])
        table.add_row(str(rank), f"{hit.score:.3f}", escape(hit.text or where), escape(says))
    if hits and hits[0].text:
        table.columns[3].header = "describes"
    _print(table)


def _print(table: Table) -> None:
    from rich.console import Console

    # Into a pipe there is no width to fold to, and programs want whole lines.
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"

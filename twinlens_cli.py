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
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table

    from ingest.preview import Preview
    from ingest.reindex import ReindexReport
    from ingest.report import IngestReport
    from search.classify import Classified
    from search.duplicates import Group
    from search.hits import Hit, Hits
    from search.evaluate import Evaluation
    from search.indexes import IndexTrial

FAILURE = 1
USAGE = 2
ITEMS_FAILED = 3
INTERRUPTED = 130
#: How many failed items are listed one by one.
LISTED = 20
#: How many rows a table of no known length has at a time.
PAGE = 100
NOTHING_CLOSE = "nothing close: the best hits are no nearer than chance"

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
        help="auto, cpu, mps, cuda, cuda:1, openvino; several: cuda:0,cuda:1 or cuda:all.",
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
        list[str],
        typer.Argument(
            help="Folders, pictures, caption files, tar, zip, Parquet, URL lists, embeddings; "
            "here or at an address such as s3://bucket/folder.",
            show_default=False,
        ),
    ],
    captions: Annotated[
        str | None,
        typer.Option(help="Captions for the pictures: JSON, CSV, Parquet, COCO, Flickr."),
    ] = None,
    include: Annotated[
        list[str], typer.Option(help="Take only files matching this glob; can be repeated.")
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    exclude: Annotated[
        list[str], typer.Option(help="Pass over files matching this glob; can be repeated.")
    ] = [],  # noqa: B006
    image_column: Annotated[str, typer.Option(help="The caption file's picture column.")] = "",
    caption_column: Annotated[str, typer.Option(help="The caption file's text column.")] = "",
    embeddings_model: Annotated[
        str, typer.Option(help="Which model made the embeddings among the paths.")
    ] = "",
    index_kind: Annotated[
        str, typer.Option("--index", help="A new collection's index: auto, FLAT, HNSW, IVF_SQ8 …")
    ] = "auto",
    vectors: Annotated[
        str, typer.Option(help="How a new collection stores vectors: float32 or float16.")
    ] = "float32",
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete pictures of these folders that are gone.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try items again that failed before.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Fetch pictures on the web again.")
    ] = False,
    allow_network: Annotated[
        list[str],
        typer.Option(help="A network that is not public, to fetch from all the same: 10.0.0.0/8."),
    ] = [],  # noqa: B006
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, and keep in step with the folders.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a JSON line for every item to this file.")
    ] = None,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    model: Model = "auto",
    device: Device = "auto",
    token: Token = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
) -> None:
    """Store pictures and captions; what is stored already is not encoded again."""
    source: dict[str, Any] = {
        "captions": captions,
        "include": include,
        "exclude": exclude,
        "image_column": image_column,
        "caption_column": caption_column,
        "refresh": refresh,
        "embeddings_model": embeddings_model,
    }
    with twinlens.open(db, collection, model=model, device=device, token=token) as index:
        if dry_run:
            _print_preview(index.preview(*paths, **source))
            return

        def once() -> IngestReport:
            with _progress(paths, quiet) as progress:
                outcome = index.ingest(
                    *paths,
                    **source,
                    index=index_kind,
                    vectors=vectors,
                    prune=prune or watch,
                    retry_failed=retry_failed,
                    allow_networks=allow_network,
                    report=report,
                    progress=progress,
                )
            if not quiet:
                print(_summary(outcome, index), flush=True)
            _print_failures(outcome)
            return outcome

        if watch:
            from ingest.watch import watch as watching

            for _ in watching([Path(path).expanduser() for path in paths], once):
                pass
        elif once().failed_count:
            raise typer.Exit(ITEMS_FAILED)


@app.command()
def search(
    words: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[
        list[Path], typer.Option(help="A picture to look for, too; can be repeated.")
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    unwanted: Annotated[
        list[str], typer.Option("--not", help="Words for what should not be there; repeatable.")
    ] = [],  # noqa: B006
    like: Annotated[
        list[str], typer.Option(help="More like this stored picture: its id or path; repeatable.")
    ] = [],  # noqa: B006
    unlike: Annotated[
        list[str], typer.Option(help="Less like this stored picture: its id or path; repeatable.")
    ] = [],  # noqa: B006
    weight: Annotated[
        float, typer.Option(help="How much the words count; a picture counts 1.")
    ] = 1.0,
    target: Annotated[str, typer.Option("--in", help="What to find: images or texts.")] = "images",
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many results.")] = 10,
    offset: Annotated[int, typer.Option(help="How many of the nearest to pass over.")] = 0,
    where: Annotated[
        str, typer.Option(help="Only what satisfies a filter: 'year >= 2020'.", show_default=False)
    ] = "",
    mode: Annotated[
        str, typer.Option(help="dense: by meaning; text: by the words said; hybrid: by both.")
    ] = "dense",
    min_score: Annotated[
        float, typer.Option(help="Leave out smaller cosines than this.", min=-1, max=1)
    ] = -1.0,
    min_relevance: Annotated[
        float, typer.Option(help="Leave out what is less relevant, from 0 to 1.", min=0, max=1)
    ] = 0.0,
    collapse: Annotated[
        float | None,
        typer.Option(help="Fold near-duplicates: those of a larger cosine than this, say 0.95."),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="A file with a query on each line; - is standard input.")
    ] = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the results as a page, too.")] = None,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    model: Model = "auto",
    device: Device = "auto",
    token: Token = "",
) -> None:
    """Find pictures or texts by words, by pictures, or by several of both."""
    view: dict[str, Any] = {
        "target": target,
        "limit": limit,
        "offset": offset,
        "where": where,
        "min_score": min_score,
        "min_relevance": min_relevance,
    }
    if queries is not None:
        alone = words is None and not (image or unwanted or like or unlike)
        if not alone or mode != "dense" or collapse is not None:
            raise UsageError("--queries takes words from the file, mode dense, and no collapse")
        asked = _queries(queries)
        with twinlens.open(db, collection, model=model, device=device, token=token) as index:
            found = index.search_many(asked, **view)
    else:
        parts: list[object] = [twinlens.Image(one) for one in image]
        if words is not None:
            parts.insert(0, twinlens.Text(words, weight))
        parts += [twinlens.Not(one) for one in unwanted]
        shown = [words] if words is not None else []
        shown += [*map(str, image), *(f"like {one}" for one in like)]
        shown += [f"not {one}" for one in [*unwanted, *unlike]]
        asked = [" + ".join(shown)]
        with twinlens.open(db, collection, model=model, device=device, token=token) as index:
            found = [
                index.search(parts, like=like, unlike=unlike, mode=mode, collapse=collapse, **view)
            ]
    # What a terminal that is not UTF-8 hands over cannot be printed.
    asked = [one.encode("utf-8", "replace").decode() for one in asked]
    if html is not None:
        _write_html(html, asked, found, target, image[0] if image else None)
    for query, hits in zip(asked, found, strict=True):
        if as_json:
            which = {"query": query} if queries is not None else {}
            for hit in hits:
                print(json.dumps(which | hit.to_dict(), ensure_ascii=False))
            continue
        if hits.nothing_close:
            print(NOTHING_CLOSE)
        print_hits(f"{query} → {target}", hits)
    if html is not None and not as_json:
        print(f"written to {html}")


def _queries(path: Path) -> list[str]:
    lines = sys.stdin.read().splitlines() if str(path) == "-" else _lines(path)
    queries = [line.strip() for line in lines if line.strip()]
    if not queries:
        raise UsageError(f"{path} has no queries: write one on each line")
    return queries


def _write_html(
    path: Path, asked: Sequence[str], found: Sequence[Hits], target: str, picture: Path | None
) -> None:
    from search.sheet import Section, write_sheet

    sections = [
        Section(query, target, hits, picture=picture)
        for query, hits in zip(asked, found, strict=True)
    ]
    subtitle = f"{sum(map(len, found))} {target}"
    if len(found) == 1 and found[0].nothing_close:
        subtitle += f"; {NOTHING_CLOSE}"
    title = asked[0] if len(asked) == 1 else f"{len(asked)} queries"
    write_sheet(path, sections, title=title, subtitle=subtitle)


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
        "collection", "images", "texts", "files", "failed", "model", "dim", "fingerprint", "index"
    )
    for one in infos:
        print_ = one.fingerprint
        table.add_row(
            one.name, f"{one.images:,}", f"{one.texts:,}", f"{one.files:,}", f"{one.failed:,}",
            print_.label, str(print_.dim), print_.digest, _index_of(one),
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


@app.command("eval")
def evaluate(
    pairs: Annotated[
        list[Path] | None,
        typer.Argument(help="Caption files to ask with; default: the stored captions."),
    ] = None,
    compare: Annotated[
        list[str],
        typer.Option(help="Encode the same with this model and compare; can be repeated."),
    ] = [],  # noqa: B006
    compare_index: Annotated[
        bool,
        typer.Option("--compare-index", help="Compare a server's index types on the pictures."),
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw recall@k to this file (.png).")] = None,
    max_queries: Annotated[
        int, typer.Option(help="Ask at most so many each way; 0 for all.", min=0)
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    as_json: AsJson = False,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    model: Model = "auto",
    device: Device = "auto",
    token: Token = "",
) -> None:
    """Measure how well pictures and captions find each other: recall@k, both ways."""
    if compare and not pairs:
        raise UsageError("say which pictures to compare on: a caption file, or a folder with one")
    rates: list[float] = []
    if compare_index:
        with twinlens.open(db, collection, token=token) as index:
            _print_trials(index.compare_indexes(), as_json)
        return
    if compare:
        found = []
        for one in twinlens.compare(
            compare, *(pairs or ()), device=device, max_queries=max_queries, seed=seed
        ):
            found.append(one.evaluation)
            rates.append(one.images_per_second)
    else:
        with twinlens.open(db, collection, model=model, device=device, token=token) as index:
            found = [index.evaluate(*(pairs or ()), max_queries=max_queries, seed=seed)]
    if plot is not None:
        from search.evaluate import plot as draw

        draw(plot, found)
    if as_json:
        for number, one_found in enumerate(found):
            rate = {"images_per_second": rates[number]} if rates else {}
            print(json.dumps(one_found.to_dict() | rate, ensure_ascii=False))
        return
    _print_evaluations(found, rates)
    if plot is not None:
        print(f"drawn to {plot}")


@app.command()
def classify(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures or folders, not stored; default: the stored pictures."),
    ] = None,
    labels: Annotated[str, typer.Option(help="What there is to choose from: cat,dog,horse.")] = "",
    labels_file: Annotated[
        Path | None, typer.Option(help="The same, a label on each line of a file.")
    ] = None,
    template: Annotated[
        list[str],
        typer.Option(help="A sentence for the labels, 'a photo of a {}'; can be repeated."),
    ] = [],  # noqa: B006
    top: Annotated[int, typer.Option(help="How many labels of each picture.", min=1)] = 3,
    where: Annotated[str, typer.Option(help="Only stored pictures that satisfy a filter.")] = "",
    as_json: AsJson = False,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    model: Model = "auto",
    device: Device = "auto",
    token: Token = "",
) -> None:
    """Tell which of some labels each picture is most likely of."""
    wanted = [*labels.split(","), *(_lines(labels_file) if labels_file is not None else ())]
    failed = 0
    with twinlens.open(db, collection, model=model, device=device, token=token) as index:
        found = index.classify(wanted, *(paths or ()), where=where, templates=template, top=top)
        if as_json:
            for one in found:
                failed += bool(one.error)
                print(json.dumps(one.to_dict(), ensure_ascii=False))
        else:
            failed = _print_classified(found)
    if failed:
        raise typer.Exit(ITEMS_FAILED)


@app.command()
def duplicates(
    threshold: Annotated[
        float, typer.Option(help="The cosine from which two pictures count as the same.")
    ] = 0.95,
    where: Annotated[str, typer.Option(help="Only pictures that satisfy a filter.")] = "",
    as_json: AsJson = False,
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    token: Token = "",
) -> None:
    """Find pictures that are the same or nearly so, the largest of each group first."""
    with twinlens.open(db, collection, token=token) as index:
        groups = index.duplicates(threshold, where=where)
    if as_json:
        for group in groups:
            print(json.dumps(group.to_dict(), ensure_ascii=False))
        return
    _print_groups(groups)


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    token: Token = "",
) -> None:
    """Write a collection to a folder of Parquet and .npy files, to be imported anywhere."""
    with twinlens.open(db, collection, token=token) as index:
        done = index.export(folder)
    print(f"exported {done.images} images, {done.texts} texts, {done.files} files to {done.folder}")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="What `twinlens export` has written.")],
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    token: Token = "",
) -> None:
    """Bring an export back, into this or any other database, as it was."""
    with twinlens.open(db, collection, token=token) as index:
        done = index.import_(folder)
    counts = f"{done.images} images, {done.texts} texts, {done.files} files"
    print(f"imported {counts} into {collection}")


@app.command()
def reindex(
    index_kind: Annotated[
        str, typer.Option("--index", help="The new index: auto, FLAT, HNSW … Default: as it is.")
    ] = "",
    vectors: Annotated[str, typer.Option(help="float32 or float16. Default: as they are.")] = "",
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
    db: Db = None,
    collection: Collection = twinlens.DEFAULT_COLLECTION,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The new encoder. Default: the present one.")
    ] = "",
    device: Device = "auto",
    token: Token = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
) -> None:
    """Build a collection anew for another model or index, beside the one that is served."""
    building = bool(model or index_kind or vectors)
    if rollback and building:
        raise UsageError("--rollback goes with neither --model nor --index nor --vectors")
    if not (building or rollback or drop_old):
        raise UsageError("say what to change: --model, --index, --vectors, --rollback, --drop-old")
    with twinlens.open(db, collection, device=device, token=token) as index:
        if rollback:
            print(f"{collection} is served from generation {index.rollback().number} again")
        if building:
            from tqdm import tqdm

            with tqdm(unit=" rows", disable=True if quiet else None, file=sys.stderr) as bar:
                outcome = index.reindex(
                    model,
                    index=index_kind,
                    vectors=vectors,
                    memory=memory,
                    drop_unreadable=drop_unreadable,
                    progress=bar,
                )
            _print_failures(outcome)
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
                    f"{outcome.seconds:.1f} s; {collection} is served from generation "
                    f"{outcome.generation} ({held.fingerprint.label}, {held.index})"
                )
        if drop_old:
            dropped = index.drop_old()
            print(f"deleted {len(dropped)} earlier or unfinished generations of {collection}")


@app.command()
def delete(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Pictures or folders to take out.")
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
                    f"no picture in {collection!r} has only such a path; nothing was deleted"
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
def _progress(paths: Sequence[str], quiet: bool) -> Iterator[Any]:
    from threading import Thread

    from tqdm import tqdm

    from ingest.sources.folder import count

    with tqdm(unit=" items", disable=True if quiet else None, file=sys.stderr) as bar:
        folders = [Path(path).expanduser() for path in paths]
        if all(folder.is_dir() for folder in folders):
            # Beside the work: the bar learns how far it has to go when the counting is done.
            def learn() -> None:
                bar.total = sum(map(count, folders))

            Thread(target=learn, daemon=True).start()
        yield bar


def _print_failures(outcome: IngestReport | ReindexReport) -> None:
    for failure in outcome.failed[:LISTED]:
        print(f"failed: {failure.uri}: {failure.reason}", file=sys.stderr)
    if outcome.failed_count > LISTED:
        more = outcome.failed_count - LISTED
        print(f"... and {more} more: --report FILE lists them all", file=sys.stderr)


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


def _lines(path: Path) -> list[str]:
    try:
        return path.expanduser().read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _print_classified(found: Iterable[Classified]) -> int:
    """Print what was classified, page by page, and how often each label came first."""
    from collections import Counter
    from itertools import islice

    from rich.markup import escape

    first: Counter[str] = Counter()
    failed = 0
    rest = iter(found)
    while page := list(islice(rest, PAGE)):
        table = _table("picture", "label", "%", "then")
        for one in page:
            if one.error:
                failed += 1
                print(f"failed: {one.path}: {one.error}", file=sys.stderr)
                continue
            best, *others = one.guesses
            first[best.label] += 1
            then = ", ".join(f"{guess.label} {guess.probability:.0%}" for guess in others)
            table.add_row(
                escape(one.path), escape(best.label), f"{100 * best.probability:.0f}", escape(then)
            )
        if table.row_count:
            _print(table)
    counted = ", ".join(f"{label} {count:,}" for label, count in first.most_common())
    print(f"{first.total():,} pictures: {counted}" if counted else "no pictures")
    return failed


def _print_groups(groups: Sequence[Group]) -> None:
    from rich.markup import escape

    if not groups:
        print("no duplicates")
        return
    table = _table("group", "picture", "size", "bytes", "similarity")
    for number, group in enumerate(groups, 1):
        for copy in group.copies:
            for path in copy.paths:
                table.add_row(
                    str(number), escape(path), f"{copy.width}×{copy.height}", f"{copy.bytes:,}",
                    f"{copy.similarity:.3f}",
                )  # fmt: skip
    _print(table)
    files = sum(group.files for group in groups)
    print(
        f"{len(groups):,} groups of {files:,} files; the first of each is the largest. Similarity: "
        "cosine with it; equal files stand below one another with the same"
    )


def _print_evaluations(found: Sequence[Evaluation], rates: Sequence[float]) -> None:
    ks = (1, 5, 10)
    more = ["img/s", "bytes/image"] if rates else []
    table = _table("model", "", *(f"R@{k}" for k in ks), "median", "ann", *more)
    for number, one in enumerate(found):
        costs = [f"{rates[number]:.0f}", f"{one.bytes_per_image:,}"] if rates else []
        for side in one.directions:
            # An interval need not be symmetric, so ± would not do.
            recalls = (side.recall[k] for k in ks)
            cells = [f"{100 * r.value:.1f} ({100 * r.low:.0f}–{100 * r.high:.0f})" for r in recalls]
            rank = side.median_rank
            ann = "–" if side.ann_recall != side.ann_recall else f"{side.ann_recall:.3f}"
            table.add_row(
                one.model, side.direction, *cells,
                f"{rank.value:.0f} ({rank.low:.0f}–{rank.high:.0f})", ann, *costs,
            )  # fmt: skip
    _print(table)
    first = found[0]
    left_out = f"; {first.unpaired:,} texts of no stored picture left out" if first.unpaired else ""
    print(
        f"{first.images:,} pictures, {first.texts:,} captions{left_out}. Recall in per cent, with "
        "95 % intervals; median: of the rank; ann: the share of the exact ten nearest that Milvus "
        "returns"
    )


def _print_trials(trials: Iterable[IndexTrial], as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        for one in trials:
            print(json.dumps(asdict(one)))
        return
    table = _table("index", "parameters", "ann", "ms", "bytes/image")
    for one in trials:
        table.add_row(
            one.index_type, one.parameters, f"{one.ann_recall:.3f}", f"{one.milliseconds:.1f}",
            f"{one.bytes_per_vector:,}",
        )  # fmt: skip
    _print(table)
    print(
        "ann: the share of the exact ten nearest that Milvus returns; ms: one query alone, the "
        "median; bytes: computed from the layout"
    )


def _index_of(one: twinlens.CollectionInfo) -> str:
    return one.index if one.vectors == "float32" else f"{one.index} of {one.vectors}"


def _info_dict(one: twinlens.CollectionInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one) | {
        "fingerprint": asdict(one.fingerprint) | {"digest": one.fingerprint.digest}
    }


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = {"#", "relevance", "images", "texts", "files", "failed", "dim", "MB", "text→image",
               "image→text", "R@1", "R@5", "R@10", "median", "ann", "ms", "img/s",
               "bytes/image", "group", "bytes", "similarity", "%"}  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def print_hits(title: str, hits: Sequence[Hit]) -> None:
    """Print results as a table."""
    from rich.markup import escape

    table = _table("#", "relevance", "text" if hits and hits[0].text else "picture", "captions")
    table.title, table.title_justify = escape(title), "left"
    for rank, hit in enumerate(hits, 1):
        where = str(hit.metadata.get("relative_path", hit.path))
        says = where if hit.text else " / ".join(hit.captions[:2])
        table.add_row(str(rank), f"{hit.relevance:.0%}", escape(hit.text or where), escape(says))
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

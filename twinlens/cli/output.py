"""Print results as tables and sentences, and name the exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from twinlens.cli.printing import cell, linked, say, say_json
from twinlens.search.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from twinlens.ingest.preview import Preview
    from twinlens.ingest.report import IngestReport
    from twinlens.ingest.transfer.reindex import ReindexReport
    from twinlens.search.analysis.classify import Classified
    from twinlens.search.analysis.duplicates import Group
    from twinlens.search.analysis.evaluate import Evaluation
    from twinlens.search.analysis.index_trials import IndexTrial
    from twinlens.search.query.hits import Hit

T = TypeVar("T")

#: Exit codes; 0 is success.
FAILURE = 1
USAGE = 2
ITEMS_FAILED = 3
DAMAGED = 4
REPAIRED = 5
INTERRUPTED = 130
#: How many failed items are listed one by one.
LISTED = 20
#: How many rows are printed at a time where their number is unknown.
PAGE = 100
NOTHING_CLOSE = "nothing close: the best hits are no nearer than chance"


def counted(count: int, noun: str) -> str:
    """A number with its noun, which gets an s unless the number is 1."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def not_empty(found: Iterable[T], paths: Sequence[str]) -> Iterator[T]:
    """Pass on what was found at paths that a user gave.

    Raises:
        SourceError: they hold no pictures at all.
    """
    some = False
    for one in found:
        some = True
        yield one
    if paths and not some:
        from twinlens.ingest.options import nothing_found

        raise SourceError(nothing_found(paths))


def contents(images: int, texts: int, files: int | None = None) -> str:
    """What a collection contains, in words."""
    counts = [counted(images, "image"), counted(texts, "text")]
    return ", ".join(counts if files is None else [*counts, counted(files, "file")])


def print_failures(outcome: IngestReport | ReindexReport, *, hint: str = "") -> None:
    """List the first failures; ``hint`` says how to see the rest."""
    for failure in outcome.failed[:LISTED]:
        say(f"failed: {failure.uri}: {failure.reason}", file=sys.stderr)
    if outcome.failed_count > LISTED:
        more = outcome.failed_count - LISTED
        say(f"... and {more:,} more{hint}", file=sys.stderr)


def print_notices(outcome: IngestReport | Preview) -> None:
    """List the first notices: what was passed over or could not be kept."""
    for notice in outcome.notices[:LISTED]:
        say(f"note: {notice.uri}: {notice.text}", file=sys.stderr)
    if outcome.notice_count > LISTED:
        say(f"... and {outcome.notice_count - LISTED:,} more notes", file=sys.stderr)


def print_preview(preview: Preview) -> None:
    say(
        f"{preview.new:,} to read ({preview.changed:,} of them changed), "
        f"{preview.captions_changed:,} with changed captions, {preview.unchanged:,} unchanged, "
        f"{preview.missing:,} missing on disk, {preview.failed:,} that cannot be stored, "
        f"{preview.failed_before:,} failed before, {preview.left_out:,} left out; dry run, nothing "
        "was written"
    )
    print_notices(preview)


def print_classified(found: Iterable[Classified]) -> int:
    """Print the classified pictures and the totals of the best labels; return the failures."""
    from collections import Counter
    from itertools import islice

    first: Counter[str] = Counter()
    failed = 0
    rest = iter(found)
    while page := list(islice(rest, PAGE)):
        table = new_table("picture", "label", "%", "other labels")
        for one in page:
            if one.error:
                failed += 1
                say(f"failed: {one.path}: {one.error}", file=sys.stderr)
                continue
            best, *others = one.guesses
            first[best.label] += 1
            runners_up = ", ".join(f"{guess.label} {guess.probability:.0%}" for guess in others)
            table.add_row(
                cell(one.path),
                cell(best.label),
                f"{100 * best.probability:.0f}",
                cell(runners_up),
            )
        if table.row_count:
            show(table)
    labels = ", ".join(f"{label} {count:,}" for label, count in first.most_common())
    say(f"{counted(first.total(), 'picture')}: {labels}" if labels else "no pictures")
    return failed


def print_duplicates(groups: Sequence[Group]) -> None:

    if not groups:
        say("no duplicates")
        return
    table = new_table("group", "picture", "size", "bytes", "similarity")
    for number, group in enumerate(groups, 1):
        for copy in group.copies:
            for path in copy.paths:
                table.add_row(
                    str(number), cell(path), f"{copy.width}×{copy.height}", f"{copy.bytes:,}",
                    f"{copy.similarity:.3f}",
                )  # fmt: skip
    show(table)
    files = sum(group.files for group in groups)
    say(
        f"{counted(len(groups), 'group')} of {counted(files, 'file')}, the largest first in each "
        "group. similarity: cosine similarity with it"
    )


def print_evaluations(
    measured: Iterable[tuple[Evaluation, float]], as_json: bool
) -> list[Evaluation]:
    """Print each evaluation as it comes, with pictures per second unless 0; return them all."""

    found: list[Evaluation] = []
    ks = (1, 5, 10)
    table = new_table("model", "", *(f"R@{k}" for k in ks), "median", "ann")

    def rows() -> Iterator[list[str]]:
        for one, rate in measured:
            found.append(one)
            if rate and len(found) == 1:
                add_columns(table, "img/s", "bytes/image")
            costs = [f"{rate:.0f}", f"{one.bytes_per_image:,}"] if rate else []
            for side in one.directions:
                # An interval need not be symmetric, so ± would not do.
                kept = (side.recall[k] for k in ks)
                cells = [
                    f"{100 * r.value:.1f} ({100 * r.low:.0f}–{100 * r.high:.0f})" for r in kept
                ]
                rank = side.median_rank
                middle = f"{rank.value:.0f} ({rank.low:.0f}–{rank.high:.0f})"
                ann = "–" if side.ann_recall != side.ann_recall else f"{side.ann_recall:.3f}"
                yield [cell(one.model), side.direction, *cells, middle, ann, *costs]

    if as_json:
        for one, rate in measured:
            found.append(one)
            costs = {"images_per_second": rate} if rate else {}
            say_json(one.to_dict() | costs, flush=True)
    else:
        show_growing(table, rows())
    for missing in found[0].missing[:LISTED]:
        say(f"failed: {missing}", file=sys.stderr)
    if found[0].missing_count > LISTED:
        say(f"... and {found[0].missing_count - LISTED:,} more", file=sys.stderr)
    if as_json:
        return found
    first = found[0]
    texts = counted(first.unpaired, "text")
    left_out = f"; left out {texts} without a stored picture" if first.unpaired else ""
    say(
        f"{counted(first.images, 'picture')}, {counted(first.texts, 'caption')}{left_out}. R@k: "
        "recall in per cent, with 95 % intervals; median: median rank; ann: the share of the exact "
        "ten nearest that Milvus returns"
    )
    return found


def print_trials(trials: Iterable[IndexTrial], as_json: bool) -> list[IndexTrial]:
    """Print each trial as it comes; return them all."""
    from dataclasses import asdict

    found: list[IndexTrial] = []

    def rows() -> Iterator[list[str]]:
        for one in trials:
            found.append(one)
            yield [one.index_type, one.parameters, f"{one.ann_recall:.3f}",
                   f"{one.milliseconds:.1f}", f"{one.bytes_per_vector:,}"]  # fmt: skip

    if as_json:
        for one in trials:
            found.append(one)
            say_json(asdict(one), flush=True)
        return found
    show_growing(new_table("index", "parameters", "ann", "ms", "bytes/image"), rows())
    say(
        "ann: the share of the exact ten nearest that Milvus returns; ms: median latency of one "
        "query at a time; bytes/image: computed from the layout"
    )
    return found


def print_hits(title: str, hits: Sequence[Hit]) -> None:
    """Print results as a table."""

    from twinlens.search.query.hits import marked

    texts = bool(hits and hits[0].text)
    root = _root_of(hits)
    last = "describes" if texts else "captions"
    is_wide = any(hit.path if texts else hit.captions for hit in hits)
    table = new_table("#", "relevance", "text" if texts else "picture", *[last] * is_wide)
    table.title, table.title_justify = cell(title), "left"
    for rank, hit in enumerate(hits, 1):
        matched = "words" if hit.by_words else f"{hit.relevance:.0%}"
        where = linked(hit.path, str(hit.metadata.get("relative_path", "")) if root else hit.path)
        if len(hit.paths) > 1:
            where += f" (+{counted(len(hit.paths) - 1, 'path')})"
        said = cell(marked(hit, hit.text)) if texts else where
        detail = where if texts else cell(marked(hit, " / ".join(hit.captions[:2])))
        table.add_row(str(rank), matched, said, *[detail] * is_wide)
    show(table)
    if root:
        say(f"paths are relative to {root}")


def _root_of(hits: Sequence[Hit]) -> str:
    """The folder or archive that the relative paths of all hits begin at; "" if they have none."""
    roots = set()
    for hit in hits:
        relative = str(hit.metadata.get("relative_path", ""))
        if hit.path:
            whole = relative and hit.path != relative and hit.path.endswith(relative)
            roots.add(hit.path.removesuffix(relative).rstrip("/!\\") if whole else "")
    return roots.pop() if len(roots) == 1 else ""


def new_table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    add_columns(table, *columns)
    return table


def add_columns(table: Table, *columns: str) -> None:
    numbers = {"#", "relevance", "match", "cosine", "CLIPScore", "RefCLIPScore", "images",
               "texts", "files", "failed", "dim", "MB", "text→image", "image→text", "R@1", "R@5",
               "R@10", "median", "ann", "ms", "img/s", "bytes/image", "group", "bytes",
               "similarity", "%", "memory GiB", "per million images", "disk GiB", "SSD GiB",
               "query nodes"}  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")


def show(table: Table) -> None:
    _console().print(table)


def show_growing(table: Table, rows: Iterable[Sequence[str]]) -> None:
    """Show a table row by row, for slow rows; after an error, the rows so far."""
    from rich.live import Live

    console = _console()
    live = Live(table, console=console, auto_refresh=False)
    try:
        for row in rows:
            table.add_row(*row)
            if console.is_terminal:
                live.start()
                live.refresh()
    finally:
        live.stop()
        if table.row_count and not console.is_terminal:
            console.print(table)


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width, and programs need whole lines.
    return Console(width=None if sys.stdout.isatty() else 110)

"""``twinlens match``: score how well texts fit pictures."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

import twinlens
from twinlens.cli.options import OUTPUT, AsJson, ModelOptions, Quiet, lines_of, with_options
from twinlens.cli.output import ITEMS_FAILED, PAGE, counted, new_table, not_empty, show
from twinlens.cli.printing import cell, say, say_json
from twinlens.ingest.options import SOURCE_OPTIONS, SourceOptions

if TYPE_CHECKING:
    from twinlens.search.analysis.match import PairMatch

_TEXTS = "Texts"
#: How to read IMAGE and --pairs.
FILE_OPTIONS = (
    "captions", "include", "exclude", "image_column", "caption_column", "allow_networks"
)  # fmt: skip
#: Pictures on the HTML page.
_CARDS = 500


@with_options(
    {name: SOURCE_OPTIONS[name] for name in FILE_OPTIONS},
    before="below",
    panel="Files",
    flags={"allow_networks": ["--allow-network"]},
)
def match(
    context: typer.Context,
    place: ModelOptions,
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures or folders, which are not stored.", metavar="IMAGE"),
    ] = None,
    text: Annotated[
        list[str],
        typer.Option(
            help="A text to score every picture with, as a caption would say it; repeatable.",
            rich_help_panel=_TEXTS,
        ),
    ] = [],  # noqa: B006
    texts_file: Annotated[
        Path | None,
        typer.Option(help="A file with one such text per line.", rich_help_panel=_TEXTS),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Score each picture of a caption file with its own captions, in place of IMAGE "
            "and --text: whatever ingest reads.",
            metavar="FILE",
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    reference: Annotated[
        list[str],
        typer.Option(
            help="A text that is known to fit every picture, for RefCLIPScore; repeatable.",
            rich_help_panel=_TEXTS,
        ),
    ] = [],  # noqa: B006
    below: Annotated[
        float,
        typer.Option(
            help="Count pairs that are less likely than this, from 0 to 1: the exit code is 3 if "
            "there are any.",
            min=0.0,
            max=1.0,
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = 0.0,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write the results to an HTML page.", rich_help_panel=OUTPUT),
    ] = None,
    quiet: Quiet = False,
    **source: Unpack[SourceOptions],
) -> None:
    """Score how well texts fit pictures: the probability that they belong together.

    With --db or --collection, pairs are compared with that collection's; otherwise no database is
    needed, and they are compared with pictures that come with twinlens.
    """
    texts = [*text, *(one for one in lines_of(texts_file) if one.strip())] if texts_file else text
    totals = _Totals(below)
    given = [pairs] if pairs is not None else images or []
    sheet = _Sheet(by_text=pairs is None) if html is not None else None
    if not _uses_collection(context):
        found = twinlens.match(
            images or (), texts, pairs=pairs, references=reference, model=place.model,
            device=place.device, **source,
        )  # fmt: skip
        _report(not_empty(found, given), totals, sheet, as_json=as_json, quiet=quiet)
    else:
        with place.reach(place.model) as index:
            found = index.match(images or (), texts, pairs=pairs, references=reference, **source)
            _report(not_empty(found, given), totals, sheet, as_json=as_json, quiet=quiet)
    if sheet is not None and html is not None:
        sheet.write(html, totals)
    if not (as_json or quiet):
        say(totals)
        if html is not None:
            say(f"contact sheet written to {html}")
    if totals.failed or totals.below:
        raise typer.Exit(ITEMS_FAILED)


def _uses_collection(context: typer.Context) -> bool:
    """Whether a database is named; one in the environment does not count beside --model."""

    def given(name: str) -> str:
        source = context.get_parameter_source(name)
        return source.name if source is not None else ""

    if any(given(name) == "COMMANDLINE" for name in ("db", "collection", "tenant")):
        return True
    return given("db") == "ENVIRONMENT" and given("model") != "COMMANDLINE"


@dataclass
class _Totals:
    """How many pairs there were of each kind.

    Attributes:
        limit: what ``below`` counts.
    """

    limit: float
    verdicts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("match", "unsure", "mismatch"), 0)
    )
    below: int = 0
    failed: int = 0

    def add(self, one: PairMatch) -> None:
        """Count a result."""
        if one.error:
            self.failed += 1
        else:
            self.verdicts[one.verdict] += 1
            self.below += one.match < self.limit

    def __str__(self) -> str:
        number = sum(self.verdicts.values())
        parts = ", ".join(f"{many:,} {name}" for name, many in self.verdicts.items())
        failed = f"; {self.failed:,} failed" if self.failed else ""
        below = f"; {self.below:,} below {self.limit:g}" if self.limit else ""
        return f"{counted(number, 'pair')}: {parts}{below}{failed}"


def _report(
    found: Iterator[PairMatch],
    totals: _Totals,
    sheet: _Sheet | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print results as they come, and collect what the page shows of them."""
    from tqdm import tqdm

    hide = True if quiet else None
    with tqdm(unit=" pairs", leave=False, disable=hide, file=sys.stderr) as bar:
        while page := list(islice(found, 1 if as_json else PAGE)):
            bar.update(len(page))
            bar.clear()
            for one in page:
                totals.add(one)
                if sheet is not None and not one.error:
                    sheet.add(one)
            if as_json:
                say_json(page[0].to_dict(), flush=True)
            elif not quiet:
                _show(page)
            for one in page:
                if one.error and not as_json:
                    say(f"failed: {one.image}: {one.error}", file=sys.stderr)


def _show(page: Sequence[PairMatch]) -> None:

    scored = [one for one in page if not one.error]
    if not scored:
        return
    compete = any(one.probability is not None for one in scored)
    referred = any(one.ref_clip_score is not None for one in scored)
    table = new_table(
        "picture", "text", "match", "verdict", *(["%"] if compete else []), "cosine", "CLIPScore",
        *(["RefCLIPScore"] if referred else []),
    )  # fmt: skip
    for one in scored:
        share = [f"{100 * (one.probability or 0):.0f}"] if compete else []
        reference = [f"{one.ref_clip_score or 0:.3f}"] if referred else []
        table.add_row(
            cell(_shortened(one.image)), cell(one.text), f"{one.match:.0%}", one.verdict,
            *share, f"{one.cosine:.3f}", f"{one.clip_score:.3f}", *reference,
        )  # fmt: skip
    show(table)


def _shortened(image: str) -> str:
    """A path below the current folder without that folder."""
    here = f"{Path.cwd()}/"
    return image.removeprefix(here)


class _Sheet:
    """What the HTML page shows: the best pictures of each text, or the worst pairs.

    Args:
        by_text: whether every picture was scored with every text.
    """

    def __init__(self, *, by_text: bool) -> None:
        self._by_text = by_text
        self._kept: dict[str, list[tuple[float, int, PairMatch]]] = {}
        self._number = count()

    def add(self, one: PairMatch) -> None:
        """Keep a result if it is among those to show."""
        key = one.text if self._by_text else ""
        if key not in self._kept and len(self._kept) >= _CARDS:
            return
        kept = self._kept.setdefault(key, [])
        # The least of a heap goes first: the worst of a text's pictures, or the best of all pairs.
        entry = (one.match if self._by_text else -one.match, -next(self._number), one)
        heapq.heappush(kept, entry)
        if len(kept) > max(1, _CARDS // len(self._kept)):
            heapq.heappop(kept)

    def write(self, path: Path, totals: _Totals) -> None:
        """Write the page."""
        from twinlens.search.query.contact_sheet import Section, write_sheet

        sections = []
        for text, kept in self._kept.items():
            shown = [one for *_, one in sorted(kept, reverse=True)]
            shown = shown[: max(1, _CARDS // len(self._kept))]
            title = text if self._by_text else "The worst first"
            notes = list(map(_note, shown))
            sections.append(Section(title, "", list(map(_hit, shown)), notes=notes))
        title = "How well texts fit pictures"
        subtitle = f"{totals}. The percentage is the probability that both belong together."
        write_sheet(path, sections, title, subtitle)


def _note(one: PairMatch) -> str:
    if one.probability is None:
        return one.verdict
    return f"{one.verdict}; {one.probability:.0%} among the texts"


def _hit(one: PairMatch) -> twinlens.Hit:
    from twinlens.search.query.hits import Hit

    return Hit(
        "images", "", one.cosine, one.image, captions=(one.text,), relevance=one.match,
        metadata={"relative_path": Path(one.image).name},
    )  # fmt: skip

"""The ``twinlens`` command: a thin layer over the library.

Each command is a function in the module of its topic, and is registered here.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import Annotated, TextIO

import typer

import twinlens
from twinlens.cli import (
    audit,
    backup,
    check,
    collections,
    copy,
    describe,
    ingest,
    labels,
    match,
    mcp,
    models,
    plan,
    policy,
    quality,
    saved,
    search,
    serve,
    show,
)
from twinlens.cli.config import read_config
from twinlens.cli.options import flat
from twinlens.cli.output import FAILURE, INTERRUPTED, USAGE
from twinlens.cli.printing import prepare_output, say
from twinlens.search.errors import TwinlensError, UsageError
from twinlens.search.printable import PrintableFormatter

app = typer.Typer(
    name="twinlens",
    help="Find pictures by words, words by pictures, pictures by pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 failed, 2 usage error, 3 some items could not be read or found, "
    "4 damaged, 5 damaged and repaired, 130 interrupted.",
)


def run() -> None:
    """Run the ``twinlens`` command; errors become one line on stderr and an exit code."""
    prepare_output()
    show_log(sys.stderr)
    try:
        try:
            app()
        except SystemExit as end:
            # Flush now, so that a write error is reported below and not when Python exits.
            sys.stdout.flush()
            if end.code == INTERRUPTED:  # typer turns Ctrl-C into that
                say("twinlens: interrupted", file=sys.stderr)
            if isinstance(end.__context__, BrokenPipeError):  # typer exits with 1 for that
                raise end.__context__ from None
            raise
    except TwinlensError as error:
        say(f"twinlens: {error}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILURE)
    except KeyboardInterrupt:
        say("twinlens: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has closed it.
        _discard_output()
        sys.exit(0)
    except OSError as error:
        say(f"twinlens: {_reason(error)}", file=sys.stderr)
        sys.exit(FAILURE)


def show_log(stream: TextIO) -> None:
    """Show what the library logs to somebody who waits at a terminal: what takes long, and why.

    Elsewhere only warnings are printed, which Python does by itself.
    """
    if not stream.isatty():
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("twinlens: %(message)s"))
    logger = logging.getLogger("twinlens")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _reason(error: OSError) -> str:
    try:
        sys.stdout.flush()
    except OSError as unwritten:
        _discard_output()
        return f"the output cannot be written: {unwritten.strerror or unwritten}"
    named = isinstance(error.filename, str | bytes)
    place = os.fsdecode(error.filename) if named else "reading or writing failed"
    return f"{place}: {error.strerror or error or type(error).__name__}"


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(enabled: bool) -> None:
    if enabled:
        say(f"twinlens {twinlens.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if config := read_config():
        # The defaults of every command; a command ignores the names that it does not have.
        commands: Iterable[str] = getattr(context.command, "commands", ())
        context.default_map = dict.fromkeys(commands, config)


# In the order of the help.
app.command()(flat(ingest.ingest))
app.command()(flat(search.search))
app.command("saved")(flat(saved.saved))
app.command()(flat(show.show))
app.command("open")(flat(show.open_))
app.command()(flat(labels.album))
app.command()(flat(labels.tag))
app.command()(flat(collections.info))
app.add_typer(models.app, name="models")
app.command("eval")(flat(quality.evaluate))
app.command()(flat(quality.classify))
app.command()(flat(match.match))
app.command()(flat(describe.describe))
app.command()(flat(policy.review))
app.command()(flat(quality.duplicates))
app.command()(flat(audit.audit))
app.command("export")(flat(collections.export))
app.command("import")(flat(collections.import_))
app.command()(flat(collections.reindex))
app.command("copy")(flat(copy.copy))
app.command()(flat(collections.delete))
app.command()(flat(check.check))
app.command()(flat(backup.backup))
app.command()(flat(backup.restore))
app.command()(flat(plan.plan, {"disk_month": "disk_gib_month", "ssd_month": "ssd_gib_month"}))
app.command()(flat(serve.serve))
app.command()(flat(mcp.mcp))

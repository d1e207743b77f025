"""``twinlens serve``: serve the HTTP API and the search page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import twinlens
from twinlens.cli.options import COLLECTION, ModelOptions, Quiet
from twinlens.cli.printing import say
from twinlens.search.errors import UsageError
from twinlens.server.settings import DEFAULT_PORT


@dataclass(frozen=True)
class ServedDatabase(ModelOptions):
    """The database to serve; not another twinlens server."""

    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            envvar="TWINLENS_DB",
            help="The database: a Milvus Lite path ending in .db, or the address of a Milvus "
            "server. Default: twinlens.db in your data folder.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = None


def serve(
    place: ServedDatabase,
    host: Annotated[
        str,
        typer.Option(
            help="The address to listen on; 0.0.0.0 for all interfaces.",
            rich_help_panel="Address",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port; 0 to choose a free one.", rich_help_panel="Address")
    ] = DEFAULT_PORT,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="A file of API keys, one NAME:read:KEY or NAME:write:KEY per line, in addition to "
            "those in TWINLENS_KEYS.",
            show_default=False,
            rich_help_panel="Access",
        ),
    ] = None,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth",
            help="Require no API key.",
            rich_help_panel="Access",
        ),
    ] = False,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            help="Allow pages of this origin to call the API (CORS); repeatable.",
            rich_help_panel="Access",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="A host name under which clients reach the server; repeatable.",
            rich_help_panel="Address",
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="The address of a reverse proxy in front of the server; repeatable.",
            rich_help_panel="Address",
        ),
    ] = None,
    allow_urls: Annotated[
        bool,
        typer.Option(
            "--allow-urls",
            help="Allow queries to name pictures by public URL.",
            rich_help_panel="Access",
        ),
    ] = False,
    allow_network: Annotated[
        list[str] | None,
        typer.Option(
            help="With --allow-urls: also allow a private network, such as 10.0.0.0/8; repeatable.",
            rich_help_panel="Access",
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option(help="Serve the search page at /.", rich_help_panel="Page")
    ] = True,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests per minute for each key or address; 0 for no limit. Default: 1200, "
            "or no limit if only this machine can connect.",
            show_default=False,
            rich_help_panel="Requests",
        ),
    ] = None,
    max_body: Annotated[
        int,
        typer.Option(help="The largest request body, in MiB.", min=1, rich_help_panel="Requests"),
    ] = 32,
    max_batch: Annotated[
        int,
        typer.Option(
            help="The most queries in one batch; 1 for no batching.",
            min=1,
            rich_help_panel="Requests",
        ),
    ] = 64,
    wait_ms: Annotated[
        float,
        typer.Option(
            help="How long a query waits for a batch, in milliseconds.",
            min=0,
            rich_help_panel="Requests",
        ),
    ] = 4.0,
    media: Annotated[
        Path | None,
        typer.Option(
            envvar="TWINLENS_MEDIA",
            help="The folder for thumbnails and uploaded pictures.",
            show_default=False,
            rich_help_panel="Page",
        ),
    ] = None,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log",
            help="Log each request to standard error, without queries and keys.",
            rich_help_panel="Requests",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Serve the HTTP API and a search page, until Ctrl-C.

    --model is for new collections created through the server; existing ones use their own.
    """
    from twinlens.server.run import check_extra
    from twinlens.server.settings import default_media

    if place.tenant:
        raise UsageError("API keys select the tenant of a request: NAME:read:KEY:TENANT")
    check_extra()
    from twinlens.server.auth import read_keys

    def started(address: str) -> None:
        if not quiet:
            say(f"twinlens answers at {address} (Ctrl-C stops it)", flush=True)

    twinlens.serve(
        place.db,
        place.collection,
        model=place.model,
        device=place.device,
        token=place.token,
        started=started,
        host=host,
        port=port,
        keys=() if no_auth else read_keys(keys),
        open=no_auth,
        cors=cors or (),
        hosts=name or (),
        proxies=proxy or (),
        allow_urls=allow_urls,
        networks=allow_network or (),
        page=page,
        rate=rate,
        max_body=max_body << 20,
        max_batch=max_batch,
        wait_ms=wait_ms,
        media=media or default_media(),
        access_log=access_log,
    )

"""``twinlens serve``: the HTTP API and the search page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import twinlens
from twinlens.cli.options import COLLECTION, ModelOptions, Quiet
from twinlens.search.errors import UsageError
from twinlens.server.settings import DEFAULT_PORT


@dataclass(frozen=True)
class Held(ModelOptions):
    """What is served: a database that is opened here."""

    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            envvar="TWINLENS_DB",
            help="A Milvus Lite path ending in .db, or the address of Milvus. "
            "Default: a file of the user's.",
            show_default=False,
            rich_help_panel=COLLECTION,
        ),
    ] = None


def serve(
    place: Held,
    host: Annotated[
        str,
        typer.Option(
            help="The address to listen on; 0.0.0.0 for all of this machine's.",
            rich_help_panel="Address",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port; 0 for a free one.", rich_help_panel="Address")
    ] = DEFAULT_PORT,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="A file of keys, NAME:read:KEY or NAME:write:KEY a line; more in TWINLENS_KEYS.",
            show_default=False,
            rich_help_panel="Access",
        ),
    ] = None,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth",
            help="Ask for no key, whoever can reach the address.",
            rich_help_panel="Access",
        ),
    ] = False,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            help="An origin whose pages may call the API; may be repeated.",
            rich_help_panel="Access",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="A name under which the server is reached; may be repeated.",
            rich_help_panel="Address",
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="The address of a proxy in front of it; may be repeated.",
            rich_help_panel="Address",
        ),
    ] = None,
    allow_urls: Annotated[
        bool,
        typer.Option(
            "--allow-urls",
            help="Take public addresses of pictures in queries.",
            rich_help_panel="Access",
        ),
    ] = False,
    allow_network: Annotated[
        list[str] | None,
        typer.Option(
            help="With --allow-urls: a network that is not public, such as 10.0.0.0/8.",
            rich_help_panel="Access",
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option(help="Serve the search page at /.", rich_help_panel="Page")
    ] = True,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a minute for each key or address, 0 for no limit. "
            "Default: 1200 where others can ask.",
            show_default=False,
            rich_help_panel="Requests",
        ),
    ] = None,
    max_body: Annotated[
        int, typer.Option(help="MiB of a request's body.", min=1, rich_help_panel="Requests")
    ] = 32,
    max_batch: Annotated[
        int,
        typer.Option(
            help="Queries that are answered together; 1 for one by one.",
            min=1,
            rich_help_panel="Requests",
        ),
    ] = 64,
    wait_ms: Annotated[
        float,
        typer.Option(
            help="Milliseconds that a query waits for others at most.",
            min=0,
            rich_help_panel="Requests",
        ),
    ] = 4.0,
    media: Annotated[
        Path | None,
        typer.Option(
            envvar="TWINLENS_MEDIA",
            help="A folder for thumbnails and uploaded pictures.",
            show_default=False,
            rich_help_panel="Page",
        ),
    ] = None,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log",
            help="A line for each request on standard error, without queries and keys.",
            rich_help_panel="Requests",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Answer searches over HTTP and show a search page, until Ctrl-C.

    --model is for collections that are made through the server: the others keep their own.
    """
    from twinlens.server.run import check_extra
    from twinlens.server.settings import default_media

    if place.tenant:
        raise UsageError("a server's tenants come with its keys: NAME:read:KEY:TENANT")
    check_extra()
    from twinlens.server.auth import read_keys

    def started(address: str) -> None:
        if not quiet:
            print(f"twinlens answers at {address} (Ctrl-C stops it)", flush=True)

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

"""Make the thumbnails of the newest pictures in the background, before anybody asks for them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from twinlens.search.errors import ImageError, TwinlensError
from twinlens.search.records import Row
from twinlens.server.batching import QueueFullError
from twinlens.server.context import Context
from twinlens.server.media import LARGEST_SIDE

#: Pictures whose thumbnails are made: some screens of the start page.
NEWEST = 240
#: Their sizes, the larger first: the smaller one is made of it.
SIDES = (LARGEST_SIDE, 320)
#: Seconds between two looks whether something was written, and between two pictures.
LOOK_SECONDS, PAUSE_SECONDS = 5.0, 0.02
#: Seconds from one round to the next while writes follow each other without a pause.
BUSY_SECONDS = 60.0


async def keep_warm(ctx: Context) -> None:
    """Make missing thumbnails of the default collection now, and again after writes.

    An ingest is a series of writes: its pictures wait for the first pause, or for ``BUSY_SECONDS``,
    since listing the newest reads the dates of all. There is one round at a time.
    """
    clock = asyncio.get_running_loop().time
    done, before, ended = -1, ctx.writes.written, clock()
    while True:
        written = ctx.writes.written
        pauses, before = written == before, written
        if written != done and (pauses or clock() - ended >= BUSY_SECONDS):
            done = written
            # A collection that does not exist yet, has tenants, or cannot be read now.
            with suppress(TwinlensError):
                await _warm(ctx)
            ended = clock()
        await asyncio.sleep(LOOK_SECONDS)


async def _warm(ctx: Context) -> None:
    index = await ctx.run(ctx.library.index)
    found = await ctx.run(index.browse, "", limit=NEWEST)
    for hit in found.items:
        row = {"id": hit.id, "path": hit.path, "paths": hit.paths, **hit.metadata}
        for side in SIDES:
            if await ctx.run(ctx.media.cached, hit.id, side, "WEBP") is None:
                await _make(ctx, row, side)


async def _make(ctx: Context, row: Row, side: int) -> None:
    """Make one thumbnail; people who wait for others come first."""
    with suppress(ImageError, TwinlensError, OSError, QueueFullError):
        await asyncio.shield(asyncio.wrap_future(ctx.media.thumbnail(row, side, "WEBP")))
    await asyncio.sleep(PAUSE_SECONDS)

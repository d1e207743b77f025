"""Encode pictures for terminals: the kitty graphics protocol, iTerm2's inline images, and sixel.

https://sw.kovidgoyal.net/kitty/graphics-protocol/, https://iterm2.com/documentation-images.html,
https://vt100.net/docs/vt3xx-gp/chapter14.html
"""

from __future__ import annotations

import io
import re
from base64 import standard_b64encode
from typing import TYPE_CHECKING, Literal, get_args

from twinlens.search.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from PIL.Image import Image

GraphicsProtocol = Literal["kitty", "iterm2", "sixel"]
PROTOCOLS: tuple[GraphicsProtocol, ...] = get_args(GraphicsProtocol)
#: An environment variable that names the protocol of a terminal that is not recognized.
OVERRIDE = "TWINLENS_PREVIEW"
#: Cells of a picture; a cell is about twice as high as wide.
_COLUMNS, _ROWS = 24, 12
#: Pixels of a picture's longer side. Sixel has no other measure: cells are mostly 10 × 20 pixels.
_SIDE, _SIXEL_SIDE = 320, 240
_SIXEL_COLOURS = 128
#: A character that is repeated; writing its number is shorter from four on.
_RUN = re.compile(r"(.)\1{3,}")
#: Bytes of base64 in one escape sequence of kitty.
_CHUNK = 4096
#: ``TERM_PROGRAM``, in lower case. A terminal sets it, so it says more than what is inherited.
_PROGRAMS: Mapping[str, GraphicsProtocol] = {
    "ghostty": "kitty",
    "kitty": "kitty",
    "iterm.app": "iterm2",
    "wezterm": "iterm2",
    "mintty": "iterm2",
    "vscode": "iterm2",
    "tabby": "iterm2",
    "hyper": "iterm2",
    "rio": "iterm2",
    "warpterminal": "iterm2",
    "blackbox": "sixel",
    "contour": "sixel",
}
#: What ``TERM`` begins with.
_TERMS: Mapping[str, GraphicsProtocol] = {
    "xterm-kitty": "kitty",
    "xterm-ghostty": "kitty",
    "wezterm": "iterm2",
    "foot": "sixel",
    "mlterm": "sixel",
    "contour": "sixel",
    "yaft": "sixel",
}
#: Variables that a terminal sets for what runs in it. Windows Terminal has sixel since 1.22.
_VARIABLES: Mapping[str, GraphicsProtocol] = {
    "KITTY_WINDOW_ID": "kitty",
    "KONSOLE_VERSION": "kitty",
    "WT_SESSION": "sixel",
}
#: Terminals that do not pass pictures on to the one that they run in, or show none.
_WITHOUT = ("tmux", "screen", "zellij", "dumb", "linux")


def protocol_of(environment: Mapping[str, str]) -> GraphicsProtocol | None:
    """How the terminal shows pictures, by its environment variables; ``None`` if it does not.

    Raises:
        UsageError: ``TWINLENS_PREVIEW`` names no protocol.
    """
    if chosen := environment.get(OVERRIDE):
        if chosen not in PROTOCOLS:
            raise UsageError(f"{OVERRIDE} is {chosen!r}: the protocols are {', '.join(PROTOCOLS)}")
        return PROTOCOLS[PROTOCOLS.index(chosen)]
    term = environment.get("TERM", "").lower()
    if "TMUX" in environment or "ZELLIJ" in environment or term.startswith(_WITHOUT):
        return None
    if program := environment.get("TERM_PROGRAM", "").lower():
        return _PROGRAMS.get(program)
    if environment.get("LC_TERMINAL") == "iTerm2":  # ssh passes it on
        return "iterm2"
    for start, protocol in _TERMS.items():
        if term.startswith(start):
            return protocol
    if "sixel" in term:
        return "sixel"
    return next((_VARIABLES[name] for name in _VARIABLES if environment.get(name)), None)


def inline_image(data: bytes, protocol: GraphicsProtocol) -> str:
    """The escape sequences that show an image file, at most about 24 columns × 12 rows large.

    Args:
        data: an image file, in any format that ``decode`` reads.
        protocol: of the terminal.

    Raises:
        ImageError: it cannot be decoded.
    """
    from twinlens.search.images.decode import decode

    side = _SIXEL_SIDE if protocol == "sixel" else _SIDE
    image = decode(data, target=side).image
    image.thumbnail((side, side))
    if protocol == "sixel":
        return _sixel(image)
    # Encoded anew: a server may send anything, and kitty takes PNG only.
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    wide = image.width * _ROWS * 2 >= image.height * _COLUMNS
    return (_kitty if protocol == "kitty" else _iterm2)(buffer.getvalue(), wide)


def _kitty(png: bytes, wide: bool) -> str:
    encoded = standard_b64encode(png).decode("ascii")
    chunks = [encoded[at : at + _CHUNK] for at in range(0, len(encoded), _CHUNK)]
    # One side only: the terminal keeps the proportions. q=2: it answers nothing.
    size = f"c={_COLUMNS}" if wide else f"r={_ROWS}"
    keys = [f"a=T,f=100,q=2,{size},"] + [""] * (len(chunks) - 1)
    return "".join(
        f"\x1b_G{key}m={int(number < len(chunks))};{chunk}\x1b\\"
        for number, (key, chunk) in enumerate(zip(keys, chunks, strict=True), 1)
    )


def _iterm2(png: bytes, wide: bool) -> str:
    encoded = standard_b64encode(png).decode("ascii")
    size = f"width={_COLUMNS}" if wide else f"height={_ROWS}"
    return f"\x1b]1337;File=inline=1;size={len(png)};{size};preserveAspectRatio=1:{encoded}\x07"


def _sixel(image: Image) -> str:
    """Encode a picture as sixels: six rows of pixels at a time, colour by colour."""
    import numpy as np

    palette = image.quantize(_SIXEL_COLOURS)
    colours = np.reshape(palette.getpalette() or [], (-1, 3)).astype(int) * 100 // 255
    pixels = np.asarray(palette)
    height, width = pixels.shape
    lines = [
        f'\x1bP0;1q"1;1;{width};{height}',
        *(f"#{number};2;{r};{g};{b}" for number, (r, g, b) in enumerate(colours.tolist())),
    ]
    for top in range(0, height, 6):
        band = pixels[top : top + 6]
        bits = 1 << np.arange(len(band))[:, None]
        lines.append("$".join(_colour_lines(band, bits)) + "-")
    return "".join(lines) + "\x1b\\"


def _colour_lines(band: np.ndarray, bits: np.ndarray) -> Iterator[str]:
    """For each colour of a band, its sixels: characters from ``?``, runs written as ``!9?``."""
    import numpy as np

    for colour in np.unique(band).tolist():
        sixels = ((band == colour) * bits).sum(axis=0) + 63
        text = sixels.astype(np.uint8).tobytes().decode("ascii").rstrip("?")
        yield f"#{colour}" + _RUN.sub(lambda run: f"!{len(run[0])}{run[1]}", text)

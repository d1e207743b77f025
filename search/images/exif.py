"""What a picture's EXIF says that is worth storing: when, with what, where."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Exif


def read_exif(exif: Exif) -> dict[str, str | float | int]:
    """Read what is worth storing; what is not sane is left out."""
    metadata: dict[str, str | float | int] = {}
    for read in (_taken, _camera, _place):
        with suppress(Exception):
            metadata.update(read(exif))
    return metadata


_DATE = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)(?:[ T](\d\d):(\d\d):(\d\d))?", re.ASCII)


def _taken(exif: Exif) -> dict[str, str | int]:
    details = exif.get_ifd(0x8769)
    # When it was taken, when it was digitised, when the file was last changed.
    for value in (details.get(0x9003), details.get(0x9004), exif.get(0x0132)):
        found = _DATE.match(_text(value))
        if not found:
            continue
        year, month, day, hour, minute, second = map(int, found.groups("0"))
        with suppress(ValueError):  # 0000:00:00, the 31st of June …
            moment = datetime(year, month, day, hour, minute, second)
            if 1800 <= year <= 2200:
                return {"taken": moment.isoformat(), "year": year}
    return {}


def _camera(exif: Exif) -> dict[str, str]:
    make, model = _text(exif.get(0x010F)), _text(exif.get(0x0110))
    # "NIKON CORPORATION" and "NIKON D70" are one maker, named once.
    if make and model and model.split()[0].lower() == make.split()[0].lower():
        make = ""
    camera = f"{make} {model}".strip()
    return {"camera": camera} if camera else {}


def _place(exif: Exif) -> dict[str, float]:
    gps = exif.get_ifd(0x8825)
    latitude = _degrees(gps.get(2), _text(gps.get(1)).upper(), "N", "S", 90)
    longitude = _degrees(gps.get(4), _text(gps.get(3)).upper(), "E", "W", 180)
    # Cameras without a fix write 0, 0.
    if latitude is None or longitude is None or latitude == longitude == 0:
        return {}
    return {"latitude": latitude, "longitude": longitude}


def _degrees(value: Any, side: str, plus: str, minus: str, limit: int) -> float | None:
    if side not in (plus, minus):
        return None
    degrees: float = sum(float(part) / 60**power for power, part in enumerate(value))
    if not math.isfinite(degrees) or not 0 <= degrees <= limit:
        return None
    return round(degrees if side == plus else -degrees, 7)


def _text(value: Any) -> str:
    """Tidy a text tag: what precedes the NUL, printable, blanks collapsed, at most 100 long."""
    if isinstance(value, str):  # Pillow reads these as Latin-1; many phones write UTF-8
        value = value.encode("latin-1", "replace")
    if not isinstance(value, bytes):
        return ""
    value = value.partition(b"\0")[0]
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:100]

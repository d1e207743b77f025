"""Read date, camera and location from an image's EXIF."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from datetime import date, time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Exif


def read_exif(exif: Exif) -> dict[str, str | float | int]:
    """Read the metadata to store; implausible values are left out.

    Returns:
        Those present of: ``taken`` (ISO 8601, local time; the day alone if the clock is impossible,
        and never the day on which a program edited the file), ``year``, ``camera``, ``latitude``
        and ``longitude`` (decimal degrees, WGS 84).
    """
    metadata: dict[str, str | float | int] = {}
    for read in (_taken, _camera, _location):
        with suppress(Exception):
            metadata.update(read(exif))
    return metadata


_DATE = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?))?", re.ASCII)


def _taken(exif: Exif) -> dict[str, str | int]:
    details = exif.get_ifd(0x8769)
    # DateTimeOriginal and DateTimeDigitized.
    values = [_text(details.get(tag)) for tag in (0x9003, 0x9004)]
    if not any(values) and _is_from_camera(exif):
        values.append(_text(exif.get(0x0132)))
    return next(filter(None, map(_day, values)), {})


def _is_from_camera(exif: Exif) -> bool:
    """Whether a camera wrote DateTime, the last change of the file: no program has edited it."""
    camera = _text(exif.get(0x010F)) or _text(exif.get(0x0110))
    # Software and ProcessingSoftware.
    return bool(camera) and not (_text(exif.get(0x0131)) or _text(exif.get(0x000B)))


def _day(text: str) -> dict[str, str | int]:
    """``taken`` and ``year`` of a date: with the time where that is valid, else the day alone."""
    found = _DATE.match(text)
    if not found:
        return {}
    year, month, day = (int(found[number]) for number in (1, 2, 3))
    with suppress(ValueError):  # 0000:00:00, the 31st of June …
        taken = date(year, month, day).isoformat()
        if 1800 <= year <= 2200:
            with suppress(ValueError, TypeError):  # 24:08:19, or no time at all
                taken = f"{taken}T{time.fromisoformat(found[4]).isoformat()}"
            return {"taken": taken, "year": year}
    return {}


def _camera(exif: Exif) -> dict[str, str]:
    make, model = _text(exif.get(0x010F)), _text(exif.get(0x0110))
    # Do not name the maker twice: "NIKON CORPORATION" and "NIKON D70".
    if make and model and model.split()[0].lower() == make.split()[0].lower():
        make = ""
    camera = f"{make} {model}".strip()
    return {"camera": camera} if camera else {}


def _location(exif: Exif) -> dict[str, float]:
    gps = exif.get_ifd(0x8825)
    latitude = _degrees(gps.get(2), _text(gps.get(1)).upper(), "N", "S", 90)
    longitude = _degrees(gps.get(4), _text(gps.get(3)).upper(), "E", "W", 180)
    # Cameras without a GPS fix write 0, 0.
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
    """Clean a text tag: up to the NUL, printable, single spaces, at most 100 characters."""
    if isinstance(value, str):  # Pillow decodes it as Latin-1, but many phones write UTF-8
        value = value.encode("latin-1", "replace")
    if not isinstance(value, bytes):
        return ""
    value = value.partition(b"\0")[0]
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:100]

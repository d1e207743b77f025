"""Read defaults of options from ``twinlens.toml``, in the current folder or the user's settings.

    db = "photos.db"            # relative to this file; or an address
    collection = "holidays"
    model = "siglip2-b32"
    device = "cpu"
    exclude = ["*.tmp", "cache/"]

An option on the command line wins, then an environment variable, then the file in the current
folder, then ``twinlens/twinlens.toml`` in the user's folder of settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinlens.search.errors import UsageError

NAME = "twinlens.toml"
#: The options that a file can set, with the types of their values.
OPTIONS: dict[str, type] = {"db": str, "collection": str, "model": str, "device": str,
                            "exclude": list}  # fmt: skip


def read_config() -> dict[str, Any]:
    """The defaults of options that the files set.

    Raises:
        UsageError: a file cannot be read, or sets what is no option.
    """
    found: dict[str, Any] = {}
    for path in (_user_file(), Path(NAME)):
        if path.is_file():
            found |= _read(path)
    return found


def _user_file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("twinlens") / NAME


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    for name, value in values.items():
        kind = OPTIONS.get(name)
        if kind is None:
            raise UsageError(f"{path} sets {name!r}: the options are {', '.join(OPTIONS)}")
        texts = value if kind is list else [value]
        if not isinstance(value, kind) or not all(isinstance(one, str) for one in texts):
            wanted = "a list of texts" if kind is list else "a text"
            raise UsageError(f"{path}: {name} must be {wanted}, not {value!r}")
    db = values.get("db", "")
    if db and "://" not in db:
        values["db"] = str(path.absolute().parent / Path(db).expanduser())
    return values

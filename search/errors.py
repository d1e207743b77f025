"""Define the errors that twinlens raises; each message says what is wrong and what to do.

    TwinlensError                    the base class of all errors
    ├── UsageError                   an argument is not valid
    │   ├── FilterError              a filter is not valid
    │   ├── NotStoredError           nothing is stored under a name
    │   └── OptionError              the value of an option is not valid
    ├── ImageError                   an image cannot be read or decoded
    │   └── HostRefusedError         its host is not public, and its network is not allowed
    ├── SourceError                  a corpus or a caption file cannot be read
    ├── ClusterError                 a Ray cluster cannot be reached, or failed
    ├── ModelError                   a model cannot be found, downloaded or loaded
    │   └── ModelMismatchError       the collection was created with another model
    └── StoreError                   Milvus failed or refused
        ├── StoreLockedError         another process has the Milvus Lite file open
        ├── StoreReadOnlyError       the Milvus Lite file cannot be written to
        ├── StoreUnreachableError    no server answers at the address
        │   └── StoreLoadingError    the server has not loaded the collection yet
        ├── CollectionNotFoundError  there is no such collection
        └── UnsupportedError         the backend does not support what was requested

``str(error)`` is one line for people; the command line prints it unchanged.
"""

from __future__ import annotations


class TwinlensError(Exception):
    """The base class of all errors that twinlens raises."""


class UsageError(TwinlensError):
    """An argument or an option is not valid; the message says how to fix it."""


class FilterError(UsageError):
    """A filter cannot be parsed, or names an unknown field."""


class NotStoredError(UsageError):
    """Nothing is stored under the name that was asked for.

    Args:
        message: what to say.
        name: the id or path, if all that is known of it is that it is not stored.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message, name)
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])


class OptionError(UsageError):
    """The value of an option is not valid; the command line calls the option as it was typed.

    Args:
        wrong: what is wrong; with a name before it, a sentence.
        option: the name in Python.
    """

    def __init__(self, wrong: str, option: str = "") -> None:
        super().__init__(wrong, option)
        self.wrong = wrong
        self.option = option

    def __str__(self) -> str:
        return f"{self.option} {self.wrong}".strip()


class ImageError(TwinlensError):
    """An image cannot be read or decoded; the message is the reason."""


class HostRefusedError(ImageError):
    """An image's host is not public, and its network is not allowed: another run may allow it."""


class SourceError(TwinlensError):
    """A corpus or a caption file cannot be read; the message says where."""


class ModelError(TwinlensError):
    """A model cannot be found, downloaded or loaded."""


class ModelMismatchError(ModelError):
    """The collection contains embeddings of another model than the requested one."""


class ClusterError(TwinlensError):
    """A Ray cluster cannot be reached, or its work failed."""


class StoreError(TwinlensError):
    """Milvus failed, or refused a call."""


class StoreLockedError(StoreError):
    """Another process has the Milvus Lite file open."""


class StoreReadOnlyError(StoreError):
    """The Milvus Lite file, or the disk it is on, cannot be written to."""


class StoreUnreachableError(StoreError):
    """No Milvus server answers at the address, or it refuses the connection."""


class StoreLoadingError(StoreUnreachableError):
    """Milvus has not loaded the collection, as for a while after it was started: try again."""


class CollectionNotFoundError(StoreError):
    """The database has no collection of that name."""


class UnsupportedError(StoreError):
    """The connected backend does not support what was requested."""


def reason_of(error: ImageError | OSError) -> str:
    """Why an image cannot be read: the message of an image error, or the reason of an I/O error."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first line of an exception's message, to quote in a message of ours.

    Args:
        error: any exception; without a message, the name of its class is used.
        limit: the most characters to return.
    """
    message = str(getattr(error, "message", "") or error).strip() or type(error).__name__
    return message.splitlines()[0][:limit]

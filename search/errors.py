"""The errors twinlens raises, each with a message that says what was wrong and what to do.

    TwinlensError                the root: catch this to catch them all
    ├── UsageError               the caller asked for something that makes no sense
    │   └── FilterError          a filter that cannot be understood
    ├── ImageError               one picture that cannot be decoded
    ├── SourceError              a corpus, or a caption file, that cannot be read
    ├── ClusterError             a Ray cluster that cannot be reached, or gave up
    ├── ModelError               a model that cannot be found, fetched or loaded
    │   └── ModelMismatchError   the collection was made with another model
    └── StoreError               Milvus said no
        ├── StoreLockedError     another process holds the Milvus Lite file
        ├── StoreUnreachableError  no server answers at the address
        ├── CollectionNotFoundError  there is no such collection
        └── UnsupportedError     this backend cannot do what was asked

``str(error)`` is one line meant for people; the command line prints it as it is.
"""

from __future__ import annotations


class TwinlensError(Exception):
    """The root of every error that twinlens raises on purpose."""


class UsageError(TwinlensError):
    """What was asked makes no sense as asked; the message says how to ask it."""


class FilterError(UsageError):
    """A filter that cannot be parsed, or names a field that is not there."""


class ImageError(TwinlensError):
    """One picture that cannot be decoded; the message is the reason."""


class SourceError(TwinlensError):
    """A corpus or a caption file that cannot be read; the message says where."""


class ModelError(TwinlensError):
    """A model that cannot be found, fetched or loaded."""


class ModelMismatchError(ModelError):
    """The collection holds embeddings of another model than the one asked for."""


class ClusterError(TwinlensError):
    """A Ray cluster that cannot be reached, or that gave up on its work."""


class StoreError(TwinlensError):
    """Milvus could not do what was asked."""


class StoreLockedError(StoreError):
    """Another process has the Milvus Lite file open."""


class StoreUnreachableError(StoreError):
    """No Milvus server answers at the address, or it refuses us."""


class CollectionNotFoundError(StoreError):
    """The database has no collection of that name."""


class UnsupportedError(StoreError):
    """The connected backend lacks a capability that was asked for."""


def reason_of(error: ImageError | OSError) -> str:
    """Why a picture cannot be had: an error of the disk or the network says what was wanted."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first line of an exception's message, for use within one of ours.

    Args:
        error: anybody's exception; one without a message gives the name of its class.
        limit: characters to keep.
    """
    message = str(getattr(error, "message", "") or error).strip() or type(error).__name__
    return message.splitlines()[0][:limit]

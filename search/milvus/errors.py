"""What Milvus' own errors become: one line of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twinlens.search.errors import StoreError, StoreUnreachableError, UnsupportedError, first_line
from twinlens.search.milvus.expressions import NO_ESCAPES, ROW_WISE

#: What pymilvus says in errors that have no type of their own: nobody answers, nobody answers in
#: time, and the connection is being replaced by a new one while this call wanted to use it.
_AWAY = ("fail connecting", "unavailable", "deadline", "closed channel", "channel closed")
_CLOSED = "should create connection first"


@contextmanager
def milvus_errors(doing: str) -> Iterator[None]:
    """Turn what pymilvus raises into one line of ours."""
    from grpc import RpcError
    from pymilvus.exceptions import ConnectError, MilvusException, MilvusUnavailableException

    try:
        yield
    except (MilvusUnavailableException, ConnectError, RpcError) as error:
        raise _away(doing, error) from error
    except (MilvusException, ValueError, TypeError) as error:
        said = (getattr(error, "message", "") or str(error)).lower()
        if _CLOSED in said:
            raise StoreError(f"this index is closed: open it again to {doing}") from error
        if ROW_WISE in said:
            raise UnsupportedError(NO_ESCAPES) from error
        if any(sign in said for sign in _AWAY):
            raise _away(doing, error) from error
        raise StoreError(f"Milvus could not {doing}: {first_line(error)}") from error


def _away(doing: str, error: Exception) -> StoreUnreachableError:
    return StoreUnreachableError(f"Milvus went away while trying to {doing}: {first_line(error)}")

"""What Milvus' own errors become: one line of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from search.address import first_line
from search.errors import StoreError, StoreUnreachableError


@contextmanager
def milvus_errors(doing: str) -> Iterator[None]:
    """Turn what pymilvus raises into one line of ours."""
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException, MilvusUnavailableException

    try:
        yield
    except (MilvusUnavailableException, RpcError) as error:
        raise StoreUnreachableError(
            f"Milvus went away while trying to {doing}: {first_line(error)}"
        ) from error
    except (MilvusException, ValueError, TypeError) as error:
        text = first_line(error)
        if "UNAVAILABLE" in text or "DEADLINE" in text.upper():
            raise StoreUnreachableError(
                f"Milvus went away while trying to {doing}: {text}"
            ) from error
        raise StoreError(f"Milvus could not {doing}: {text}") from error

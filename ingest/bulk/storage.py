"""``Storage``: files that this process writes and a Milvus server reads, in a folder or on S3."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

from twinlens.search.errors import SourceError, UsageError, first_line
from twinlens.search.paths import expand_home


class Storage(Protocol):
    """Named files."""

    def put(self, name: str, path: Path) -> None:
        """Store a file."""

    def write(self, name: str, data: bytes) -> None:
        """Store bytes, replacing a file of the same name."""

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is no such file."""

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a stored file for reading, with random access."""

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""

    def address(self, name: str) -> str:
        """The path or key by which the server reads the file."""


def open_storage(uri: str) -> Storage:
    """Open the storage at ``s3://bucket/prefix``, at a path, or at a ``file://`` address.

    Raises:
        UsageError: the address is invalid, or boto3 is not installed.
        SourceError: it cannot be reached.
    """
    split = urlsplit(uri)
    if split.scheme == "s3":
        if not split.netloc or not split.path.strip("/"):
            raise UsageError(f"{uri} names no folder of a bucket: give it as s3://bucket/prefix")
        return Bucket(split.netloc, split.path.strip("/"))
    if split.scheme not in ("", "file") or split.netloc or not split.path:
        raise UsageError(f"{uri} is neither s3://bucket/prefix nor a folder")
    return Folder(Path(unquote(split.path) if split.scheme else uri))


class Folder:
    """A folder that the server can read under the same path."""

    def __init__(self, folder: Path) -> None:
        self._folder = expand_home(folder).absolute()
        with self._errors():
            self._folder.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return str(self._folder)

    def put(self, name: str, path: Path) -> None:
        with self._errors():
            shutil.copyfile(path, self._partial(name))
            self._partial(name).replace(self._folder / name)

    def write(self, name: str, data: bytes) -> None:
        with self._errors():
            self._partial(name).write_bytes(data)
            self._partial(name).replace(self._folder / name)

    def read(self, name: str) -> bytes | None:
        with self._errors():
            path = self._folder / name
            return path.read_bytes() if path.exists() else None

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        with self._errors(), (self._folder / name).open("rb") as file:
            yield file

    def delete(self, name: str) -> None:
        with self._errors():
            (self._folder / name).unlink(missing_ok=True)

    def address(self, name: str) -> str:
        return str(self._folder / name)

    def _partial(self, name: str) -> Path:
        return self._folder / f".{name}.partial"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate ``OSError`` into ``SourceError``."""
        try:
            yield
        except OSError as error:
            raise SourceError(f"{self}: {error.strerror or error}") from error


class Bucket:
    """A prefix in an S3 bucket, which must be the bucket that the server stores its own data in.

    boto3 finds credentials, region and endpoint as usual: ``AWS_ACCESS_KEY_ID``,
    ``AWS_ENDPOINT_URL_S3`` and so on.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            import boto3
        except ImportError as error:
            raise UsageError(
                "buckets need boto3: install the extra, pip install 'twinlens[bulk]'"
            ) from error
        self._bucket, self._prefix = bucket, prefix
        with self._errors():
            self._client: Any = boto3.client("s3")

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def put(self, name: str, path: Path) -> None:
        with self._errors():
            self._client.upload_file(os.fspath(path), self._bucket, self.address(name))

    def write(self, name: str, data: bytes) -> None:
        with self._errors():
            self._client.put_object(Bucket=self._bucket, Key=self.address(name), Body=data)

    def read(self, name: str) -> bytes | None:
        with self._errors():
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self.address(name))
            except self._client.exceptions.NoSuchKey:
                return None
            data: bytes = found["Body"].read()
            return data

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryFile() as file:
            with self._errors():
                self._client.download_fileobj(self._bucket, self.address(name), file)
            file.seek(0)
            yield file

    def delete(self, name: str) -> None:
        with self._errors():
            self._client.delete_object(Bucket=self._bucket, Key=self.address(name))

    def address(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate errors of boto3 into ``SourceError``."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise SourceError(f"{self}: {first_line(error)}") from error

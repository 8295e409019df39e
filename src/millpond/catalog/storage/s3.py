"""Files in a bucket. Directories are prefixes; an empty one is kept by an object whose key ends in a slash."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from millpond.catalog.storage.port import HOUSEKEEPING, Entry, FileStatus, Listing, Parts
from millpond.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    StorageFull,
    Unavailable,
)
from millpond.kernel.settings import S3Settings

_CHUNK_BYTES = 1 << 20
_PART_BYTES = 16 << 20  # parts of a plain upload: 10,000 of them make 156 GiB
_SPOOL_BYTES = 1 << 20
_MAX_KEYS = 1000
_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})
_TAKEN = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_WRONG_PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})


def client(settings: S3Settings) -> Any:
    """A client of the object store of the settings; without keys, boto3's own sources of credentials."""
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        config=Config(retries={"max_attempts": 3, "mode": "standard"}, connect_timeout=5, read_timeout=60),
    )


class S3Tree:
    """The files below one prefix of a bucket."""

    def __init__(self, location: str, settings: S3Settings, *, shown: str) -> None:
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        self.bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._shown = shown
        self.s3 = client(settings)

    def status(self, parts: Parts) -> FileStatus | None:
        """See `FileTree`."""
        if parts:
            with self.explained(parts), suppress(_Missing):
                head = self._head(self.key(parts))
                return FileStatus(
                    is_directory=False,
                    size_bytes=head["ContentLength"],
                    modified_at=head["LastModified"].astimezone(UTC),
                    etag=head["ETag"],
                )
        return self._directory_status(parts)

    def read(self, parts: Parts, *, start: int, length: int) -> Iterator[bytes]:
        """See `FileTree`."""
        if length == 0:
            return iter(())
        with self.explained(parts):
            span = f"bytes={start}-{start + length - 1}"
            body = self.s3.get_object(Bucket=self.bucket, Key=self.key(parts), Range=span)["Body"]
        return _pieces(body)

    def save(self, parts: Parts, target: Path) -> None:
        """See `FileTree`."""
        with self.explained(parts):
            body = self.s3.get_object(Bucket=self.bucket, Key=self.key(parts))["Body"]
        with target.open("xb") as file:
            file.writelines(_pieces(body))

    def writer(self, parts: Parts) -> "S3Writer":
        """See `FileTree`."""
        if not parts:
            raise InvalidArgument(f"'{self._shown}' is a directory; name a file in it.")
        return S3Writer(self, parts)

    def list_directory(self, parts: Parts, *, token: str | None, limit: int) -> Listing:
        """See `FileTree`."""
        prefix = self._directory_key(parts)
        query: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": limit}
        if token:
            query["ContinuationToken"] = token
        with self.explained(parts):
            page = self.s3.list_objects_v2(**query)
        if parts and not token and not page.get("KeyCount"):
            raise NotFound(f"Directory '{self.show(parts)}' does not exist.")
        return Listing(entries=tuple(_entries(page, prefix)), next_token=page.get("NextContinuationToken"))

    def make_directory(self, parts: Parts) -> None:
        """See `FileTree`."""
        if not parts:
            return
        for depth in range(1, len(parts) + 1):
            found = self.status(parts[:depth])
            if found is not None and not found.is_directory:
                raise AlreadyExists(f"'{self.show(parts[:depth])}' already exists and is a file.")
        with self.explained(parts):
            self.s3.put_object(Bucket=self.bucket, Key=self._directory_key(parts), Body=b"")

    def remove_directory(self, parts: Parts) -> None:
        """See `FileTree`."""
        if not parts:
            raise InvalidArgument(f"'{self._shown}' is a volume's root; drop the volume instead.")
        found = self.status(parts)
        if found is None:
            raise NotFound(f"Directory '{self.show(parts)}' does not exist.")
        if not found.is_directory:
            raise InvalidArgument(f"'{self.show(parts)}' is a file, not a directory.")
        marker = self._directory_key(parts)
        with self.explained(parts):
            page = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=marker, MaxKeys=2)
            if any(item["Key"] != marker for item in page.get("Contents", ())):
                raise FailedPrecondition(f"Directory '{self.show(parts)}' is not empty.")
            self.s3.delete_object(Bucket=self.bucket, Key=marker)

    def remove_file(self, parts: Parts) -> None:
        """See `FileTree`."""
        found = self.status(parts)
        if found is None:
            raise NotFound(f"File '{self.show(parts)}' does not exist.")
        if found.is_directory:
            raise InvalidArgument(f"'{self.show(parts)}' is a directory, not a file.")
        with self.explained(parts):
            self.s3.delete_object(Bucket=self.bucket, Key=self.key(parts))

    def begin_upload(self, parts: Parts) -> str:
        """See `FileTree`."""
        with self.explained(parts):
            return str(self.s3.create_multipart_upload(Bucket=self.bucket, Key=self.key(parts))["UploadId"])

    def part_writer(self, parts: Parts, token: str, number: int) -> "S3PartWriter":
        """See `FileTree`."""
        return S3PartWriter(self, parts, token, number)

    def complete_upload(self, parts: Parts, token: str, etags: Sequence[tuple[int, str]], *, overwrite: bool) -> None:
        """See `FileTree`."""
        joined = [{"PartNumber": number, "ETag": etag} for number, etag in etags]
        self.complete(parts, token, joined, overwrite=overwrite)

    def complete(self, parts: Parts, token: str, joined: list[dict[str, Any]], *, overwrite: bool) -> str:
        """Join the parts of an upload; its ETag."""
        with self.explained(parts):
            answer = self.s3.complete_multipart_upload(
                Bucket=self.bucket,
                Key=self.key(parts),
                UploadId=token,
                MultipartUpload={"Parts": joined},
                **unless_there(overwrite),
            )
        return str(answer["ETag"])

    def abort_upload(self, parts: Parts, token: str) -> None:
        """See `FileTree`."""
        with suppress(NotFound), self.explained(parts):
            self.s3.abort_multipart_upload(Bucket=self.bucket, Key=self.key(parts), UploadId=token)

    def sweep(self, before: datetime) -> int:
        """See `FileTree`."""
        swept = 0
        with self.explained(()):
            pages = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self._prefix)
            for upload in (item for page in pages for item in page.get("Uploads", ())):
                if upload["Initiated"] < before:
                    self.s3.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    swept += 1
        return swept

    def remove_all(self) -> None:
        """See `FileTree`."""
        if not self._prefix:
            raise InvalidArgument(f"Bucket '{self.bucket}' is not removed as a whole.")
        with self.explained(()):
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._prefix)
            for page in pages:
                keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
                if keys:
                    self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})

    def show(self, parts: Parts) -> str:
        """A path as its user wrote it."""
        return "/".join((self._shown, *parts))

    def key(self, parts: Parts) -> str:
        """The object's key."""
        return self._prefix + "/".join(parts)

    @contextmanager
    def explained(self, parts: Parts) -> Iterator[None]:
        """Errors of the object store as ours."""
        try:
            yield
        except ClientError as error:
            raise self._error(error, parts) from error
        except BotoCoreError as error:
            raise Unavailable(f"The object store of '{self.show(parts)}' does not answer: {error}") from error

    def _error(self, error: ClientError, parts: Parts) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        path = self.show(parts)
        if code in _MISSING:
            return NotFound(f"'{path}' does not exist.")
        if code in _TAKEN:
            return AlreadyExists(f"'{path}' already exists; pass overwrite=true to replace a file.")
        if code in _WRONG_PARTS:
            return InvalidArgument(f"The parts of '{path}' cannot be joined: {code}; upload them again.")
        if code in _FULL:
            return StorageFull(f"There is no room left in the object store for '{path}'.")
        return FailedPrecondition(f"The object store refused '{path}' ({code}); an administrator should look at `s3`.")

    def _head(self, key: str) -> dict[str, Any]:
        try:
            head: dict[str, Any] = self.s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code", "")) in _MISSING:
                raise _Missing from error
            raise
        return head

    def _directory_status(self, parts: Parts) -> FileStatus | None:
        with self.explained(parts):
            page = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=self._directory_key(parts), MaxKeys=1)
        first = next(iter(page.get("Contents", ())), None)
        if first is None:
            return None
        return FileStatus(is_directory=True, size_bytes=0, modified_at=first["LastModified"].astimezone(UTC), etag='""')

    def _directory_key(self, parts: Parts) -> str:
        return self._prefix + "".join(f"{part}/" for part in parts)


class S3Writer:
    """A file sent in parts of some megabytes, joined at the end; small ones in one piece."""

    def __init__(self, tree: S3Tree, parts: Parts) -> None:
        self._tree = tree
        self._parts = parts
        self._buffer = bytearray()
        self._upload: str | None = None
        self._joined: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        """See `Writer`."""
        self._buffer += data
        while len(self._buffer) >= _PART_BYTES:
            self._send(bytes(self._buffer[:_PART_BYTES]))
            del self._buffer[:_PART_BYTES]

    def commit(self, *, overwrite: bool) -> str:
        """See `Writer`."""
        if self._upload is None:
            with self._tree.explained(self._parts):
                answer = self._tree.s3.put_object(
                    Bucket=self._tree.bucket,
                    Key=self._tree.key(self._parts),
                    Body=bytes(self._buffer),
                    **unless_there(overwrite),
                )
            return str(answer["ETag"])
        if self._buffer:
            self._send(bytes(self._buffer))
        etag = self._tree.complete(self._parts, self._upload, self._joined, overwrite=overwrite)
        self._upload = None
        return etag

    def abort(self) -> None:
        """See `Writer`."""
        if self._upload is not None:
            self._tree.abort_upload(self._parts, self._upload)
            self._upload = None

    def _send(self, data: bytes) -> None:
        if self._upload is None:
            self._upload = self._tree.begin_upload(self._parts)
        number = len(self._joined) + 1
        with self._tree.explained(self._parts):
            answer = self._tree.s3.upload_part(
                Bucket=self._tree.bucket,
                Key=self._tree.key(self._parts),
                UploadId=self._upload,
                PartNumber=number,
                Body=data,
            )
        self._joined.append({"PartNumber": number, "ETag": answer["ETag"]})


class S3PartWriter:
    """One part of an upload, kept on disk until it is whole because the store wants its length first."""

    def __init__(self, tree: S3Tree, parts: Parts, token: str, number: int) -> None:
        self._tree = tree
        self._parts = parts
        self._token = token
        self._number = number
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - closed by abort

    def write(self, data: bytes) -> None:
        """See `Writer`."""
        try:
            self._spool.write(data)
        except OSError as error:
            raise StorageFull(f"The server has no room to take part {self._number}: {error.strerror}.") from error

    def commit(self, *, overwrite: bool) -> str:
        """See `Writer`."""
        self._spool.seek(0)
        with self._tree.explained(self._parts):
            answer = self._tree.s3.upload_part(
                Bucket=self._tree.bucket,
                Key=self._tree.key(self._parts),
                UploadId=self._token,
                PartNumber=self._number,
                Body=self._spool,
            )
        return str(answer["ETag"])

    def abort(self) -> None:
        """See `Writer`."""
        self._spool.close()


class _Missing(Exception):
    """No object has this key; there may be a directory."""


def unless_there(overwrite: bool) -> dict[str, str]:
    """The condition under which a store creates but does not replace."""
    return {} if overwrite else {"IfNoneMatch": "*"}


def _pieces(body: Any) -> Iterator[bytes]:
    try:
        yield from body.iter_chunks(_CHUNK_BYTES)
    finally:
        body.close()


def _entries(page: dict[str, Any], prefix: str) -> Iterator[Entry]:
    for item in page.get("CommonPrefixes", ()):
        name = item["Prefix"][len(prefix) :].rstrip("/")
        if name and name != HOUSEKEEPING:
            yield Entry(name=name, is_directory=True, size_bytes=None, modified_at=None)
    for item in page.get("Contents", ()):
        name = item["Key"][len(prefix) :]
        if name:
            yield Entry(
                name=name, is_directory=False, size_bytes=item["Size"], modified_at=item["LastModified"].astimezone(UTC)
            )

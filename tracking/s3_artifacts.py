"""Artifacts in S3, or in anything that speaks it.

A small file is one PUT, a large one a multipart upload, and S3 shows neither before its last request; an upload that
breaks off is aborted, and `sweep` aborts those whose process died.
"""

import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tracking.artifact_paths import ArtifactPath, is_storable_name
from tracking.artifact_uris import ArtifactUri, ProxiedUri, S3Uri
from tracking.artifacts import (
    ABANDONED_AFTER_MS,
    CHUNK_BYTES,
    ArtifactChanged,
    ArtifactIsFolder,
    ArtifactNotFound,
    Entry,
    Page,
    StoredArtifact,
    StoreUnavailable,
    TooManyUploads,
    Upload,
)
from tracking.errors import InvalidParameter
from tracking.filters import InvalidPageToken
from tracking.manifest import FileDigest

if TYPE_CHECKING:
    # Only the type checker has the stubs.
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, HeadObjectOutputTypeDef

# S3 takes parts from 5 MiB, and 10,000 of them: 5,000 of 8 MiB and 5,000 of 16 are 117 GiB. A part is in memory
# while it is collected.
_PART_BYTES = 8 * 1024**2
_LATE_PART_BYTES = 2 * _PART_BYTES
_LATE_PARTS_FROM = 5_000

_DELETE_KEYS_MAX = 1000  # what one DeleteObjects takes

_NOT_THERE = {"404", "NoSuchKey", "NotFound"}
_REPLACED = {"412", "PreconditionFailed"}


class S3Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach S3. Whatever is None is left to boto3's own chain: profiles, roles, instance metadata."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    verify_tls: bool = True
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    attempts_max: int = 4
    uploads_max: int = 32
    """Uploads that one process has open at once; each holds one part in memory."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """AWS's own variables, and the two that MLflow adds to them."""
        return cls(
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3")
            or environment.get("MLFLOW_S3_ENDPOINT_URL")
            or environment.get("AWS_ENDPOINT_URL"),
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
            access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
            secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
            session_token=environment.get("AWS_SESSION_TOKEN"),
            verify_tls=environment.get("MLFLOW_S3_IGNORE_TLS", "").lower() not in {"true", "1"},
        )


class S3ArtifactStore:
    """Files below *prefix* in *bucket*."""

    def __init__(self, bucket: str, prefix: ArtifactPath | None, settings: S3Settings) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.client = _client(settings)
        self._uploads_max = settings.uploads_max
        self._upload_slots = threading.BoundedSemaphore(settings.uploads_max)

    def key(self, path: ArtifactPath) -> str:
        return str(self.prefix / path if self.prefix else path)

    def upload(self, path: ArtifactPath) -> Upload:
        key = self.key(path)
        if not self._upload_slots.acquire(blocking=False):
            raise TooManyUploads(self._uploads_max)
        return _S3Upload(self, path, key)

    def release_upload(self) -> None:
        """Called by an upload when it ends."""
        self._upload_slots.release()

    @contextmanager
    def open(self, path: ArtifactPath) -> Iterator["_S3Reader"]:
        head = self._find_object(path)
        if head is None:
            raise ArtifactIsFolder(path) if self._is_folder(path) else ArtifactNotFound(path)
        yield _S3Reader(self, path, head)

    def stat(self, path: ArtifactPath) -> Entry:
        head = self._find_object(path)
        if head is not None:
            return Entry(name=path.name, is_dir=False, size=head["ContentLength"])
        if self._is_folder(path):
            return Entry(name=path.name, is_dir=True)
        raise ArtifactNotFound(path)

    def _find_object(self, path: ArtifactPath) -> "HeadObjectOutputTypeDef | None":
        with suppress(ArtifactNotFound), _translated(path):
            return self.client.head_object(Bucket=self.bucket, Key=self.key(path))
        return None

    def _is_folder(self, path: ArtifactPath) -> bool:
        with _translated():
            listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self._folder_prefix(path), MaxKeys=1)
        return listed["KeyCount"] > 0

    def list_folder(self, folder: ArtifactPath | None, *, token: str | None = None, limit: int = 1000) -> Page:
        prefix = self._folder_prefix(folder)
        more = {} if token is None else {"ContinuationToken": token}
        with _translated(token_given=token is not None):
            listed = self.client.list_objects_v2(
                Bucket=self.bucket,
                Prefix=prefix,
                Delimiter="/",
                MaxKeys=limit,
                **more,  # type: ignore[arg-type]  # the stubs' TypedDict can't be built up piecemeal
            )
        folders = [
            Entry(name=common["Prefix"].removeprefix(prefix).removesuffix("/"), is_dir=True)
            for common in listed.get("CommonPrefixes", ())
        ]
        files = [
            Entry(name=found["Key"].removeprefix(prefix), is_dir=False, size=found["Size"])
            for found in listed.get("Contents", ())
        ]
        # Consoles make a "folder" by an empty object named `folder/`: below it, an entry without a name.
        entries = sorted(entry for entry in folders + files if is_storable_name(entry.name))
        return Page(tuple(entries), listed.get("NextContinuationToken"))

    def walk(self, folder: ArtifactPath | None) -> Iterator[StoredArtifact]:
        for key, size in self._keys(self._folder_prefix(folder)):
            if not key.endswith("/"):
                yield StoredArtifact(ArtifactPath.parse(key.removeprefix(self._folder_prefix(None))), size)

    def _keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        with _translated():
            for page in pages:
                yield from ((found["Key"], found["Size"]) for found in page.get("Contents", ()))

    def delete(self, path: ArtifactPath) -> None:
        with _translated():
            self.client.delete_object(Bucket=self.bucket, Key=self.key(path))
        batch: list[str] = []
        for key, _ in self._keys(self._folder_prefix(path)):
            batch.append(key)
            if len(batch) == _DELETE_KEYS_MAX:
                self._delete_keys(batch)
                batch = []
        if batch:
            self._delete_keys(batch)

    def _delete_keys(self, keys: list[str]) -> None:
        with _translated():
            answer = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        # A request that succeeded may hold keys that failed.
        if answer.get("Errors"):
            raise StoreUnavailable from RuntimeError(f"S3 kept {len(answer['Errors'])} keys: {answer['Errors'][0]}")

    def locate(self, uri: ArtifactUri) -> ArtifactPath | None:
        match uri:
            case ProxiedUri(path):
                return path
            case S3Uri(bucket, key) if bucket == self.bucket and key is not None and key != self.prefix:
                if self.prefix is None:
                    return key
                return key.relative_to(self.prefix) if key.is_within(self.prefix) else None
            case _:
                return None

    def sweep(self, now_ms: int) -> int:
        swept = 0
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=self._folder_prefix(None)
        )
        with _translated():
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"].timestamp() * 1000 < now_ms - ABANDONED_AFTER_MS:
                        self.abort(upload["Key"], upload["UploadId"])
                        swept += 1
        return swept

    def abort(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload; one that is gone already is fine."""
        # Whatever fails here leaves invisible parts, which the next sweep removes.
        with suppress(ClientError, BotoCoreError):
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)

    def reach(self) -> str:
        with _translated():
            self.client.head_bucket(Bucket=self.bucket)
        return f"bucket {self.bucket} at {self.client.meta.endpoint_url}"

    def _folder_prefix(self, folder: ArtifactPath | None) -> str:
        if folder is None:
            return f"{self.prefix}/" if self.prefix else ""
        return self.key(folder) + "/"


class _S3Reader:
    def __init__(self, store: S3ArtifactStore, path: ArtifactPath, head: "HeadObjectOutputTypeDef") -> None:
        self._store = store
        self._path = path
        self._etag = head["ETag"]
        self.size = head["ContentLength"]

    def chunks(self, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        stop = self.size if stop is None else stop
        if start >= stop:
            return
        with _translated(self._path):
            answer = self._store.client.get_object(
                Bucket=self._store.bucket,
                Key=self._store.key(self._path),
                Range=f"bytes={start}-{stop - 1}",
                # Between the first look and this one, somebody may have put another file there.
                IfMatch=self._etag,
            )
            body = answer["Body"]
            try:
                yield from body.iter_chunks(CHUNK_BYTES)
            finally:
                body.close()


class _S3Upload(Upload):
    """Collects parts; a file of less than one part is sent by `publish` itself."""

    def __init__(self, store: S3ArtifactStore, path: ArtifactPath, key: str) -> None:
        super().__init__(path)
        self._store = store
        self._key = key
        self._part = bytearray()
        self._upload_id: str | None = None
        self._sent: list[CompletedPartTypeDef] = []
        self._open = True

    def _append(self, chunk: bytes) -> None:
        self._part += chunk
        if len(self._part) >= (_PART_BYTES if len(self._sent) < _LATE_PARTS_FROM else _LATE_PART_BYTES):
            self._send_part()

    def _send_part(self) -> None:
        client, bucket, part, self._part = self._store.client, self._store.bucket, self._part, bytearray()
        with _translated():
            if self._upload_id is None:
                begun = client.create_multipart_upload(Bucket=bucket, Key=self._key)
                self._upload_id = begun["UploadId"]
            number = len(self._sent) + 1
            answer = client.upload_part(
                Bucket=bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=bytes(part)
            )
        self._sent.append({"ETag": answer["ETag"], "PartNumber": number})

    def finish(self) -> FileDigest:
        if self._upload_id is not None and self._part:
            self._send_part()
        return self.digest

    def publish(self) -> None:
        client, bucket = self._store.client, self._store.bucket
        with _translated():
            if self._upload_id is None:
                client.put_object(Bucket=bucket, Key=self._key, Body=bytes(self._part))
            else:
                client.complete_multipart_upload(
                    Bucket=bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._sent}
                )
        self._upload_id = None

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._part = bytearray()
        self._store.release_upload()
        if self._upload_id is not None:
            self._store.abort(self._key, self._upload_id)


class S3SettingsUnusable(InvalidParameter):
    """AWS's variables that contradict or lack each other; found before anything is asked of S3."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"The settings for S3 can't be used: {reason}. Expected AWS's own variables, as for `aws s3`.")


def _client(settings: S3Settings) -> "S3Client":
    try:
        return _boto_client(settings)
    except (BotoCoreError, ValueError) as error:  # A bad endpoint is a bare ValueError.
        raise S3SettingsUnusable(error) from error


def _boto_client(settings: S3Settings) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        aws_session_token=settings.session_token,
        verify=None if settings.verify_tls else False,
        config=Config(
            signature_version="s3v4",
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": settings.attempts_max},
            # As many connections as there may be uploads, and as many again for downloads.
            max_pool_connections=2 * settings.uploads_max,
            # boto3's newer checksums are not spoken by every S3; our own SHA-256 is checked at every load.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def _translated(path: ArtifactPath | None = None, *, token_given: bool = False) -> Iterator[None]:
    """Turn S3's errors into ours; for *path*, what says "not there" and "replaced" too."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if path is not None and code in _NOT_THERE:
            raise ArtifactNotFound(path) from error
        if path is not None and code in _REPLACED:
            raise ArtifactChanged(path) from error
        if token_given and code in {"InvalidArgument", "400"}:
            raise InvalidPageToken from error
        raise StoreUnavailable from error
    except BotoCoreError as error:
        raise StoreUnavailable from error

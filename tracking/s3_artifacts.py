"""Artifacts in S3, or in anything that speaks it.

A small file is one PUT, a large one a multipart upload, and S3 shows neither before its last request; an upload that
breaks off is aborted, and `sweep` aborts those whose process died.
"""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from tracking.artifact_paths import ArtifactPath, is_storable_name
from tracking.artifact_uris import ArtifactUri, ProxiedUri, S3Uri
from tracking.artifacts import (
    ABANDONED_AFTER_MS,
    CHUNK_BYTES,
    DELETED_AT_ONCE,
    ArtifactIsFolder,
    ArtifactNotFound,
    Entry,
    Page,
    StoredArtifact,
    StoreUnavailable,
    TooManyUploads,
    Upload,
)
from tracking.encryption import Encryption
from tracking.s3_client import S3Settings, connect, translated
from tracking.s3_signing import S3UrlSigner
from tracking.s3_uploads import PartSenders, S3Upload, Target

if TYPE_CHECKING:
    # Only the type checker has the stubs.
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef, ObjectTypeDef

_DELETE_KEYS_MAX = 1000  # what one DeleteObjects takes


class S3ArtifactStore:
    """Files below *prefix* in *bucket*."""

    def __init__(
        self,
        bucket: str,
        prefix: ArtifactPath | None,
        settings: S3Settings,
        encryption: Encryption = Encryption(),  # noqa: B008  (frozen)
        clients_endpoint_url: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.client = connect(settings)
        # A signature covers the host's name, so it must be the one by which clients reach S3.
        signing = self.client
        if clients_endpoint_url is not None:
            signing = connect(msgspec.structs.replace(settings, endpoint_url=clients_endpoint_url))
        self.signer = S3UrlSigner(self.client, bucket, self.key, encryption, signing=signing)
        self._encryption = encryption
        self._settings = settings
        self._upload_slots = threading.BoundedSemaphore(settings.uploads_max)
        self._senders = PartSenders(settings.parts_max)

    def key(self, path: ArtifactPath) -> str:
        return str(self.prefix / path if self.prefix else path)

    def upload(self, path: ArtifactPath) -> Upload:
        key = self.key(path)
        if not self._upload_slots.acquire(blocking=False):
            raise TooManyUploads(self._settings.uploads_max)
        return S3Upload(
            path,
            Target(self.client, self.bucket, key, self._encryption),
            self._senders,
            parts_max=self._settings.parts_of_upload_max,
            abort=partial(self.abort, key),
            closed=self._upload_slots.release,
        )

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
        with suppress(ArtifactNotFound), translated(path):
            return self.client.head_object(Bucket=self.bucket, Key=self.key(path))
        return None

    def _is_folder(self, path: ArtifactPath) -> bool:
        with translated():
            listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self._folder_prefix(path), MaxKeys=1)
        return listed["KeyCount"] > 0

    def list_folder(self, folder: ArtifactPath | None, *, token: str | None = None, limit: int = 1000) -> Page:
        prefix = self._folder_prefix(folder)
        more = {} if token is None else {"ContinuationToken": token}
        with translated(token_given=token is not None):
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
        for found in self._objects(self._folder_prefix(folder)):
            if not found["Key"].endswith("/"):
                path = ArtifactPath.parse(found["Key"].removeprefix(self._folder_prefix(None)))
                yield StoredArtifact(path, found["Size"], int(found["LastModified"].timestamp() * 1000))

    def _objects(self, prefix: str) -> "Iterator[ObjectTypeDef]":
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        with translated():
            for page in pages:
                yield from page.get("Contents", ())

    def delete(self, path: ArtifactPath) -> None:
        while self.delete_some(path, DELETED_AT_ONCE):
            pass

    def delete_some(self, path: ArtifactPath, files_max: int) -> bool:
        # One key is kept free for a file of that very name: S3 may have both.
        files_max = min(files_max, _DELETE_KEYS_MAX) - 1
        with translated():
            listed = self.client.list_objects_v2(
                Bucket=self.bucket, Prefix=self._folder_prefix(path), MaxKeys=max(files_max, 1)
            )
        self._delete_keys([self.key(path), *(found["Key"] for found in listed.get("Contents", ()))])
        return listed["IsTruncated"]

    def _delete_keys(self, keys: list[str]) -> None:
        with translated():
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
        with translated():
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
        with translated():
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
        with translated(self._path):
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

"""URLs by which clients without credentials reach one object of S3 for a while."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from botocore.exceptions import ClientError

from tracking.artifact_paths import ArtifactPath
from tracking.encryption import Encryption
from tracking.s3_client import error_code, translated
from tracking.signed_urls import PartsDontFit, SentPart, SignedParts, SignedUrl, UploadNotFound

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NO_UPLOAD = {"NoSuchUpload", "404"}
_BAD_PARTS = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML", "InvalidArgument"}


class S3UrlSigner:
    """For the objects of one bucket. *signing* reaches S3 as clients do; it makes URLs, and asks nothing of S3."""

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        key: Callable[[ArtifactPath], str],
        encryption: Encryption,
        *,
        signing: "S3Client",
    ) -> None:
        self._client = client
        self._signing = signing
        self._bucket = bucket
        self._key = key
        self._encryption = encryption

    def download(self, path: ArtifactPath, life_s: int) -> SignedUrl:
        # As the proxy sends it: whatever somebody logged is never shown as a page from the bucket's address.
        shown = {
            "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(path.name, safe='')}",
            "ResponseContentType": "application/octet-stream",
        }
        return SignedUrl(self._sign("get_object", path, life_s, shown), {})

    def upload(self, path: ArtifactPath, life_s: int) -> SignedUrl:
        return SignedUrl(
            self._sign("put_object", path, life_s, self._encryption.arguments), dict(self._encryption.headers)
        )

    def begin_parts(self, path: ArtifactPath, count: int, life_s: int) -> SignedParts:
        with translated():
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket,
                Key=self._key(path),
                **self._encryption.arguments,  # type: ignore[arg-type]  # the stubs want each argument named
            )
        upload_id = begun["UploadId"]
        return SignedParts(
            upload_id,
            tuple(
                SignedUrl(self._sign("upload_part", path, life_s, {"UploadId": upload_id, "PartNumber": number}), {})
                for number in range(1, count + 1)
            ),
        )

    def size_of_parts(self, path: ArtifactPath, upload_id: str) -> int:
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=self._key(path), UploadId=upload_id
        )
        with translated(), _translated_upload(path):
            return sum(part["Size"] for page in pages for part in page.get("Parts", ()))

    def finish_parts(self, path: ArtifactPath, upload_id: str, parts: Sequence[SentPart]) -> None:
        with translated(), _translated_upload(path):
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key(path),
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]},
            )

    def abort_parts(self, path: ArtifactPath, upload_id: str) -> None:
        with translated():
            try:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key(path), UploadId=upload_id)
            except ClientError as error:
                if error_code(error) not in _NO_UPLOAD:
                    raise

    def _sign(self, call: str, path: ArtifactPath, life_s: int, arguments: Mapping[str, object]) -> str:
        with translated():
            return self._signing.generate_presigned_url(
                call, Params={"Bucket": self._bucket, "Key": self._key(path), **arguments}, ExpiresIn=life_s
            )


@contextmanager
def _translated_upload(path: ArtifactPath) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code in _NO_UPLOAD:
            raise UploadNotFound(path) from error
        if code in _BAD_PARTS:
            raise PartsDontFit(path) from error
        raise

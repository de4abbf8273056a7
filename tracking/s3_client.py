"""How S3 is reached, and what its errors mean here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactChanged, ArtifactNotFound, StoreUnavailable
from tracking.errors import InvalidParameter
from tracking.filters import InvalidPageToken

if TYPE_CHECKING:
    # Only the type checker has the stubs.
    from mypy_boto3_s3 import S3Client

PART_BYTES = 8 * 1024**2
"""S3 takes parts from 5 MiB, and 10,000 of them: 5,000 of 8 MiB and 5,000 of 16 are 117 GiB."""

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
    """Uploads that one process has open at once; each collects one part in memory."""
    parts_max: int = 16
    """Parts that one process has on their way at once, of all uploads together; each is in memory."""
    parts_of_upload_max: int = 3
    """Of these, parts of one upload."""

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


class S3SettingsUnusable(InvalidParameter):
    """AWS's variables that contradict or lack each other; found before anything is asked of S3."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"The settings for S3 can't be used: {reason}. Expected AWS's own variables, as for `aws s3`.")


def connect(settings: S3Settings) -> "S3Client":
    """A client that several threads may use. Nothing is asked of S3 yet.

    Raises:
        S3SettingsUnusable: if no client can be made of *settings*.
    """
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
            # As many connections as there may be uploads and parts, and as many again for downloads.
            max_pool_connections=2 * settings.uploads_max + settings.parts_max,
            # boto3's newer checksums are not spoken by every S3; our own SHA-256 is checked at every load.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def translated(path: ArtifactPath | None = None, *, token_given: bool = False) -> Iterator[None]:
    """Turn S3's errors into ours; for *path*, what says "not there" and "replaced" too."""
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if path is not None and code in _NOT_THERE:
            raise ArtifactNotFound(path) from error
        if path is not None and code in _REPLACED:
            raise ArtifactChanged(path) from error
        if token_given and code in {"InvalidArgument", "400"}:
            raise InvalidPageToken from error
        raise StoreUnavailable from error
    except BotoCoreError as error:
        raise StoreUnavailable from error


def error_code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")

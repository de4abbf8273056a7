"""What is asked of S3 with every write: to encrypt what it keeps."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from tracking.errors import InvalidParameter


class S3Encryption(StrEnum):
    NONE = "none"
    AES256 = "AES256"
    """SSE-S3: by a key that S3 keeps."""
    KMS = "aws:kms"
    """SSE-KMS: by a key of the key management service, whose use can be restricted and is logged there."""


class KeyWithoutKms(InvalidParameter):
    def __init__(self, kind: S3Encryption) -> None:
        super().__init__(f"A KMS key id goes with the encryption 'aws:kms' only, not with {str(kind)!r}.")


class Encryption(msgspec.Struct, frozen=True):
    """Of objects at rest. Amazon encrypts by AES256 anyway; asked for, it also satisfies bucket policies and others."""

    kind: S3Encryption = S3Encryption.AES256
    kms_key_id: str | None = None
    """None is the account's own key."""

    def __post_init__(self) -> None:
        if self.kms_key_id and self.kind is not S3Encryption.KMS:
            raise KeyWithoutKms(self.kind)

    @property
    def arguments(self) -> dict[str, str]:
        """For boto3's calls that make an object."""
        if self.kind is S3Encryption.NONE:
            return {}
        key = {"SSEKMSKeyId": self.kms_key_id} if self.kms_key_id else {}
        return {"ServerSideEncryption": self.kind.value, **key}

    @property
    def headers(self) -> Mapping[str, str]:
        """The same as headers: they are signed, so whoever uses a signed URL sends them too."""
        names = {
            "ServerSideEncryption": "x-amz-server-side-encryption",
            "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
        }
        return {names[argument]: value for argument, value in self.arguments.items()}

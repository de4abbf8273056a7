"""What a store does for clients that come to it themselves: URLs that are signed for one file and a short time.

Bytes that go this way are not seen by us. `artifact_records.expect_unread` says so before a URL is given out.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from tracking.artifact_paths import ArtifactPath
from tracking.errors import InvalidParameter, NotFound

PARTS_MAX = 10_000
"""S3's own bound on one upload."""


class UploadNotFound(NotFound):
    def __init__(self, path: ArtifactPath) -> None:
        super().__init__(f"There is no such upload of {str(path)!r}: it was finished, or broken off, or never begun.")


class PartsDontFit(InvalidParameter):
    def __init__(self, path: ArtifactPath) -> None:
        super().__init__(
            f"The upload of {str(path)!r} can't be made of these parts: one is missing, changed, out of order or, "
            "before the last, smaller than S3 takes."
        )


class SignedUrl(msgspec.Struct, frozen=True):
    url: str
    headers: Mapping[str, str]
    """What must be sent with it, to the letter."""


class SignedParts(msgspec.Struct, frozen=True):
    """An upload that was begun, and where its parts go, from number 1."""

    upload_id: str
    parts: tuple[SignedUrl, ...]


class SentPart(msgspec.Struct, frozen=True):
    number: int
    etag: str


class UrlSigner(Protocol):
    """Lives are seconds."""

    def download(self, path: ArtifactPath, life_s: int) -> SignedUrl:
        """Where the file at *path* can be read; whether there is one isn't asked."""
        ...

    def upload(self, path: ArtifactPath, life_s: int) -> SignedUrl:
        """Where *path* can be put, in place of a former one, and as often as wanted until the end of its life."""
        ...

    def begin_parts(self, path: ArtifactPath, count: int, life_s: int) -> SignedParts:
        """Begin an upload of *count* parts. Nothing is visible before `finish_parts`."""
        ...

    def size_of_parts(self, path: ArtifactPath, upload_id: str) -> int:
        """Bytes that have arrived.

        Raises:
            UploadNotFound: if there is no such upload of *path*.
        """
        ...

    def finish_parts(self, path: ArtifactPath, upload_id: str, parts: Sequence[SentPart]) -> None:
        """Give the file its name.

        Raises:
            UploadNotFound: if there is no such upload of *path*.
            PartsDontFit: if these aren't its parts.
        """
        ...

    def abort_parts(self, path: ArtifactPath, upload_id: str) -> None:
        """Drop the upload; one that is gone already is fine."""
        ...

"""Names of artifacts: the one place that reads an artifact's path, and the one type that stores and tables take.

An `ArtifactPath` is proof: whoever holds one holds a relative path that stays below whatever it is put under. Nothing
else joins or splits artifact paths (docs/ARCHITECTURE.md, invariants).
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_to_bytes

import msgspec

from tracking.errors import InvalidParameter

PATH_BYTES_MAX = 1024  # S3's own bound on a key
SEGMENT_BYTES_MAX = 255  # what Linux file systems take for one name
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc

INCOMING = ".titlebout-incoming"
"""Where a folder store keeps uploads that are not whole yet. Refused as a first segment in every store, so that what
was stored in one kind can move to another."""

PREDICTIONS = "titlebout-predictions"
"""First segment of what is kept of predictions, which belongs to no experiment, wherever one says its artifacts are."""


class InvalidArtifactPath(InvalidParameter):
    """A path that could leave the artifact root, or that no store could keep."""

    def __init__(self, path: str, wrong: str) -> None:
        super().__init__(
            f"Invalid artifact path {_shortened(path)!r}: {wrong}. "
            "Expected a relative path of names with '/' between them, such as 'model/MLmodel'."
        )


class ArtifactPath(msgspec.Struct, frozen=True, order=True):
    """A relative path of one or more names. Every instance is valid, however it was made."""

    segments: tuple[str, ...]

    def __post_init__(self) -> None:
        text = "/".join(self.segments)
        if not self.segments:
            raise InvalidArtifactPath(text, "it is empty")
        for segment in self.segments:
            wrong = _wrong_with_segment(segment)
            if wrong:
                raise InvalidArtifactPath(text, wrong)
        if self.segments[0] == INCOMING:
            raise InvalidArtifactPath(text, f"{INCOMING!r} is reserved")
        if len(text.encode()) > PATH_BYTES_MAX:
            raise InvalidArtifactPath(text, f"it is longer than {PATH_BYTES_MAX} bytes")

    @classmethod
    def parse(cls, text: str) -> "ArtifactPath":
        """Read *text* as it is, without any decoding.

        Raises:
            InvalidArtifactPath: saying what is wrong with it.
        """
        if text.startswith("/"):
            raise InvalidArtifactPath(text, "it is absolute")
        return cls(tuple(text.split("/")) if text else ())

    @classmethod
    def from_url(cls, raw: bytes) -> "ArtifactPath":
        """Read the rest of a URL's path as it came over the wire: percent-decoded here, exactly once.

        Raises:
            InvalidArtifactPath: saying what is wrong with it.
        """
        try:
            text = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError as error:
            raise InvalidArtifactPath(raw.decode("latin-1"), "it is not UTF-8") from error
        return cls.parse(text)

    @property
    def name(self) -> str:
        return self.segments[-1]

    @property
    def folder_segments(self) -> tuple[str, ...]:
        """The folders on the way to this path; none for a file right under the root."""
        return self.segments[:-1]

    def ancestors(self) -> Iterator["ArtifactPath"]:
        """This path and every folder above it, nearest first."""
        for length in range(len(self.segments), 0, -1):
            yield ArtifactPath(self.segments[:length])

    def is_within(self, folder: "ArtifactPath") -> bool:
        """Whether this is *folder* or lies below it."""
        return self.segments[: len(folder.segments)] == folder.segments

    def relative_to(self, folder: "ArtifactPath") -> "ArtifactPath":
        """This path as seen from *folder*, which it must lie below."""
        if not self.is_within(folder) or self == folder:
            raise InvalidArtifactPath(str(self), f"it is not below {str(folder)!r}")
        return ArtifactPath(self.segments[len(folder.segments) :])

    def __truediv__(self, below: "ArtifactPath") -> "ArtifactPath":
        return ArtifactPath(self.segments + below.segments)

    def __str__(self) -> str:
        return "/".join(self.segments)


def is_storable_name(name: str) -> bool:
    """Whether *name* could be one segment of an `ArtifactPath`; a file put into a store by other means may not be."""
    return _wrong_with_segment(name) is None


def _wrong_with_segment(segment: str) -> str | None:
    if not segment:
        return "it has an empty name in it"
    if "/" in segment:
        return "a name in it holds '/'"
    wrong = _unsafe(segment)
    if wrong:
        return wrong
    try:
        encoded = segment.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > SEGMENT_BYTES_MAX:
        return f"a name in it is longer than {SEGMENT_BYTES_MAX} bytes"
    return _unsafe_if_decoded_again(segment)


def _unsafe(segment: str) -> str | None:
    if segment in {".", ".."}:
        return f"{segment!r} may not be a name in it"
    if "\\" in segment:
        return "it has a backslash in it"
    if _CONTROL.search(segment):
        return "it has a control character in it"
    return None


def _unsafe_if_decoded_again(segment: str) -> str | None:
    # '%' is an ordinary character of a name ("100%.txt"). But '%252e%252e' arrives here as '%2e%2e', and a proxy, a
    # client or a tool further on that decodes once more must not get a way out of it.
    while (decoded := unquote(segment)) != segment:
        if ".." in decoded or "/" in decoded or _unsafe(decoded):
            return "decoded a second time it would be another path"
        segment = decoded
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"

"""The kinds of URI by which MLflow's client and people name artifacts, told apart by one function."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from tracking.artifact_paths import ArtifactPath
from tracking.errors import InvalidParameter


class InvalidArtifactUri(InvalidParameter):
    """A URI of a kind that is not known here, or a broken one of a known kind."""

    def __init__(self, uri: str, wrong: str) -> None:
        super().__init__(
            f"Invalid artifact URI {uri[:200]!r}: {wrong}. Expected mlflow-artifacts:/…, s3://bucket/…, file:///…, "
            "runs:/RUN_ID/…, models:/… or an absolute path."
        )


class ProxiedUri(msgspec.Struct, frozen=True):
    """``mlflow-artifacts:/a/b``: what lies under this server's own artifact root."""

    path: ArtifactPath | None
    """None is the root itself."""


class S3Uri(msgspec.Struct, frozen=True):
    """``s3://bucket/key``."""

    bucket: str
    key: ArtifactPath | None


class FileUri(msgspec.Struct, frozen=True):
    """``file:///folder``, or an absolute path."""

    path: Path


class RunUri(msgspec.Struct, frozen=True):
    """``runs:/RUN_ID/path``: below the artifact root of a run."""

    run_id: str
    path: ArtifactPath | None


class ModelUri(msgspec.Struct, frozen=True):
    """``models:/…``; `registry.uri` reads the rest."""

    rest: str


ArtifactUri = ProxiedUri | S3Uri | FileUri | RunUri | ModelUri


def parse_artifact_uri(text: str) -> ArtifactUri:
    """Tell what kind of URI *text* is and read it.

    Only ``file:`` is percent-decoded: MLflow writes the others unencoded, so there '%' and '#' belong to a name.

    Raises:
        InvalidArtifactUri: for another kind, or a bucket, run or folder that is missing.
        InvalidArtifactPath: for a path that no `ArtifactPath` can be.
    """
    scheme, colon, rest = text.partition(":")
    if text.startswith("/"):
        return _file_uri(text, text)
    if not colon:
        raise InvalidArtifactUri(text, "it is a relative path")
    match scheme.lower():
        case "mlflow-artifacts":
            return ProxiedUri(_path(_without_authority(rest)))
        case "s3":
            bucket, _, key = rest.removeprefix("//").partition("/")
            if not rest.startswith("//") or not bucket:
                raise InvalidArtifactUri(text, "it names no bucket")
            return S3Uri(bucket, _path(key))
        case "file":
            return _file_uri(text, unquote(_file_path(text)))
        case "runs":
            run_id, _, path = rest.strip("/").partition("/")
            if not run_id or rest.startswith("//"):
                raise InvalidArtifactUri(text, "it names no run")
            return RunUri(run_id, _path(path))
        case "models":
            if not rest.strip("/") or rest.startswith("//"):
                raise InvalidArtifactUri(text, "it names no model")
            return ModelUri(rest.removeprefix("/"))
        case _:
            raise InvalidArtifactUri(text, f"{scheme[:40]!r} is not a kind that is known here")


def _without_authority(rest: str) -> str:
    # mlflow-artifacts://host:port/a/b names a server; it is us that were asked, so the host says nothing more.
    return rest[2:].partition("/")[2] if rest.startswith("//") else rest


def _path(text: str) -> ArtifactPath | None:
    # One slash at either end is how folders are commonly written; two are a mistake that the parser names.
    text = text.removeprefix("/").removesuffix("/")
    return ArtifactPath.parse(text) if text else None


def _file_path(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidArtifactUri(text, "it can't be read") from error
    if parts.netloc not in {"", "localhost"}:
        raise InvalidArtifactUri(text, "it names another machine")
    return parts.path


def _file_uri(text: str, path: str) -> FileUri:
    if not path.startswith("/"):
        raise InvalidArtifactUri(text, "it is a relative path")
    if "\0" in path or ".." in path.split("/"):
        raise InvalidArtifactUri(text, "it has '..' or NUL in it")
    return FileUri(Path(path))

from pathlib import Path

import pytest

from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import FileUri, ModelUri, ProxiedUri, RunUri, S3Uri, parse_artifact_uri
from tracking.errors import InvalidParameter

PATH = ArtifactPath.parse


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("mlflow-artifacts:/1/run/artifacts", ProxiedUri(PATH("1/run/artifacts"))),
        ("mlflow-artifacts://host:5000/1/run/artifacts/", ProxiedUri(PATH("1/run/artifacts"))),
        ("mlflow-artifacts:/", ProxiedUri(None)),
        ("mlflow-artifacts:/1/a#b%.txt", ProxiedUri(PATH("1/a#b%.txt"))),
        ("s3://bucket/prefix/key", S3Uri("bucket", PATH("prefix/key"))),
        ("S3://bucket", S3Uri("bucket", None)),
        ("file:///data/a%20b", FileUri(Path("/data/a b"))),
        ("file:/data", FileUri(Path("/data"))),
        ("file://localhost/data", FileUri(Path("/data"))),
        ("/data/artifacts", FileUri(Path("/data/artifacts"))),
        ("runs:/abc/model/sub", RunUri("abc", PATH("model/sub"))),
        ("runs:/abc", RunUri("abc", None)),
        ("models:/iris@champion", ModelUri("iris@champion")),
        ("models:/m-0123", ModelUri("m-0123")),
    ],
)
def test_each_kind_of_uri_is_told_apart(text, uri):
    assert parse_artifact_uri(text) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model",
        "../model",
        "http://example.org/model",
        "ftp://example.org/model",
        "C:\\model",
        "mlflow-artifacts:/../etc",
        "mlflow-artifacts:/a/%2e%2e/b",
        "mlflow-artifacts:/a//b",
        "s3:bucket/key",
        "s3:///key",
        "s3://bucket/../other",
        "file://elsewhere/data",
        "file:///data/%2e%2e/etc",
        "file:///data/%00",
        "file:data",
        "file://[broken/data",
        "/data/../etc",
        "runs:/",
        "runs://profile@databricks/abc",
        "runs:/abc/../def",
        "models:/",
        "models://host/x",
    ],
)
def test_a_broken_or_unknown_uri_is_refused(text):
    with pytest.raises(InvalidParameter):
        parse_artifact_uri(text)

import os
import posixpath
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.artifact_paths import INCOMING, ArtifactPath, InvalidArtifactPath


@pytest.mark.parametrize(
    "text",
    [
        "model/MLmodel",
        "1/0123456789abcdef/artifacts/日本#1%.txt",
        "a..b/...",
        "100%.txt",
        "50%25.txt",
        "a b/+&?=;.txt",
        "x" * 255,
        f"a/{INCOMING}",
    ],
)
def test_an_ordinary_path_is_kept_as_it_is(text):
    assert str(ArtifactPath.parse(text)) == text
    assert ArtifactPath.from_url(quote(text).encode()) == ArtifactPath.parse(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param("", "it is empty", id="empty"),
        pytest.param("/etc/passwd", "absolute", id="absolute"),
        pytest.param("../up", "'..'", id="up"),
        pytest.param("a/../../b", "'..'", id="up in the middle"),
        pytest.param("a/..", "'..'", id="up at the end"),
        pytest.param("./a", "'.'", id="here"),
        pytest.param("a//b", "empty name", id="empty name"),
        pytest.param("a/", "empty name", id="slash at the end"),
        pytest.param("a\\..\\b", "backslash", id="backslash"),
        pytest.param("a\0b", "control character", id="NUL"),
        pytest.param("a\nb", "control character", id="line feed"),
        pytest.param("a\x85b", "control character", id="C1"),
        pytest.param("a\ud800", "not valid Unicode", id="lone surrogate"),
        pytest.param("%2e%2e/a", "decoded a second time", id="up, encoded"),
        pytest.param("%252e%252e", "decoded a second time", id="up, encoded twice"),
        pytest.param("a%2fb", "decoded a second time", id="slash, encoded"),
        pytest.param("a%5Cb", "decoded a second time", id="backslash, encoded"),
        pytest.param("a%00", "decoded a second time", id="NUL, encoded"),
        pytest.param("%2e", "decoded a second time", id="here, encoded"),
        pytest.param("x" * 256, "longer than 255 bytes", id="long name"),
        pytest.param("é" * 128, "longer than 255 bytes", id="name long in bytes"),
        pytest.param("/".join(["x" * 200] * 6), "longer than 1024 bytes", id="long path"),
        pytest.param(f"{INCOMING}/x", "reserved", id="reserved"),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused_with_what_is_wrong(text, wrong):
    with pytest.raises(InvalidArtifactPath, match="Invalid artifact path") as caught:
        ArtifactPath.parse(text)
    assert wrong in caught.value.message
    caught.value.message.encode()  # it can be sent


def test_a_url_is_decoded_exactly_once():
    assert ArtifactPath.from_url(b"50%2525.txt") == ArtifactPath.parse("50%25.txt")
    with pytest.raises(InvalidArtifactPath):
        ArtifactPath.from_url(b"%2e%2e/secret")
    with pytest.raises(InvalidArtifactPath):
        ArtifactPath.from_url(b"%252e%252e/secret")


def test_a_url_that_is_not_utf8_is_refused():
    with pytest.raises(InvalidArtifactPath, match="not UTF-8"):
        ArtifactPath.from_url(b"a%FFb")


def test_no_invalid_path_can_be_made_by_hand():
    with pytest.raises(InvalidArtifactPath):
        ArtifactPath(("a/b",))
    with pytest.raises(InvalidArtifactPath):
        ArtifactPath(("a", ".."))


def test_a_path_knows_what_it_lies_in():
    folder, path = ArtifactPath.parse("1/run"), ArtifactPath.parse("1/run/artifacts/a.txt")
    assert path.is_within(folder)
    assert not ArtifactPath.parse("1/run2/a.txt").is_within(folder)
    assert path.relative_to(folder) == ArtifactPath.parse("artifacts/a.txt")
    assert folder / ArtifactPath.parse("artifacts/a.txt") == path
    assert [str(above) for above in path.ancestors()] == ["1/run/artifacts/a.txt", "1/run/artifacts", "1/run", "1"]
    with pytest.raises(InvalidArtifactPath):
        folder.relative_to(folder)


_nasty = st.text(alphabet=st.sampled_from(["a", "/", ".", "%", "2", "5", "e", "E", "f", "F", "c", "\\", "\0", "é"]))


@given(st.one_of(_nasty, st.text()))
def test_whatever_is_accepted_stays_below_its_root_however_often_it_is_decoded(text):
    try:
        path = ArtifactPath.parse(text)
    except InvalidArtifactPath:
        return
    assert str(path) == text
    assert ArtifactPath.parse(str(path)) == path
    for _ in range(4):
        joined = posixpath.normpath(posixpath.join("/root/store", text))
        assert joined == "/root/store/" + text
        assert "\0" not in text
        text = unquote(text)


@given(_nasty)
def test_whatever_a_url_names_lies_below_the_root(text):
    try:
        path = ArtifactPath.from_url(quote(text, safe="/%").encode())
    except InvalidArtifactPath:
        return
    root = Path("/root/store")
    assert os.path.commonpath([root, root.joinpath(*path.segments)]) == str(root)

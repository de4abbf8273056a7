import hashlib

import pytest

from tracking.artifact_paths import ArtifactPath
from tracking.manifest import DigestMismatch, FileDigest, Manifest, digest_file, verify

PATH = ArtifactPath.parse


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "MLmodel").write_bytes(b"flavors")
    (tmp_path / "data/weights").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def manifest(folder) -> Manifest:
    return Manifest({PATH(name): digest_file(folder / name) for name in ("MLmodel", "data/weights")})


def test_the_digest_can_be_recomputed_from_the_documented_text(manifest):
    lines = [
        f"{hashlib.sha256(b'flavors').hexdigest()} 7 MLmodel\n",
        f"{hashlib.sha256(b'weights').hexdigest()} 7 data/weights\n",
    ]
    assert manifest.text == "".join(lines)
    assert manifest.digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert manifest.size == 14


def test_the_digest_depends_on_names_and_bytes_and_not_on_the_order_of_files(manifest):
    turned = Manifest(dict(reversed(manifest.files.items())))
    assert turned.digest == manifest.digest
    renamed = Manifest({PATH("mlmodel"): manifest.files[PATH("MLmodel")]})
    kept = Manifest({PATH("MLmodel"): manifest.files[PATH("MLmodel")]})
    assert renamed.digest != kept.digest


def test_a_manifest_is_read_back_from_its_text():
    strange = Manifest(
        {PATH("a b  c"): FileDigest("0" * 64, 1), PATH("日本\u2028#1%.txt"): FileDigest("f" * 64, 2**40)}
    )
    assert Manifest.from_text(strange.text) == strange


def test_a_folder_that_is_unchanged_passes(manifest, folder):
    verify(manifest, folder)


def test_a_changed_file_is_named(manifest, folder):
    (folder / "data/weights").write_bytes(b"Weights")
    with pytest.raises(DigestMismatch, match="data/weights"):
        verify(manifest, folder)


def test_a_truncated_file_is_named_with_both_sizes(manifest, folder):
    (folder / "data/weights").write_bytes(b"wei")
    with pytest.raises(DigestMismatch, match="'data/weights' has 3 bytes where 7 were registered"):
        verify(manifest, folder)


def test_a_missing_file_is_named(manifest, folder):
    (folder / "MLmodel").unlink()
    with pytest.raises(DigestMismatch, match="'MLmodel' is missing"):
        verify(manifest, folder)


def test_a_file_that_was_added_is_named(manifest, folder):
    (folder / "data/evil.py").write_text("import os")
    with pytest.raises(DigestMismatch, match=r"'data/evil\.py' was added"):
        verify(manifest, folder)


@pytest.mark.parametrize("target", ["/etc", "/etc/passwd", "MLmodel"])
def test_a_link_is_a_file_too_many_wherever_it_leads(manifest, folder, target):
    (folder / "data/link").symlink_to(target)
    with pytest.raises(DigestMismatch, match="data/link"):
        verify(manifest, folder)


def test_a_link_in_the_place_of_a_file_is_refused(manifest, folder):
    (folder / "MLmodel").rename(folder.parent / "MLmodel")
    (folder / "MLmodel").symlink_to(folder.parent / "MLmodel")
    with pytest.raises(DigestMismatch, match="'MLmodel' is not a plain file"):
        verify(manifest, folder)

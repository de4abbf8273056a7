"""A large model is hashed in a process of its own, and what is wrong with it is said as if it had been hashed here."""

import pytest

from gateway.pool import verification
from tracking import manifest as manifests
from tracking.artifact_paths import ArtifactPath
from tracking.manifest import DigestMismatch, Manifest, digest_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_APART_FROM_BYTES", 1)
    (tmp_path / "weights").write_bytes(b"\1" * 1000)
    return tmp_path


def manifest_of(folder):
    return Manifest({ArtifactPath.parse(path.name): digest_file(path) for path in folder.iterdir()})


def test_what_is_well_is_hashed_apart_and_nowhere_else(folder, monkeypatch):
    manifest = manifest_of(folder)
    monkeypatch.setattr(manifests, "_READ_BYTES", None)  # Here nothing could be read.
    verification.verify_apart(manifest, folder)


def test_what_is_wrong_is_named(folder):
    manifest = manifest_of(folder)
    (folder / "weights").write_bytes(b"\2" * 1000)
    with pytest.raises(DigestMismatch, match="weights"):
        verification.verify_apart(manifest, folder)


def test_without_another_process_it_is_hashed_here(folder, monkeypatch):
    manifest = manifest_of(folder)
    monkeypatch.setattr("sys.executable", str(folder / "nothing"))
    verification.verify_apart(manifest, folder)
    (folder / "more").write_bytes(b"")
    with pytest.raises(DigestMismatch, match="more"):
        verification.verify_apart(manifest, folder)

"""A load asks who signed a version: of the database, or of what was read there last."""

import shutil

import pytest

from gateway.pool import signature_check
from gateway.pool.signature_check import SignatureCheck
from registry import models, signatures, versions
from registry.signing.bundle import write_bundle
from registry.signing.keys import new_key, read_signing_key
from registry.signing.statement import statement_of
from registry.sources import Claim, SourcePolicy
from tracking.artifact_paths import ArtifactPath
from tracking.database import Database
from tracking.manifest import FileDigest, Manifest

IRIS = ("iris", 1)
MANIFEST = Manifest({ArtifactPath.parse("MLmodel"): FileDigest("1" * 64, 3)})
OTHER = Manifest({ArtifactPath.parse("MLmodel"): FileDigest("2" * 64, 3)})


@pytest.fixture
def stored(tmp_path, migrated_sqlite):
    shutil.copy(migrated_sqlite, tmp_path / "titlebout.db")
    database = Database(f"sqlite:///{tmp_path}/titlebout.db")
    policy = SourcePolicy(locate=lambda _: None, prefixes=("s3://models",))
    with database.writing() as session:
        models.create_model(session, "iris", now_ms=0)
        for _ in range(2):
            versions.create_version(session, "iris", Claim(source="s3://models/iris"), policy=policy, now_ms=0)
    yield database
    database.dispose()


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "keys").mkdir()
    new_key(tmp_path / "release.pem").rename(tmp_path / "keys" / "release.pem")
    return tmp_path / "keys"


@pytest.fixture
def sign(stored, keys):
    def put(version):
        bundle = write_bundle(
            read_signing_key(keys.parent / "release.pem", str).sign(statement_of(("iris", version), MANIFEST))
        )
        with stored.writing() as session:
            signatures.put_signature(session, "iris", version, bundle, author="me", now_ms=0)

    return put


def check(database, keys, tmp_path):
    return SignatureCheck(database, str(keys), tmp_path / "kept", clock=lambda: 1.0)


def test_a_signed_version_has_no_objection_for_just_its_files(stored, keys, sign, tmp_path):
    checked = check(stored, keys, tmp_path)
    assert "it has no signature" in checked.find_objection(IRIS, MANIFEST)
    sign(1)
    assert checked.find_objection(IRIS, MANIFEST) is None
    assert "for other files" in checked.find_objection(IRIS, OTHER)
    assert "it has no signature" in checked.find_objection(("iris", 2), MANIFEST)
    assert "it has no signature" in checked.find_objection(("nobody", 1), MANIFEST)


def test_a_key_counts_only_while_it_is_in_the_folder(stored, keys, sign, tmp_path):
    sign(1)
    checked = check(stored, keys, tmp_path)
    assert checked.find_objection(IRIS, MANIFEST) is None
    (keys / "release.pem").unlink()
    assert checked.find_objection(IRIS, MANIFEST) == "no key is trusted"


def test_without_the_database_the_signatures_seen_last_count(stored, keys, sign, tmp_path):
    sign(1)
    assert check(stored, keys, tmp_path).find_objection(IRIS, MANIFEST) is None
    away = check(Database(f"sqlite:///{tmp_path}/away/titlebout.db"), keys, tmp_path)
    assert away.find_objection(IRIS, MANIFEST) is None
    assert "it has no signature" in away.find_objection(("iris", 2), MANIFEST)
    for kept in (tmp_path / "kept").iterdir():
        kept.write_text('["forged"]')
    assert "expected a Sigstore bundle" in away.find_objection(IRIS, MANIFEST)
    for kept in (tmp_path / "kept").iterdir():
        kept.write_text("damaged")
    assert "it has no signature" in away.find_objection(IRIS, MANIFEST)


def test_a_signature_that_was_taken_back_is_forgotten(stored, keys, sign, tmp_path):
    sign(1)
    checked = check(stored, keys, tmp_path)
    checked.find_objection(IRIS, MANIFEST)
    with stored.writing() as session:
        (signature,) = signatures.list_signatures(session, *IRIS)
        signatures.delete_signature(session, *IRIS, signature.key_id)
    assert "it has no signature" in checked.find_objection(IRIS, MANIFEST)
    assert list((tmp_path / "kept").iterdir()) == []


def test_what_is_kept_has_a_bound(stored, keys, sign, tmp_path, monkeypatch):
    monkeypatch.setattr(signature_check, "_KEPT_MAX", 1)
    sign(1)
    sign(2)
    checked = check(stored, keys, tmp_path)
    for version in (1, 2):
        assert checked.find_objection(("iris", version), MANIFEST) is None
    assert len(list((tmp_path / "kept").iterdir())) == 1

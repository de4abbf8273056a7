"""Signatures go and stay with their version; what is of other files or another version is refused at once."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry import manifests, models, signatures, versions
from registry.errors import ModelVersionNotFound, TooManySignatures
from registry.schema import ModelVersionRow
from registry.signing.bundle import write_bundle
from registry.signing.errors import InvalidSignature, SignatureNotFound
from registry.signing.keys import SigningKey
from registry.signing.statement import statement_of
from tracking import artifact_records
from tracking.artifact_paths import ArtifactPath
from tracking.errors import InvalidParameter
from tracking.manifest import FileDigest, Manifest

NOW_MS = 1_795_000_000_000
MANIFEST = Manifest({ArtifactPath.parse("MLmodel"): FileDigest("1" * 64, 3)})
OTHER = Manifest({ArtifactPath.parse("MLmodel"): FileDigest("2" * 64, 3)})


def new_key():
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def signed(key, version=("iris", 1), manifest=MANIFEST):
    return write_bundle(key.sign(statement_of(version, manifest)))


@pytest.fixture
def put(database, iris, add_version):
    """Brings a signature of version 1 of iris, whose files nobody has seen yet."""
    add_version()

    def bring(bundle, *, version=1, now_ms=NOW_MS):
        with database.writing() as session:
            return signatures.put_signature(session, "iris", version, bundle, author="me", now_ms=now_ms)

    return bring


@pytest.fixture
def kept(database):
    def listed(name="iris", version=1):
        with database.reading() as session:
            return [signature.key_id for signature in signatures.list_signatures(session, name, version)]

    return listed


def test_a_key_has_one_signature_of_a_version_and_others_have_theirs(put, kept):
    first, second = new_key(), new_key()
    put(signed(first))
    put(signed(second), now_ms=NOW_MS + 1)
    again = put(signed(first), now_ms=NOW_MS + 2)
    assert kept() == [second.key_id, first.key_id]
    assert (again.author, again.created_ms) == ("me", NOW_MS + 2)


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        pytest.param("{}", "Sigstore bundle", id="no bundle"),
        pytest.param(signed(new_key(), ("iris", 2)), "for models:/iris/2", id="another version's"),
        pytest.param(signed(new_key(), ("lilies", 1)), "for models:/lilies/1", id="another model's"),
    ],
)
def test_what_is_no_signature_of_this_version_is_refused(put, kept, bundle, reason):
    with pytest.raises(InvalidSignature, match=reason):
        put(bundle)
    assert kept() == []


def test_a_signature_of_other_files_is_refused_where_the_files_are_known(database, iris):
    path = ArtifactPath.parse("1/run/artifacts/model/MLmodel")
    with database.writing() as session:
        artifact_records.record_file(session, path, MANIFEST.files[ArtifactPath.parse("MLmodel")], NOW_MS)
        uri = "mlflow-artifacts:/1/run/artifacts/model"
        row = ModelVersionRow(name=iris, version=1, source=uri, artifact_uri=uri, created_ms=NOW_MS, updated_ms=NOW_MS)
        session.add(row)
        session.flush()
        manifests.hold_what_was_uploaded(session, row)
        with pytest.raises(InvalidSignature, match="for other files: 'MLmodel' not as signed"):
            signatures.put_signature(session, iris, 1, signed(new_key(), manifest=OTHER), author="me", now_ms=NOW_MS)
        signatures.put_signature(session, iris, 1, signed(new_key()), author="me", now_ms=NOW_MS)


def test_a_version_has_a_bounded_number_of_signatures(put, kept, monkeypatch):
    monkeypatch.setattr(signatures, "SIGNATURES_MAX", 2)
    first = new_key()
    put(signed(first))
    put(signed(new_key()))
    with pytest.raises(TooManySignatures):
        put(signed(new_key()))
    put(signed(first))
    assert len(kept()) == 2


def test_signatures_go_with_their_version(database, put, kept):
    key = new_key()
    put(signed(key))
    with database.writing() as session:
        models.rename_model(session, "iris", "lilies", author="me", now_ms=NOW_MS)
    assert kept("lilies") == [key.key_id]
    with database.writing() as session:
        versions.delete_version(session, "lilies", 1, author="me", now_ms=NOW_MS)
    with pytest.raises(ModelVersionNotFound):
        kept("lilies")


def test_a_signature_can_be_taken_back_once(database, put, kept):
    key = new_key()
    put(signed(key))
    with database.writing() as session:
        signatures.delete_signature(session, "iris", 1, key.key_id)
    assert kept() == []
    with pytest.raises(SignatureNotFound), database.writing() as session:
        signatures.delete_signature(session, "iris", 1, key.key_id)


@pytest.mark.parametrize("key_id", ["\0", "\ud800", "0" * 65])
def test_what_can_be_no_key_is_refused_before_a_database_sees_it(database, put, key_id):
    with pytest.raises(InvalidParameter), database.writing() as session:
        signatures.delete_signature(session, "iris", 1, key_id)

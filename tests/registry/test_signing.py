"""Who may vouch for a version, and what counts as having done so."""

import base64
import datetime as dt
import json

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from registry.signing.bundle import read_bundle, write_bundle
from registry.signing.errors import InvalidSignature, NotSigned, UnusableKey
from registry.signing.keys import SigningKey, new_key, read_signing_key, trusted_keys
from registry.signing.statement import require_stated, statement_of
from registry.signing.verification import signer_of
from tracking.artifact_paths import ArtifactPath
from tracking.manifest import FileDigest, Manifest

IRIS = ("iris", 3)
NOW_MS = 1_795_000_000_000
MANIFEST = Manifest(
    {
        ArtifactPath.parse("MLmodel"): FileDigest(
            "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4", 3
        ),
        ArtifactPath.parse("data/a b.bin"): FileDigest(
            "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac", 2
        ),
    }
)
# What `model_signing sign key` of release 1.1.1 wrote for a folder `model` with those two files, and its public key.
THEIR_BUNDLE = (
    '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"h'
    'int":"d3279b341306cdde6cba7951d6617f2734f96012cbb86c09d39380afb815f705"},"tlogEntries":[]},"dsseEnve'
    'lope":{"payload":"ewogICJfdHlwZSI6ICJodHRwczovL2luLXRvdG8uaW8vU3RhdGVtZW50L3YxIiwKICAic3ViamVjdCI6IF'
    "sKICAgIHsKICAgICAgIm5hbWUiOiAibW9kZWwiLAogICAgICAiZGlnZXN0IjogewogICAgICAgICJzaGEyNTYiOiAiYzQxMWE0OT"
    "I0ZWE4NDYzOTNlZjJlZTQ2ZDEzMmQ0N2UyZTAzNWRlMGJkY2EzYTYzMjM1MzlhZjI5NWNjOTU4ZiIKICAgICAgfQogICAgfQogIF"
    "0sCiAgInByZWRpY2F0ZVR5cGUiOiAiaHR0cHM6Ly9tb2RlbF9zaWduaW5nL3NpZ25hdHVyZS92MS4wIiwKICAicHJlZGljYXRlIj"
    "ogewogICAgInJlc291cmNlcyI6IFsKICAgICAgewogICAgICAgICJhbGdvcml0aG0iOiAic2hhMjU2IiwKICAgICAgICAibmFtZS"
    "I6ICJNTG1vZGVsIiwKICAgICAgICAiZGlnZXN0IjogIjk4ZWE2ZTRmMjE2ZjJmYjRiNjlmZmY5YjNhNDQ4NDJjMzg2ODZjYTY4NW"
    "YzZjU1ZGM0OGM1ZDNmYjExMDdiZTQiCiAgICAgIH0sCiAgICAgIHsKICAgICAgICAiYWxnb3JpdGhtIjogInNoYTI1NiIsCiAgIC"
    "AgICAgIm5hbWUiOiAiZGF0YS9hIGIuYmluIiwKICAgICAgICAiZGlnZXN0IjogIjczY2IzODU4YTY4N2E4NDk0Y2EzMzIzMDUzMD"
    "E2MjgyZjNkYWQzOWQ0MmNmNjJjYTRlNzlkZGEyYWFjN2Q5YWMiCiAgICAgIH0KICAgIF0sCiAgICAic2VyaWFsaXphdGlvbiI6IH"
    "sKICAgICAgImhhc2hfdHlwZSI6ICJzaGEyNTYiLAogICAgICAibWV0aG9kIjogImZpbGVzIiwKICAgICAgImlnbm9yZV9wYXRocy"
    "I6IFsKICAgICAgICAiLmdpdGh1YiIsCiAgICAgICAgIi5naXQiLAogICAgICAgICIuZ2l0YXR0cmlidXRlcyIsCiAgICAgICAgIi"
    '5naXRpZ25vcmUiCiAgICAgIF0sCiAgICAgICJhbGxvd19zeW1saW5rcyI6IGZhbHNlCiAgICB9CiAgfQp9","payloadType":"a'
    'pplication/vnd.in-toto+json","signatures":[{"sig":"MEUCIQDb+Ct8qW9usFAw9IZ0NZ7BE6a70W9mU+SgC1MSEcWOQ'
    'AIgANKuKTuLmaVJepCT6qR9IM0WyWvW1E5Gox8Rg2he2pQ=","keyid":""}]}}'
)
THEIR_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcq0iz2Lf36GDS9+TCE8COvc6ysFY
LfBloO+ImvXdbZ0Z5P00PrzarI+lvciIvGcF5yuW9VD3YEkcMNthu0xX5Q==
-----END PUBLIC KEY-----
"""


@pytest.fixture
def keys(tmp_path):
    """A folder with one trusted key, and the private key to it."""
    (tmp_path / "trusted").mkdir()
    new_key(tmp_path / "release.pem").rename(tmp_path / "trusted" / "release.pem")
    return tmp_path / "trusted", read_signing_key(tmp_path / "release.pem", str)


def signed(key, version=IRIS, manifest=MANIFEST):
    return write_bundle(key.sign(statement_of(version, manifest)))


def signer(folder, *bundles, version=IRIS, manifest=MANIFEST, now_ms=NOW_MS):
    return signer_of(version, manifest, bundles, trusted_keys(str(folder)), now_ms)


def test_a_version_signed_by_a_trusted_key_says_whose_it_is(keys):
    folder, key = keys
    found = signer(folder, signed(key))
    assert (found.key, found.key_id) == ("release.pem", key.key_id)


def other_key():
    return SigningKey(ec.generate_private_key(ec.SECP384R1()))


def swapped(bundle, **fields):
    """*bundle* with other contents under the same signature."""
    document = json.loads(bundle)
    document["dsseEnvelope"] |= fields
    return json.dumps(document)


def encoded(payload):
    return base64.b64encode(payload).decode()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda key: [], "it has no signature, which `titlebout sign iris 3 --key FILE` makes", id="none"),
        pytest.param(lambda key: [signed(other_key())], r"the key \w{12} .* is not trusted", id="unknown key"),
        pytest.param(lambda key: [signed(key, ("iris", 2))], "for models:/iris/2", id="another version's"),
        pytest.param(lambda key: [signed(key, ("roses", 3))], "for models:/roses/3", id="another model's"),
        pytest.param(
            lambda key: [signed(key, manifest=Manifest({ArtifactPath.parse("MLmodel"): FileDigest("0" * 64, 3)}))],
            "for other files: 'MLmodel', 'data/a b.bin' not as signed",
            id="other files",
        ),
        pytest.param(
            lambda key: [swapped(signed(key, ("roses", 3)), payload=encoded(statement_of(IRIS, MANIFEST)))],
            "was not made by the key release.pem that it names",
            id="another payload",
        ),
        pytest.param(
            lambda key: [swapped(signed(key), signatures=[{"sig": encoded(b"0" * 70)}])],
            "was not made by the key release.pem",
            id="a signature that is none",
        ),
        pytest.param(lambda key: ["{}"], "expected a Sigstore bundle", id="no bundle"),
        pytest.param(lambda key: [write_bundle(key.sign(b"[]"))], "signs no statement", id="no statement"),
        pytest.param(
            lambda key: [write_bundle(key.sign(statement_of(IRIS, MANIFEST).replace(b"73cb", b"73cc")))],
            "contradicts itself",
            id="a list of files that isn't the digest's",
        ),
        pytest.param(
            lambda key: [signed(other_key()), signed(key, ("iris", 2))],
            r"is not trusted; the signature is for models:/iris/2",
            id="each of several",
        ),
    ],
)
def test_what_does_not_count_is_said_with_the_reason(keys, make, reason):
    folder, key = keys
    with pytest.raises(NotSigned, match=reason):
        signer(folder, *make(key))


def test_one_signature_that_counts_is_enough(keys):
    folder, key = keys
    assert signer(folder, "nonsense", signed(other_key()), signed(key)).key == "release.pem"


def certificate(key, until):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "release")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(until - dt.timedelta(days=365)).not_valid_after(until)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_certificates_trust_ends_on_its_day(tmp_path, days):
    private = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC)
    (tmp_path / "release.crt").write_bytes(certificate(private, now + dt.timedelta(days=days)))
    bundle = signed(SigningKey(private))
    if days > 0:
        assert signer(tmp_path, bundle).key == "release.crt"
    else:
        with pytest.raises(NotSigned, match=r"the trusted certificate release.crt .* has expired"):
            signer(tmp_path, bundle)


def test_of_one_key_that_is_there_twice_the_longer_trust_counts(tmp_path):
    private = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC)
    for name, days in (("a.crt", 1), ("b.crt", 30), ("c.crt", -1)):
        (tmp_path / name).write_bytes(certificate(private, now + dt.timedelta(days=days)))
    assert signer(tmp_path, signed(SigningKey(private))).key == "b.crt"
    (tmp_path / "d.pem").write_bytes(public_pem(private))
    assert signer(tmp_path, signed(SigningKey(private))).key == "d.pem"


def public_pem(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_what_is_no_key_is_named_and_takes_nothing_from_the_others(keys):
    folder, key = keys
    (folder / "broken.pem").write_text("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n")
    (folder / "edwards.pem").write_bytes(public_pem(ed25519.Ed25519PrivateKey.generate()))
    (folder / "dangling.pem").symlink_to(folder / "nothing")
    (folder / "README").write_text("the keys of those who release models")
    found = trusted_keys(str(folder))
    assert [trusted.name for trusted in found.by_id.values()] == ["release.pem"]
    assert [sentence.split(" can't")[0] for sentence in found.unusable] == [
        "The key broken.pem",
        "The key dangling.pem",
        "The key edwards.pem",
    ]
    assert signer(folder, signed(key)).key == "release.pem"
    with pytest.raises(NotSigned, match=r"has no signature.*; the key broken.pem can't be used: expected a public key"):
        signer(folder)


@pytest.mark.parametrize("setting", ["", "/nowhere/keys"])
def test_without_a_key_nothing_is_trusted(setting):
    with pytest.raises(NotSigned, match="no key is trusted"):
        signer(setting, "{}")


def test_keys_may_stand_in_the_setting_itself():
    first, second = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP521R1()))
    setting = (public_pem(first) + public_pem(second)).decode()
    assert signer(setting, signed(SigningKey(second))).key == "2 of the setting"


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path):
    new_key(tmp_path / "release.pem")
    assert (tmp_path / "release.pem").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "release.pem").read_bytes()
    with pytest.raises(UnusableKey, match="exists"):
        new_key(tmp_path / "release.pem")
    assert (tmp_path / "release.pem").read_bytes() == before


def test_a_key_may_have_a_password(tmp_path):
    private = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "release.pem"
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert read_signing_key(path, lambda: "secret").key_id == SigningKey(private).key_id
    with pytest.raises(UnusableKey, match="its password"):
        read_signing_key(path, lambda: "guess")
    path.write_bytes(public_pem(private))
    with pytest.raises(UnusableKey, match="expected a private key"):
        read_signing_key(path, str)


def test_a_signature_by_model_signing_is_read_as_it_is_meant():
    bundle = read_bundle(THEIR_BUNDLE)
    (trusted,) = trusted_keys(THEIR_KEY).by_id.values()
    assert trusted.key_id == bundle.key_id
    assert trusted.made(bundle)
    # Their files are ours; their subject is a folder's name, and not a version's.
    with pytest.raises(InvalidSignature, match="for model\\."):
        require_stated(bundle.payload, IRIS, MANIFEST)
    ours, theirs = (msgspec.json.decode(payload) for payload in (statement_of(IRIS, MANIFEST), bundle.payload))
    assert ours["subject"][0]["digest"] == theirs["subject"][0]["digest"]
    assert ours["predicate"]["resources"] == theirs["predicate"]["resources"]
    assert ours["predicate"].keys() == theirs["predicate"].keys()

"""Keys that sign and keys that are trusted: elliptic curves in PEM, as ``openssl`` writes them.

A trusted key is a public key, or a certificate if its trust is to end on a day. Of a certificate, the key and that day
count, and nothing else: it is trusted because it was put among the trusted keys, not for who issued it.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature as WrongSignature
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry.signing.bundle import SignedStatement, bytes_to_sign
from registry.signing.errors import UnusableKey

KEYS_MAX = 100
_KEY_BYTES_MAX = 64 * 1024
_SUFFIXES = {".pem", ".crt", ".pub"}
_BEGIN = "-----BEGIN "
# The hash that goes with each curve in Sigstore's specification, by the bits of the curve.
_HASHES: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
_CURVES = "an elliptic key on P-256, P-384 or P-521"


class TrustedKey:
    """A public key, and until when it is trusted."""

    def __init__(self, name: str, key: ec.EllipticCurvePublicKey, expires_ms: int | None = None) -> None:
        self.name = name
        self.key_id = key_id_of(key)
        self.expires_ms = expires_ms
        self._key = key

    def ends_before(self, other: "TrustedKey") -> bool:
        return self.expires_ms is not None and (other.expires_ms is None or self.expires_ms < other.expires_ms)

    def made(self, signed: SignedStatement) -> bool:
        """Whether the signature is this key's, over just that payload."""
        try:
            self._key.verify(signed.signature, signed.signed_bytes, ec.ECDSA(_HASHES[self._key.curve.key_size]))
        except WrongSignature:
            return False
        return True


class TrustedKeys(msgspec.Struct, frozen=True):
    """All that a setting names, by key id, and a sentence for each file there that is no key."""

    by_id: dict[str, TrustedKey]
    unusable: tuple[str, ...] = ()


class SigningKey:
    """A private key."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def key_id(self) -> str:
        return key_id_of(self._key.public_key())

    def sign(self, payload: bytes) -> SignedStatement:
        signature = self._key.sign(bytes_to_sign(payload), ec.ECDSA(_HASHES[self._key.curve.key_size]))
        return SignedStatement(self.key_id, payload, signature)


def key_id_of(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's PEM, by which model signing knows it."""
    return hashlib.sha256(_public_pem(key)).hexdigest()


def trusted_keys(setting: str) -> TrustedKeys:
    """The keys in the folder that *setting* names, or in its own text if that is PEM; none if it is empty."""
    if not setting:
        return TrustedKeys({})
    if setting.startswith(_BEGIN):
        parts = setting.split(_BEGIN)[1:]
        return _collect((f"{place} of the setting", (_BEGIN + part).encode()) for place, part in enumerate(parts, 1))
    try:
        paths = sorted(path for path in Path(setting).iterdir() if path.suffix in _SUFFIXES)
    except OSError as error:
        return TrustedKeys({}, (f"The folder {setting} can't be read: {error.strerror}.",))
    if len(paths) > KEYS_MAX:
        return TrustedKeys({}, (f"The folder {setting} holds {len(paths)} keys, and {KEYS_MAX} are the most.",))
    return _collect((path.name, _read(path)) for path in paths)


def _collect(sources: Iterable[tuple[str, bytes]]) -> TrustedKeys:
    by_id: dict[str, TrustedKey] = {}
    unusable = []
    for name, pem in sources:
        try:
            key = read_trusted_key(name, pem)
        except UnusableKey as error:
            unusable.append(error.message)
        else:
            known = by_id.get(key.key_id)
            by_id[key.key_id] = key if known is None or known.ends_before(key) else known
    return TrustedKeys(by_id, tuple(unusable))


def read_trusted_key(name: str, pem: bytes) -> TrustedKey:
    """The public key or certificate in *pem*.

    Raises:
        UnusableKey: if it is neither, or of another kind than elliptic.
    """
    expires_ms = None
    key: object
    try:
        if b"CERTIFICATE" in pem.partition(b"\n")[0]:
            certificate = x509.load_pem_x509_certificate(pem)
            key, expires_ms = certificate.public_key(), int(certificate.not_valid_after_utc.timestamp() * 1000)
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey(name, "expected a public key or a certificate in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size not in _HASHES:
        raise UnusableKey(name, f"expected {_CURVES}")
    return TrustedKey(name, key, expires_ms)


def read_signing_key(path: Path, ask_password: Callable[[], str]) -> SigningKey:
    """The private key in the PEM file *path*; *ask_password* is called if the file is encrypted.

    Raises:
        UnusableKey: if there is none that can sign.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise UnusableKey(str(path), str(error.strerror)) from error
    try:
        try:
            key = serialization.load_pem_private_key(pem, None)
        except TypeError:
            # How cryptography says that there is a password to be given.
            key = serialization.load_pem_private_key(pem, ask_password().encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey(str(path), "expected a private key in PEM, and its password if it has one") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.key_size not in _HASHES:
        raise UnusableKey(str(path), f"expected {_CURVES}")
    return SigningKey(key)


def new_key(path: Path) -> Path:
    """Make a key on P-256: the private one at *path*, for its owner alone, the public one beside it as ``.pub.pem``.

    Gives the path of the public one.

    Raises:
        UnusableKey: if one of the files is there already, or can't be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_path = path.with_suffix(".pub.pem")
    try:
        for target, pem, mode in ((path, private, 0o600), (public_path, _public_pem(key.public_key()), 0o644)):
            # Never over a file that is there: it may be the only copy of a key.
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(pem)
    except OSError as error:
        raise UnusableKey(str(error.filename), str(error.strerror)) from error
    return public_path


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_KEY_BYTES_MAX)
    except OSError:
        # Said as what it is: no key.
        return b""


def _public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

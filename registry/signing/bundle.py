"""How a signature is kept and passed on: a DSSE envelope in a Sigstore bundle, as ``model_signing sign key`` writes it.

Only what a key of one's own makes: no certificate chain, no transparency log, nothing that has to be asked over a
network. DSSE is https://github.com/secure-systems-lab/dsse, the bundle https://docs.sigstore.dev/about/bundle/.
"""

import re
from typing import Final, Literal

import msgspec

from registry.signing.errors import InvalidSignature
from registry.signing.statement import PAYLOAD_TYPE
from tracking.names import check_text

BUNDLE_BYTES_MAX = 8 * 1024 * 1024
"""Ten thousand files take about two."""

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
KEY_ID_LENGTH = 64
_KEY_ID = re.compile(rf"[0-9a-f]{{{KEY_ID_LENGTH}}}")


class _PublicKey(msgspec.Struct):
    hint: str


class _Material(msgspec.Struct, rename="camel"):
    public_key: _PublicKey
    tlog_entries: list[msgspec.Raw] = []


class _Signature(msgspec.Struct):
    sig: bytes
    keyid: str = ""


class _Envelope(msgspec.Struct, rename="camel"):
    payload: bytes
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: list[_Signature]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: _Envelope


class SignedStatement(msgspec.Struct, frozen=True):
    """A statement, who says to have signed it, and by what that can be checked. Nothing of it is checked yet."""

    key_id: str
    """SHA-256 of the public key's PEM, in hexadecimal."""
    payload: bytes
    signature: bytes

    @property
    def signed_bytes(self) -> bytes:
        return bytes_to_sign(self.payload)


def bytes_to_sign(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the payload with its type and both lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def read_bundle(text: str) -> SignedStatement:
    """Take a bundle apart.

    Raises:
        InvalidSignature: if it is no bundle with one signature by a key.
    """
    check_text(text, "bundle", BUNDLE_BYTES_MAX)
    try:
        bundle = msgspec.json.decode(text.encode(), type=_Bundle)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidSignature(
            f"Expected a Sigstore bundle signed by a key, as `titlebout sign` makes: {error}."
        ) from error
    key_id = bundle.verification_material.public_key.hint
    if not _KEY_ID.fullmatch(key_id):
        raise InvalidSignature("Expected the bundle's publicKey.hint to be the SHA-256 of a public key's PEM.")
    if len(bundle.dsse_envelope.signatures) != 1:
        raise InvalidSignature(f"Expected one signature, got {len(bundle.dsse_envelope.signatures)}.")
    return SignedStatement(key_id, bundle.dsse_envelope.payload, bundle.dsse_envelope.signatures[0].sig)


def write_bundle(signed: SignedStatement) -> str:
    bundle = _Bundle(
        _MEDIA_TYPE,
        _Material(_PublicKey(signed.key_id)),
        _Envelope(signed.payload, PAYLOAD_TYPE, [_Signature(signed.signature)]),
    )
    return msgspec.json.encode(bundle).decode()

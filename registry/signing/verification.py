"""Does somebody who is trusted vouch for a version? Decided on values alone, with no clock and no database."""

from collections.abc import Iterable

import msgspec

from registry.entities import VersionKey
from registry.signing.bundle import SignedStatement, read_bundle
from registry.signing.errors import InvalidSignature, NotSigned
from registry.signing.keys import TrustedKeys
from registry.signing.statement import require_stated
from tracking.manifest import Manifest


class Signer(msgspec.Struct, frozen=True):
    """Who vouched for a version."""

    key: str
    """The name under which the key is trusted: its file."""
    key_id: str


def signer_of(key: VersionKey, manifest: Manifest, bundles: Iterable[str], trusted: TrustedKeys, now_ms: int) -> Signer:
    """The first trusted key by which one of *bundles* says that *key* is made of the files of *manifest*.

    Raises:
        NotSigned: with the reason why each of them doesn't count, and what to do.
    """
    if not trusted.by_id:
        raise NotSigned(_with_unusable("no key is trusted", trusted))
    objections = []
    for bundle in bundles:
        try:
            return _check(key, manifest, read_bundle(bundle), trusted, now_ms)
        except (InvalidSignature, NotSigned) as error:
            objections.append(_as_clause(error.message))
    name, version = key
    reason = "; ".join(objections) or f"it has no signature, which `titlebout sign {name} {version} --key FILE` makes"
    raise NotSigned(_with_unusable(reason, trusted))


def _check(key: VersionKey, manifest: Manifest, signed: SignedStatement, trusted: TrustedKeys, now_ms: int) -> Signer:
    short = signed.key_id[:12]
    by = trusted.by_id.get(signed.key_id)
    if by is None:
        raise NotSigned(f"the key {short} that it is signed by is not trusted")
    if by.expires_ms is not None and by.expires_ms <= now_ms:
        raise NotSigned(f"the trusted certificate {by.name} of the key {short} that it is signed by has expired")
    # Before anything of the payload is read.
    if not by.made(signed):
        raise NotSigned(f"its signature was not made by the key {by.name} that it names")
    require_stated(signed.payload, key, manifest)
    return Signer(by.name, by.key_id)


def _with_unusable(reason: str, trusted: TrustedKeys) -> str:
    return "; ".join([reason, *map(_as_clause, trusted.unusable)])


def _as_clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")

"""Whether an ID token is what it says, and whom it is of (OpenID Connect Core 1.0, 3.1.3.7). No network, no clock."""

from collections.abc import Mapping
from typing import Any

import msgspec
from authlib.oidc.core import CodeIDToken
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from gateway.access.oidc.errors import TokenRefused

ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
    }
)
"""Signatures by a key whose public half is all that we have. What anybody could make with that half isn't one."""
LEEWAY_S = 60
SUBJECT_LENGTH_MAX = 255
_KEYS_MAX = 100
_KINDS_OF_KEY: dict[str, type[RSAKey | ECKey | OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
# 2048 bits, in the base64 of a key's modulus.
_MODULUS_LENGTH_MIN = 342


class _Asymmetric(jws.JWSRegistry):
    """joserfc's registry, with our algorithms and no others, whatever it comes to recommend."""

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in ALGORITHMS:
            raise TokenRefused(f"it is signed by {str(name)[:20]!r}, which isn't accepted")
        return self.algorithms[name]


# Headers that mean nothing to us are let be; those that are said to be critical are not.
_REGISTRY = _Asymmetric(strict_check_header=False)


class Person(msgspec.Struct, frozen=True):
    """Whom the issuer vouches for: *subject* is theirs for good, *name* may come to be another's."""

    subject: str
    name: str


def read_keys(document: bytes) -> dict[str, Key]:
    """The issuer's public keys by their ids. Those of a kind or a size that can't be trusted are left out.

    Raises:
        TokenRefused: if there are no keys in it, or too many.
    """
    try:
        found = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise TokenRefused("its keys can't be read") from error
    if not isinstance(found, list) or len(found) > _KEYS_MAX:
        raise TokenRefused("its keys can't be read")
    keys = dict[str, Key]()
    for jwk in found:
        key = _read_key(jwk)
        if key is not None:
            key.ensure_kid()
            keys.setdefault(str(key.kid), key)
    if not keys:
        raise TokenRefused("its issuer publishes no key that is accepted")
    return keys


def key_id_of(token: str) -> str | None:
    """By which key *token* says that it is signed; None if it doesn't say.

    Raises:
        TokenRefused: if it is no token, or not signed as those of an issuer are.
    """
    try:
        headers = jws.extract_compact(token.encode("utf-8", "replace"), registry=_REGISTRY).headers()
        _REGISTRY.check_header(headers)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        # TypeError where the header is JSON, and no object, or has none of the types that it should.
        raise TokenRefused("it is no signed token") from error
    _REGISTRY.get_alg(headers["alg"])
    kid = headers.get("kid")
    return kid if isinstance(kid, str) else None


def verified_claims(
    token: str, key: Key, *, issuer: str, client_id: str, nonce: str, now_s: float
) -> Mapping[str, Any]:
    """What *token* says, if *key* signed it, for us, for this attempt, and just now.

    Raises:
        TokenRefused: saying what isn't so.
    """
    try:
        decoded = jwt.decode(token, key, registry=_REGISTRY)
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            options={
                "iss": {"essential": True, "value": issuer},
                "aud": {"essential": True, "value": client_id},
                "sub": {"essential": True},
            },
            params={"client_id": client_id, "nonce": nonce},
        )
        claims.validate(now=int(now_s), leeway=LEEWAY_S)
    except ExpiredTokenError as error:
        raise TokenRefused("it has expired") from error
    except MissingClaimError as error:
        raise TokenRefused(f"it has no {error.claim!r}") from error
    except InvalidClaimError as error:
        raise TokenRefused(f"its {error.claim!r} isn't what it has to be") from error
    except (JoseError, ValueError, RecursionError) as error:
        raise TokenRefused("its signature isn't the issuer's") from error
    return decoded.claims


def person_of(claims: Mapping[str, Any], user_claim: str) -> Person:
    """Whom *claims* are of.

    Raises:
        TokenRefused: if they don't name anybody, or by an address that the issuer hasn't verified.
    """
    subject, name = claims["sub"], claims.get(user_claim)
    if len(subject) > SUBJECT_LENGTH_MAX or not (subject.isascii() and subject.isprintable()):
        raise TokenRefused("its 'sub' is none")
    if not isinstance(name, str) or not name:
        raise TokenRefused(f"it has no {user_claim!r}, by which users are named here")
    # Whoever may write anybody's address into their account would be that somebody.
    if user_claim == "email" and claims.get("email_verified") is not True:
        raise TokenRefused("its 'email' hasn't been verified")
    return Person(subject, name)


def _read_key(jwk: object) -> Key | None:
    kind = _KINDS_OF_KEY.get(str(jwk.get("kty"))) if isinstance(jwk, dict) else None
    if kind is None or not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    if kind is RSAKey and len(str(jwk.get("n"))) < _MODULUS_LENGTH_MIN:
        return None
    try:
        return kind.import_key(jwk)
    except (JoseError, ValueError, TypeError, KeyError):
        # An issuer may have keys that are none of ours to understand, beside those that are.
        return None

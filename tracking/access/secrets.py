"""Tokens and keys: random, shown once, known afterwards by their hash. Passwords: by argon2."""

import hashlib
import secrets
from enum import StrEnum

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from tracking.errors import InvalidParameter

_BYTES = 32
_SHOWN = 10
PASSWORD_LENGTH_MIN = 12
_PASSWORD_LENGTH_MAX = 1024
# RFC 9106, second recommendation: 64 MiB, three passes; some 50 ms here.
_HASHER = PasswordHasher()
# Of 256 random bits that nobody kept: who names a user that isn't there waits as long as who names one that is. Written
# out because making one takes each process that starts a tenth of a second.
NOBODYS_HASH = "$argon2id$v=19$m=65536,t=3,p=4$rzQOParvN82cZ2kupAVv2g$895H6VjRjFaPgu1iGA+DdzxYm8KA3s+VeIdWdknp6jo"


class SecretKind(StrEnum):
    """How a secret begins, so that people and scanners of repositories know what they found."""

    TOKEN = "tbt_"  # noqa: S105  (how all of them begin)
    SCORING_KEY = "tbk_"
    SESSION = "tbs_"


def new_secret(kind: SecretKind) -> str:
    return kind + secrets.token_urlsafe(_BYTES)


def digest_of(secret: str) -> str:
    """What is kept of a secret. It has 256 random bits, so no slow hash is needed to keep it from being guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def beginning_of(secret: str) -> str:
    """As much as may be shown, by which people tell their tokens apart."""
    return secret[:_SHOWN]


def hash_password(password: str) -> str:
    """Hash *password*, slowly.

    Raises:
        InvalidParameter: if it is short, or longer than anybody types.
    """
    if not PASSWORD_LENGTH_MIN <= len(password) <= _PASSWORD_LENGTH_MAX:
        raise InvalidParameter(f"A password has {PASSWORD_LENGTH_MIN} to {_PASSWORD_LENGTH_MAX} characters.")
    return _HASHER.hash(password)


def is_password(password: str, hashed: str | None) -> bool:
    """Whether *hashed* is of *password*. Takes as long without a hash as with one."""
    if len(password) > _PASSWORD_LENGTH_MAX:
        return False
    try:
        return _HASHER.verify(hashed or NOBODYS_HASH, password) and hashed is not None
    except (Argon2Error, InvalidHashError):
        return False

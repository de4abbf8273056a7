"""One browser's try to sign in, from the redirect to the issuer until its way back. Nothing of it is kept here.

The browser keeps a secret of its own in a cookie; what is sent to the issuer follows from that secret, and can't be
made by anybody who doesn't have the cookie. So whoever comes back is compared with what they bring, on any replica.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Self

import msgspec

LIFE_S = 600
# Whoever begins on one replica may come back to another, whose clock is behind.
_LEEWAY_S = 60
_NEXT_LENGTH_MAX = 1024
_COOKIE = re.compile(r"(\d{1,12})\.([\w-]{43})\.([\w-]*)", re.ASCII)


class Attempt(msgspec.Struct, frozen=True):
    """When it began, in epoch seconds, the browser's secret, and the path that it wants to see after."""

    began_s: int
    secret: str
    next: str

    @classmethod
    def begin(cls, next_path: str, now_s: float) -> Self:
        kept = next_path if len(next_path) <= _NEXT_LENGTH_MAX else "/"
        return cls(int(now_s), secrets.token_urlsafe(32), kept)

    @classmethod
    def find(cls, cookie: str, now_s: float) -> Self | None:
        """The attempt that *cookie* is of; None if it is of none, or of one that began too long ago."""
        match = _COOKIE.fullmatch(cookie)
        if match is None:
            return None
        began_s = int(match[1])
        try:
            next_path = base64.urlsafe_b64decode(match[3] + "=" * (-len(match[3]) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        return cls(began_s, match[2], next_path) if -_LEEWAY_S <= now_s - began_s < LIFE_S else None

    def __repr__(self) -> str:
        return f"Attempt({self.began_s})"

    @property
    def cookie(self) -> str:
        return f"{self.began_s}.{self.secret}.{_text(self.next.encode('utf-8', 'replace'))}"

    @property
    def state(self) -> str:
        return self._derive("state")

    @property
    def nonce(self) -> str:
        return self._derive("nonce")

    @property
    def verifier(self) -> str:
        """PKCE's (RFC 7636): shown to the issuer with the code, and known to it before by its hash."""
        return self._derive("verifier")

    def has_state(self, state: str) -> bool:
        return hmac.compare_digest(self.state.encode(), state.encode("utf-8", "replace"))

    def _derive(self, what: str) -> str:
        said = f"{what}\0{self.began_s}\0{self.next}".encode("utf-8", "replace")
        return _text(hmac.digest(self.secret.encode(), said, hashlib.sha256))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

"""Works out who is calling from what they show. It knows the book by heart: no request waits for the database."""

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.access.cookies import SESSION, find_cookie
from gateway.access.credentials import AUTHORIZATION, KEY, Password, Secret, Unauthenticated, read_credentials
from gateway.access.identity import LOCAL, Identity
from gateway.access.rate_limits import Bucket
from gateway.access.throttle import Throttle
from tracking.access.book import Book, KnownKey, KnownToken
from tracking.access.grants import Grant
from tracking.access.secrets import SecretKind, digest_of, hash_password, is_password
from tracking.errors import Exhausted, InvalidParameter

_SOURCE_PAUSE_MAX_S = 300.0
_NAME_PAUSE_MAX_S = 30.0
# Each check of a password takes 64 MiB for some 50 ms; one is made at a time, and so many may wait.
_CHECKS_WAITING_MAX = 16
_KNOWN_PASSWORDS_MAX = 10_000
_KNOWN_USERS_MAX = 10_000
_BEARER = b"Bearer "
_FORWARDED_FOR = b"x-forwarded-for"
_HOST_BITS = 64
_FORWARDED_PROTO = b"x-forwarded-proto"
# A session that was begun on another worker or replica is in the book that comes next, a second later.
_SESSION_WAIT_S = 2.5
_SESSION_LOOK_S = 0.05
_SESSIONS_AWAITED_MAX = 64
_SESSIONS_OVER_MAX = 1_000

Headers = Iterable[tuple[bytes, bytes]]


class UnknownSecret(Unauthenticated):
    """The same words for one that never was, one that was revoked and one that has expired."""

    def __init__(self) -> None:
        super().__init__(
            "This token isn't known here; it may have expired, or been revoked. A new one is known within two seconds."
        )


class WrongPassword(Unauthenticated):
    """The same words for a user that isn't there."""

    def __init__(self) -> None:
        super().__init__("The user's name or the password is wrong.")


class UserDisabled(Unauthenticated):
    def __init__(self) -> None:
        super().__init__("This user's access has been turned off.")


class TooManyChecks(Exhausted):
    def __init__(self) -> None:
        super().__init__("Too many passwords are being checked just now.")


def read_networks(text: str) -> list[IPv4Network | IPv6Network]:
    """Addresses and networks, by comma.

    Raises:
        InvalidParameter: naming the one that is none.
    """
    networks = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            networks.append(ip_network(part, strict=False))
        except ValueError:
            raise InvalidParameter(f"TITLEBOUT_TRUSTED_PROXIES: {part!r} is no address or network.") from None
    return networks


class Gatekeeper:
    """The door of one worker. With *is_open* everybody is `LOCAL`, whatever they show.

    A key's rate is a replica's, and each of its *workers* has an equal part of it.
    """

    def __init__(
        self,
        *,
        is_open: bool,
        clock: Callable[[], float],
        trusted_proxies: str = "",
        user_header: str = "",
        default_grants: Iterable[str] = (),
        workers: int = 1,
        session_wait_s: float = _SESSION_WAIT_S,
    ) -> None:
        self.is_open = is_open
        self.book = Book()
        self._clock = clock
        self._proxies = read_networks(trusted_proxies)
        self._user_header = user_header.lower().encode("latin-1")
        self.default_grants = tuple(Grant.parse(text) for text in default_grants)
        self._identities: dict[str, Identity] = {}
        self._by_source = Throttle(_SOURCE_PAUSE_MAX_S)
        self._by_name = Throttle(_NAME_PAUSE_MAX_S)
        # Passwords that were right for the book at hand, as a keyed hash: the slow one once is enough.
        self._right: OrderedDict[bytes, str] = OrderedDict()
        self._right_key = secrets.token_bytes(32)
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._checks_waiting = 0
        self._used_ms: dict[str, int] = {}
        self._buckets: dict[str, Bucket] = {}
        self._workers = workers
        self._session_wait_s = session_wait_s
        self._sessions_awaited = 0
        # Those that were waited for in vain, or known before: nobody waits for a session that is over.
        self._over: OrderedDict[str, None] = OrderedDict()

    def take(self, book: Book) -> None:
        """Know what *book* says, and nothing of what the one before said."""
        for digest in self.book.tokens.keys() - book.tokens.keys():
            self._note_over(digest)
        self.book = book
        self._identities = {}
        self._right.clear()
        kept = {key.id for key in book.keys.values()}
        self._buckets = {key_id: bucket for key_id, bucket in self._buckets.items() if key_id in kept}

    def close(self) -> None:
        self._checker.shutdown(wait=False, cancel_futures=True)

    def hash_password(self, password: str) -> str:
        """Hash a new password, one at a time, as checks are.

        Raises:
            InvalidParameter: if it is too short.
        """
        return self._checker.submit(hash_password, password).result()

    def used(self) -> dict[str, int]:
        """When tokens and keys were used, by id, epoch milliseconds; since this was asked last."""
        used, self._used_ms = self._used_ms, {}
        return used

    def identify(self, peer: str, headers: Headers, query: bytes) -> Identity | Awaitable[Identity | None] | None:
        """Who sends a request with *headers* from *peer*; None if they show nothing. A password is to be waited for.

        A browser's session counts where nothing else is shown, so that nobody else's requests have cookies looked at.

        Raises:
            Unauthenticated: if what they show is worth nothing.
            TooManyFailures: if they have shown such things too often.
        """
        if self.is_open:
            return LOCAL
        credentials = read_credentials(headers, query)
        match credentials:
            case Secret(text):
                return self._by_secret(text, peer, headers)
            case Password():
                return self._by_password(credentials, self.source_of(peer, headers))
            case _:
                return self._by_proxy(peer, headers) or self._by_session(headers)

    def recognise(self, headers: Mapping[bytes, bytes]) -> Identity | None:
        """Who shows a token or a key in *headers* that is known already and still good; None if it takes a closer look.

        *headers* has none twice. It is what `identify` comes to, at a third of its price.
        """
        shown = headers.get(AUTHORIZATION)
        if shown is None or not shown.startswith(_BEARER) or KEY in headers:
            return None
        identity = self._identities.get(hashlib.sha256(shown[len(_BEARER) :]).hexdigest())
        if identity is None or identity.is_session:
            return None
        now_ms = int(self._clock() * 1000)
        if identity.expires_ms is not None and identity.expires_ms <= now_ms:
            return None
        self._used_ms[identity.secret_id] = now_ms
        return identity

    def check_password(self, user: str, password: str, peer: str, headers: Headers) -> Identity | Awaitable[Identity]:
        """Who somebody is that signs in by a form, at the same pace and in the same words as by Basic.

        Raises:
            WrongPassword: also where there is no such user.
            TooManyFailures, TooManyChecks: if they have to wait.
        """
        return self._by_password(Password(user, password), self.source_of(peer, headers))

    def is_https(self, peer: str, headers: Headers) -> bool:
        """Whether a request came by HTTPS as far as a proxy that is listed; what others say of it doesn't count."""
        if not self._proxies or not self._is_proxy(peer):
            return False
        said = [value for name, value in headers if name == _FORWARDED_PROTO]
        # The last one is the proxy's own word; those before it may be the caller's.
        return bool(said) and said[-1].rpartition(b",")[2].strip().lower() == b"https"

    # --- tokens and keys

    def _by_secret(self, text: str, peer: str, headers: Headers) -> Identity:
        digest, now_s = digest_of(text), self._clock()
        found = self.book.tokens.get(digest) or self.book.keys.get(digest)
        if (
            found is None
            or (found.expires_ms is not None and found.expires_ms <= now_s * 1000)
            # A session's secret is for its cookie, beside which each change needs a proof that it is meant.
            or (isinstance(found, KnownToken) and found.is_session)
        ):
            # Counted apart from passwords: a client with an old token locks nobody out who shares its address.
            source = f"secret from {self.source_of(peer, headers)}"
            self._by_source.check(source, now_s)
            self._by_source.failed(source, now_s)
            raise UnknownSecret
        return self._known(digest, found, now_s)

    def _known(self, digest: str, found: KnownToken | KnownKey, now_s: float) -> Identity:
        self._used_ms[found.id] = int(now_s * 1000)
        identity = self._identities.get(digest)
        if identity is None:
            identity = self._of_token(found) if isinstance(found, KnownToken) else self._of_key(found)
            self._identities[digest] = identity
        return identity

    @staticmethod
    def _of_token(token: KnownToken) -> Identity:
        return Identity(
            token.user,
            token.grants,
            token_id=token.id,
            secret_id=token.id,
            expires_ms=token.expires_ms,
            is_session=token.is_session,
        )

    def _of_key(self, key: KnownKey) -> Identity:
        bucket = None
        if key.rate is not None:
            # Kept from book to book, or each change of anything would fill it.
            bucket = self._buckets.setdefault(key.id, Bucket(key.rate / self._workers))
        return Identity(key.name, key=key, secret_id=key.id, expires_ms=key.expires_ms, bucket=bucket)

    # --- sessions of browsers

    def _by_session(self, headers: Headers) -> Identity | Awaitable[Identity | None] | None:
        """Whose session the cookie is; None without one, or if it is over: browsers send it whether it counts or not.

        Failures aren't counted. Nobody guesses 256 bits, and who left a page open should be able to sign in again.
        """
        secret = find_cookie(headers, SESSION)
        if secret is None or not secret.startswith(SecretKind.SESSION):
            return None
        digest = digest_of(secret)
        if digest in self.book.tokens or digest in self._over or self._sessions_awaited >= _SESSIONS_AWAITED_MAX:
            return self._of_session(digest)
        return self._await_session(digest)

    def _of_session(self, digest: str) -> Identity | None:
        found, now_s = self.book.tokens.get(digest), self._clock()
        if found is None or not found.is_session or found.expires_ms <= now_s * 1000:
            return None
        return self._known(digest, found, now_s)

    async def _await_session(self, digest: str) -> Identity | None:
        looks = int(self._session_wait_s / _SESSION_LOOK_S)
        self._sessions_awaited += 1
        try:
            while looks > 0 and digest not in self.book.tokens:
                looks -= 1
                await asyncio.sleep(_SESSION_LOOK_S)
        finally:
            self._sessions_awaited -= 1
        if digest not in self.book.tokens:
            self._note_over(digest)
        return self._of_session(digest)

    def _note_over(self, digest: str) -> None:
        self._over[digest] = None
        while len(self._over) > _SESSIONS_OVER_MAX:
            self._over.popitem(last=False)

    # --- passwords

    def _by_password(self, shown: Password, source: str) -> Identity | Awaitable[Identity]:
        proof = hmac.digest(self._right_key, f"{len(shown.user)}:{shown.user}{shown.text}".encode(), hashlib.sha256)
        user = self._right.get(proof)
        if user is not None:
            return self._user(user)
        now_s = self._clock()
        self._by_source.check(source, now_s)
        self._by_name.check(shown.user, now_s)
        if self._checks_waiting >= _CHECKS_WAITING_MAX:
            raise TooManyChecks
        return self._check(shown, source, proof)

    async def _check(self, shown: Password, source: str, proof: bytes) -> Identity:
        book = self.book
        known = book.users.get(shown.user)
        self._checks_waiting += 1
        try:
            is_right = await asyncio.get_running_loop().run_in_executor(
                self._checker, is_password, shown.text, known.password_hash if known else None
            )
        finally:
            self._checks_waiting -= 1
        if not is_right:
            now_s = self._clock()
            self._by_source.failed(source, now_s)
            self._by_name.failed(shown.user, now_s)
            raise WrongPassword
        self._by_source.succeeded(source)
        self._by_name.succeeded(shown.user)
        if book is self.book:
            self._right[proof] = shown.user
            while len(self._right) > _KNOWN_PASSWORDS_MAX:
                self._right.popitem(last=False)
        return self._user(shown.user)

    # --- a proxy that authenticates

    def _by_proxy(self, peer: str, headers: Headers) -> Identity | None:
        if not self._user_header or not self._proxies or not self._is_proxy(peer):
            return None
        names = [value for name, value in headers if name == self._user_header]
        if not names:
            return None
        if len(names) > 1 or not names[0].strip():
            raise Unauthenticated("The proxy in front names no user, or more than one.")
        return self._user(names[0].decode("utf-8", "replace").strip()[:256])

    def _user(self, name: str) -> Identity:
        """*name* as the book has it; whoever it doesn't have may do what is granted to all who sign in elsewhere."""
        identity = self._identities.get(f"user:{name}")
        if identity is None:
            if name in self.book.disabled:
                raise UserDisabled
            known = self.book.users.get(name)
            identity = Identity(name, known.grants if known else self.default_grants)
            if len(self._identities) < _KNOWN_USERS_MAX:
                self._identities[f"user:{name}"] = identity
        return identity

    def source_of(self, peer: str, headers: Headers) -> str:
        """Where a request comes from: the last address on its way that is no proxy of ours, or the network it is in."""
        return _network_of(self._address_of(peer, headers))

    def _address_of(self, peer: str, headers: Headers) -> str:
        if not self._proxies or not self._is_proxy(peer):
            return peer
        way = [
            hop.strip()
            for name, value in headers
            if name == _FORWARDED_FOR
            for hop in value.decode("latin-1").split(",")
        ]
        return next((hop for hop in reversed(way) if not self._is_proxy(hop)), peer)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)


def _network_of(address: str) -> str:
    """The 64 bits that a network is given of IPv6, or *address* itself: whoever has one has all addresses of it."""
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address)
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> _HOST_BITS << _HOST_BITS))

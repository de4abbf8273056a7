"""The issuer, over HTTP: where it is asked, its keys, and who somebody is for a code. All of it in bounded time."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Generic, TypeVar
from urllib.parse import quote_plus, urlsplit

import httpx
import msgspec
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.discovery import get_well_known_url
from joserfc.jwk import Key

from gateway.access.oidc.attempt import Attempt
from gateway.access.oidc.configuration import is_usable_url
from gateway.access.oidc.errors import IssuerAway, IssuerRefuses, TokenRefused, TooManySignIns
from gateway.access.oidc.id_token import Person, key_id_of, person_of, read_keys, verified_claims
from gateway.settings import Settings

WAIT_S = 5.0
_ANSWER_BYTES_MAX = 256 * 1024
_AT_ONCE = 16
# Keys and addresses are read anew this often, so that a key that was taken back is gone.
_FRESH_S = 3600.0
_UNKNOWN_KEY_PAUSE_S = 60.0
_ERROR = re.compile(r"[\w.-]{1,64}", re.ASCII)
_DESCRIPTION_LENGTH_MAX = 200

T = TypeVar("T")


class Metadata(msgspec.Struct, frozen=True):
    """What of an issuer's discovery document is of use here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _TokenAnswer(msgspec.Struct, frozen=True):
    id_token: str = ""
    error: str = ""
    error_description: str = ""


class _Kept(Generic[T]):
    """Something fetched, for an hour; by one at a time, for all who wait for it."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._value: T | None = None
        self._fetched_s = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        async with self._lock:
            if self._value is not None and 0 <= self._clock() - self._fetched_s < _FRESH_S:
                return self._value
            return await self._renew()

    async def renew(self) -> T:
        async with self._lock:
            return await self._renew()

    async def _renew(self) -> T:
        self._value = await self._fetch()
        self._fetched_s = self._clock()
        return self._value


class Issuer:
    """The issuer of *settings*, as one worker knows it."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float], wait_s: float = WAIT_S) -> None:
        self._settings = settings
        self._wait_s = wait_s
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._client = httpx.AsyncClient(timeout=wait_s, headers=headers)
        self._clock = clock
        self._metadata = _Kept(self._fetch_metadata, clock)
        self._keys = _Kept(self._fetch_keys, clock)
        self._looked_for_unknown_s = -_UNKNOWN_KEY_PAUSE_S
        self._looking = asyncio.Lock()
        self._asking = 0

    async def close(self) -> None:
        await self._client.aclose()

    async def keys(self) -> Mapping[str, Key]:
        """Those by which the issuer signs, as far as they are accepted here.

        Raises:
            IssuerAway: if it can't be asked, or is another one than the settings name.
        """
        async with self._in_time():
            return await self._keys.get()

    async def authorization_url(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where the browser of *attempt* is sent.

        Raises:
            IssuerAway: if the issuer can't be asked.
            TooManySignIns: if too many are asked for at once.
        """
        async with self._in_time():
            metadata = await self._metadata.get()
        url: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            client_id=self._settings.oidc_client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=self._settings.oidc_scopes,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    async def identify(self, attempt: Attempt, answer: Mapping[str, str], redirect_uri: str) -> Person:
        """Who came back from the issuer with *answer*, the parameters of the way back; its state has been compared.

        Raises:
            IssuerRefuses: if the issuer says no.
            TokenRefused: if what it says can't be believed.
            IssuerAway: if it can't be asked.
            TooManySignIns: if too many are asked for at once.
        """
        async with self._in_time():
            metadata = await self._metadata.get()
            self._ensure_from_issuer(metadata, answer.get("iss"))
            if "error" in answer:
                raise _refusal(answer["error"], answer.get("error_description", ""))
            token = await self._exchange(metadata, answer.get("code", ""), attempt, redirect_uri)
            claims = verified_claims(
                token,
                await self._find_key(key_id_of(token)),
                issuer=self._settings.oidc_issuer,
                client_id=self._settings.oidc_client_id,
                nonce=attempt.nonce,
                now_s=self._clock(),
            )
        return person_of(claims, self._settings.oidc_user_claim)

    def _ensure_from_issuer(self, metadata: Metadata, issuer: str | None) -> None:
        """Compare who answers with who was asked (RFC 9207), so that no other issuer's code is sent to this one."""
        if issuer is None and not metadata.authorization_response_iss_parameter_supported:
            return
        if issuer != self._settings.oidc_issuer:
            raise TokenRefused("the answer is another issuer's")

    async def _exchange(self, metadata: Metadata, code: str, attempt: Attempt, redirect_uri: str) -> str:
        """The ID token for *code*, as it came."""
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=attempt.verifier
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url, headers, body = self._client_auth(metadata).prepare("POST", metadata.token_endpoint, headers, body)
        status, answered = await self._ask("POST", url, headers=headers, content=body)
        try:
            answer = msgspec.json.decode(answered, type=_TokenAnswer)
        except (msgspec.MsgspecError, RecursionError):
            raise IssuerAway(f"a code is answered by {status}, and nothing that can be read") from None
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise IssuerAway(f"a code is answered by {status}")
        if answer.error or status != httpx.codes.OK:
            raise _refusal(answer.error or str(status), answer.error_description)
        if not answer.id_token:
            raise TokenRefused("there is no ID token")
        return answer.id_token

    def _client_auth(self, metadata: Metadata) -> ClientAuth:
        client_id, secret = self._settings.oidc_client_id, self._settings.oidc_client_secret
        if not secret:
            return ClientAuth(client_id, None, "none")
        if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            # Both are encoded as a form's before they are put together (RFC 6749, 2.3.1).
            return ClientAuth(quote_plus(client_id), quote_plus(secret), "client_secret_basic")
        return ClientAuth(client_id, secret, "client_secret_post")

    # --- keys

    async def _find_key(self, kid: str | None) -> Key:
        """The key *kid*; one that isn't known is looked for at the issuer, which may have changed its keys.

        However many are made up, it is asked once a minute.
        """
        key = _choose(await self._keys.get(), kid)
        if key is not None:
            return key
        async with self._looking:
            # Who waited here for another's look may find it.
            key = _choose(await self._keys.get(), kid)
            if key is None and self._clock() - self._looked_for_unknown_s >= _UNKNOWN_KEY_PAUSE_S:
                self._looked_for_unknown_s = self._clock()
                key = _choose(await self._keys.renew(), kid)
        if key is None:
            raise TokenRefused("it is signed by a key that isn't the issuer's; if that is new, try again in a minute")
        return key

    async def _fetch_keys(self) -> dict[str, Key]:
        metadata = await self._metadata.get()
        status, body = await self._ask("GET", metadata.jwks_uri)
        if status != httpx.codes.OK:
            raise IssuerAway(f"its keys are answered by {status}")
        return read_keys(body)

    async def _fetch_metadata(self) -> Metadata:
        status, body = await self._ask("GET", get_well_known_url(self._settings.oidc_issuer, external=True))
        if status != httpx.codes.OK:
            raise IssuerAway(f"its discovery document is answered by {status}")
        try:
            metadata = msgspec.json.decode(body, type=Metadata)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise IssuerAway("its discovery document can't be read") from error
        if metadata.issuer != self._settings.oidc_issuer:
            raise IssuerAway(
                f"it calls itself {metadata.issuer!r}, and TITLEBOUT_OIDC_ISSUER must be that to the letter"
            )
        schemes = {"https", urlsplit(self._settings.oidc_issuer).scheme}
        for url in (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri):
            if not is_usable_url(url) or urlsplit(url).scheme not in schemes:
                raise IssuerAway("it names an address without https")
        return metadata

    # --- the wire

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        if self._asking >= _AT_ONCE:
            raise TooManySignIns
        self._asking += 1
        try:
            async with asyncio.timeout(self._wait_s):
                yield
        except TimeoutError:
            raise IssuerAway(f"it hasn't answered within {self._wait_s:g} s") from None
        finally:
            self._asking -= 1

    async def _ask(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: str | None = None
    ) -> tuple[int, bytes]:
        body = bytearray()
        try:
            async with self._client.stream(method, url, headers=headers, content=content) as response:
                # As it comes: a body that is small when it is packed may not be.
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _ANSWER_BYTES_MAX:
                        raise IssuerAway(f"an answer of its is over {_ANSWER_BYTES_MAX // 1024} KiB")
        except httpx.TimeoutException:
            raise TimeoutError from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise IssuerAway("it can't be reached") from error
        return response.status_code, bytes(body)


def _choose(keys: Mapping[str, Key], kid: str | None) -> Key | None:
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    return keys.get(kid or "")


def _refusal(error: str, description: str) -> IssuerRefuses:
    """The issuer's words, as far as they may be anybody's: who wrote them isn't known."""
    said = "".join(filter(str.isprintable, description))[:_DESCRIPTION_LENGTH_MAX]
    return IssuerRefuses(error if _ERROR.fullmatch(error) else "for a reason that can't be shown", said)

"""What an issuer says is believed when all of it holds, and asked for in bounded time and size."""

import asyncio
import contextlib
import re
import time
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from click.testing import CliRunner

from gateway.access.oidc.attempt import LIFE_S, Attempt
from gateway.access.oidc.configuration import ensure_oidc_usable
from gateway.access.oidc.errors import IssuerAway, IssuerRefuses, TokenRefused
from gateway.cli import cli
from gateway.main import check_surroundings
from gateway.settings import Settings
from tests.gateway.access.oidc_issuer import ABSENT, CLIENT_ID, CLIENT_SECRET, running_issuer
from tracking.errors import Exhausted, InvalidParameter

REDIRECT = "https://titlebout.example.org/signin/oidc/callback"


class Clock:
    """The real time, and some more."""

    ahead_s = 0.0

    def __call__(self):
        return time.time() + self.ahead_s


@pytest.fixture(scope="module")
def shared_issuer():
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def there(shared_issuer):
    shared_issuer.be_honest()
    shared_issuer.calls.clear()
    return shared_issuer


@pytest.fixture
def clock():
    return Clock()


def settings_for(there, **more):
    given = {"oidc_issuer": there.url, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET}
    return Settings(**{**given, **more})


@pytest.fixture(scope="module")
def identify_again(shared_issuer):
    """Identifies whoever comes, by one `Issuer` for all tests that ask nothing more of it."""
    from gateway.access.oidc.issuer import Issuer

    with asyncio.Runner() as runner:
        issuer = Issuer(settings_for(shared_issuer), clock=time.time)
        yield lambda: runner.run(identify(issuer, time.time))
        runner.run(issuer.close())


@contextlib.asynccontextmanager
async def asked(there, clock, **more):
    from gateway.access.oidc.issuer import Issuer

    wait_s = more.pop("wait_s", 5.0)
    issuer = Issuer(settings_for(there, **more), clock=clock, wait_s=wait_s)
    try:
        yield issuer
    finally:
        await issuer.close()


async def come_back(issuer, attempt, **changes):
    """What the browser brings back of *attempt*."""
    url = await issuer.authorization_url(attempt, REDIRECT)
    sent = await asyncio.to_thread(httpx.get, url, verify=False)
    answer = parse_qs(urlsplit(sent.headers["Location"]).query, keep_blank_values=True)
    return {name: values[0] for name, values in answer.items()} | changes


async def identify(issuer, clock, **changes):
    attempt = Attempt.begin("/", clock())
    return await issuer.identify(attempt, await come_back(issuer, attempt, **changes), REDIRECT)


def identified(there, clock, **more):
    async def once():
        async with asked(there, clock, **more) as issuer:
            return await identify(issuer, clock)

    return asyncio.run(once())


def test_whoever_the_issuer_vouches_for_has_a_subject_and_a_name(there, clock):
    person = identified(there, clock)
    assert (person.subject, person.name) == ("248289761001", "ann@example.org")
    assert identified(there, clock, oidc_user_claim="preferred_username").name == "ann"


def test_a_public_client_shows_no_secret(there, clock):
    there.wants_secret = False
    assert identified(there, clock, oidc_client_secret="").name == "ann@example.org"
    there.wants_secret = True
    with pytest.raises(IssuerRefuses, match="invalid_client"):
        identified(there, clock, oidc_client_secret="wrong")


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "RS512", "EdDSA"])
def test_signatures_of_every_kind_that_is_accepted_are(there, clock, algorithm):
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    kinds = {"E": (ECKey, "P-256"), "Ed": (OKPKey, "Ed25519"), "P": (RSAKey, 2048), "R": (RSAKey, 2048)}
    kind, size = kinds["Ed" if algorithm == "EdDSA" else algorithm[0]]
    before = there.key
    there.key = kind.generate_key(size, {"kid": algorithm})
    there.header_lies = {"alg": algorithm}
    try:
        if algorithm == "EdDSA":
            with pytest.warns(match="RFC 9864"):
                assert identified(there, clock).name == "ann@example.org"
        else:
            assert identified(there, clock).name == "ann@example.org"
    finally:
        there.key = before


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        pytest.param({"iss": "https://elsewhere.example.org"}, "'iss'", id="wrong issuer"),
        pytest.param({"iss": ABSENT}, "'iss'", id="no issuer"),
        pytest.param({"aud": "another"}, "'aud'", id="wrong audience"),
        pytest.param({"aud": ABSENT}, "'aud'", id="no audience"),
        pytest.param({"aud": []}, "'aud'", id="empty audience"),
        pytest.param({"aud": {"titlebout": 1}}, "'aud'", id="an audience that is none"),
        pytest.param({"aud": ["titlebout", "another"]}, "'azp'", id="several audiences, and nobody it was given to"),
        pytest.param({"aud": ["titlebout", "another"], "azp": "another"}, "'azp'", id="given to another"),
        pytest.param({"azp": "another"}, "'azp'", id="given to another, for us"),
        pytest.param({"nonce": "another"}, "'nonce'", id="wrong nonce"),
        pytest.param({"nonce": ABSENT}, "'nonce'", id="no nonce"),
        pytest.param({"nonce": None}, "'nonce'", id="null nonce"),
        pytest.param({"sub": ABSENT}, "'sub'", id="no subject"),
        pytest.param({"sub": ""}, "'sub'", id="empty subject"),
        pytest.param({"sub": 7}, "'sub'", id="a number for a subject"),
        pytest.param({"sub": "a\0"}, "'sub'", id="a subject with NUL"),
        pytest.param({"sub": "x" * 256}, "'sub'", id="a long subject"),
        pytest.param({"exp": 1}, "expired", id="expired"),
        pytest.param({"exp": ABSENT}, "'exp'", id="without an end"),
        pytest.param({"exp": "soon"}, "'exp'", id="an end that is no number"),
        pytest.param({"exp": float("nan")}, "'exp'", id="an end that never comes"),
        pytest.param({"nbf": 99_999_999_999}, "'nbf'", id="not yet valid"),
        pytest.param({"iat": 99_999_999_999}, "'iat'", id="issued in the future"),
        pytest.param({"iat": ABSENT}, "'iat'", id="issued at no time"),
        pytest.param({"email_verified": False}, "verified", id="unverified address"),
        pytest.param({"email_verified": ABSENT}, "verified", id="nothing of the address being verified"),
        pytest.param({"email_verified": "false"}, "verified", id="a text for verified"),
        pytest.param({"email": ABSENT}, "'email'", id="no address"),
        pytest.param({"email": ["ann@example.org"]}, "'email'", id="an address that is none"),
    ],
)
def test_a_claim_that_lies_is_refused(there, identify_again, lies, said):
    there.claim_lies = lies
    with pytest.raises(TokenRefused, match=said):
        identify_again()


def test_clocks_may_differ_by_a_minute(there, identify_again):
    now_s = int(time.time())
    there.claim_lies = {"exp": now_s - 30, "iat": now_s + 30, "nbf": now_s + 30}
    assert identify_again().name == "ann@example.org"
    for lie in ({"exp": now_s - 90}, {"nbf": now_s + 120}, {"iat": now_s + 120}):
        there.claim_lies = lie
        with pytest.raises(TokenRefused):
            identify_again()


def test_several_audiences_are_accepted_if_it_was_given_to_us(there, identify_again):
    there.claim_lies = {"aud": ["another", "titlebout"], "azp": "titlebout"}
    assert identify_again().name == "ann@example.org"


def test_a_token_that_nobody_signed_is_refused(there, identify_again):
    there.unsigned = True
    with pytest.raises(TokenRefused, match="'none'"):
        identify_again()


@pytest.mark.parametrize("secret", ["public key", "client secret"])
def test_a_token_that_anybody_could_have_signed_is_refused(there, identify_again, secret):
    there.shared_secret = there.key.as_pem(private=False) if secret == "public key" else CLIENT_SECRET.encode()
    with pytest.raises(TokenRefused, match="'HS256'"):
        identify_again()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        pytest.param({}, "signature", id="the id of the issuer's key"),
        pytest.param({"kid": "another"}, "a key that isn't the issuer's", id="its own id"),
        pytest.param({"kid": "small"}, "a key that isn't the issuer's", id="the id of a key too small"),
        pytest.param({"kid": ABSENT}, "signature", id="no id"),
        pytest.param({"kid": "another", "jwk": {"kty": "RSA"}}, "a key that isn't", id="a key that it brings itself"),
    ],
)
def test_a_token_that_another_key_signed_is_refused(there, identify_again, other_key, header, said):
    there.signing_key = other_key
    there.header_lies = header
    with pytest.raises(TokenRefused, match=said):
        identify_again()


@pytest.fixture(scope="module")
def other_key():
    from joserfc.jwk import RSAKey

    return RSAKey.generate_key(2048)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "..",
        "\0",
        "é.é.é",
        "e30.e30.e30",
        "WyJhbGciXQ.e30.e30",
        "eyJhbGciOiJFUzI1NiIsImNyaXQiOjF9.e30.e30",
    ],
)
def test_what_is_no_token_is_refused(there, identify_again, monkeypatch, token):
    monkeypatch.setattr(there, "token", lambda _: token)
    with pytest.raises(TokenRefused):
        identify_again()


@pytest.mark.parametrize("iss", ["https://elsewhere.example.org", ""])
def test_the_answer_of_another_issuer_is_refused_before_its_code_is_shown_to_anybody(there, identify_again, iss):
    there.answer_lies = {"iss": iss}
    with pytest.raises(TokenRefused, match="another issuer's"):
        identify_again()
    assert "/token" not in there.calls


def test_an_issuer_that_says_who_it_is_must_say_so(there, clock):
    there.answer_lies = {"iss": ABSENT}
    assert identified(there, clock).name == "ann@example.org"
    there.discovery_lies = {"authorization_response_iss_parameter_supported": True}
    with pytest.raises(TokenRefused, match="another issuer's"):
        identified(there, clock)


def test_a_code_is_worth_something_once_and_to_one_browser(there, clock):
    async def twice():
        async with asked(there, clock) as issuer:
            attempt = Attempt.begin("/", clock())
            answer = await come_back(issuer, attempt)
            await issuer.identify(attempt, answer, REDIRECT)
            with pytest.raises(IssuerRefuses, match="invalid_grant"):
                await issuer.identify(attempt, answer, REDIRECT)
            other = await come_back(issuer, Attempt.begin("/", clock()))
            with pytest.raises(IssuerRefuses, match="another browser"):
                await issuer.identify(attempt, other, REDIRECT)

    asyncio.run(twice())


def test_what_the_issuer_says_of_an_error_is_cut_to_what_can_be_shown(there, clock):
    async def refused():
        async with asked(there, clock) as issuer:
            return await identify(issuer, clock, error="access\r\ndenied", error_description="no\0\n" + "x" * 10_000)

    with pytest.raises(IssuerRefuses) as refusal:
        asyncio.run(refused())
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


# --- keys that change


def test_a_new_key_is_fetched_once_and_forged_ones_once_a_minute(there, clock, other_key):
    async def rotated():
        async with asked(there, clock) as issuer:
            await identify(issuer, clock)
            assert there.calls["/keys"] == 1
            there.rotate("second")
            await asyncio.gather(*(identify(issuer, clock) for _ in range(5)))
            assert there.calls["/keys"] == 2
            there.signing_key = other_key
            for number in range(5):
                there.header_lies = {"kid": f"forged {number}", "alg": "RS256"}
                with pytest.raises(TokenRefused):
                    await identify(issuer, clock)
            assert there.calls["/keys"] == 2
            clock.ahead_s += 61
            with pytest.raises(TokenRefused):
                await identify(issuer, clock)
            assert there.calls["/keys"] == 3

    first = there.key
    try:
        asyncio.run(rotated())
    finally:
        there.key = first


def test_a_key_that_was_taken_back_is_gone_within_an_hour(there, clock):
    async def taken_back():
        async with asked(there, clock) as issuer:
            await identify(issuer, clock)
            there.signing_key = there.key
            there.header_lies = {"kid": there.key.kid, "alg": "RS256"}
            there.rotate("after")
            clock.ahead_s += 3601
            there.claim_lies = {"exp": int(clock()) + 60, "iat": int(clock())}
            with pytest.raises(TokenRefused):
                await identify(issuer, clock)

    first = there.key
    try:
        asyncio.run(taken_back())
    finally:
        there.key = first


# --- an issuer that is away, or isn't who it should be


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/keys"])
@pytest.mark.parametrize("how", ["away", "huge", "slow"])
def test_an_issuer_that_cant_be_asked_is_waited_for_briefly(there, clock, how, path):
    setattr(there, how, {path})
    began = time.monotonic()
    with pytest.raises(IssuerAway):
        identified(there, clock, wait_s=0.3 if how == "slow" else 5.0)
    assert time.monotonic() - began < 3
    there.release.set()


def test_an_issuer_that_isnt_there_is_away(there, clock):
    with pytest.raises(IssuerAway, match="can't be reached"):
        identified(there, clock, oidc_issuer="http://127.0.0.1:1")


@pytest.mark.parametrize(
    "lies",
    [
        {"issuer": "https://elsewhere.example.org"},
        {"issuer": ABSENT},
        {"token_endpoint": "http://192.0.2.1/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": 7},
        {"token_endpoint": "https://issuer.example.org/\r\nX: y"},
    ],
)
def test_an_issuer_that_isnt_the_one_of_the_settings_is_not_asked(there, clock, lies):
    there.discovery_lies = lies
    with pytest.raises(IssuerAway):
        identified(there, clock)
    assert "/authorize" not in there.calls


def test_so_many_are_asked_for_at_once_and_no_more(there, clock):
    there.slow = {"/.well-known/openid-configuration"}

    async def all_at_once():
        async with asked(there, clock, wait_s=0.3) as issuer:
            tries = [issuer.authorization_url(Attempt.begin("/", clock()), REDIRECT) for _ in range(40)]
            return await asyncio.gather(*tries, return_exceptions=True)

    kinds = [type(error) for error in asyncio.run(all_at_once())]
    there.release.set()
    assert kinds.count(IssuerAway) == 16
    assert sum(issubclass(kind, Exhausted) for kind in kinds) == 24


def test_doctor_says_whether_the_issuer_answers_and_is_the_one_that_is_set(there, tmp_path):
    def doctor(issuer):
        given = {"TITLEBOUT_OIDC_ISSUER": issuer, "TITLEBOUT_OIDC_CLIENT_ID": "titlebout"}
        told = CliRunner().invoke(cli, ["doctor", "--data", str(tmp_path)], env=given).output
        return [line for line in told.splitlines() if "issuer  " in line]

    usable, answers = doctor(there.url)
    assert "'email'" in usable
    assert re.match(rf"ok +issuer +answers +as {there.url} \(keys that are accepted: 1\)", answers)
    (refused,) = doctor("http://issuer.example.org")
    assert re.match("FAIL +issuer +settings .*https", refused)
    assert doctor("http://127.0.0.1:1")[1].startswith("FAIL")
    slash = doctor(there.url + "/")[1]
    assert slash.startswith("FAIL")
    assert f"it calls itself '{there.url}'" in slash


# --- what the browser keeps


def test_an_attempt_is_its_cookies_and_no_others():
    attempt = Attempt.begin("/endpoints/iris/docs?a=ö", 1000)
    found = Attempt.find(attempt.cookie, 1000 + LIFE_S - 1)
    assert (found, found.state, found.nonce) == (attempt, attempt.state, attempt.nonce)
    assert found.has_state(attempt.state)
    assert len({attempt.state, attempt.nonce, attempt.verifier, attempt.secret}) == 4
    other = Attempt.begin("/endpoints/iris/docs?a=ö", 1000)
    assert not other.has_state(attempt.state)
    assert attempt.secret not in repr(attempt)


@pytest.mark.parametrize("cookie", ["", "x", "1.2.3", "9" * 30, "1000..", "1000." + "a" * 43 + ".é"])
def test_what_is_no_attempt_is_none(cookie):
    assert Attempt.find(cookie, 1000) is None


def test_an_attempt_is_over_after_ten_minutes():
    attempt = Attempt.begin("/", 1000)
    assert Attempt.find(attempt.cookie, 1000 + LIFE_S) is None
    # Clocks of replicas differ, if not by much.
    assert Attempt.find(attempt.cookie, 990) == attempt
    assert Attempt.find(attempt.cookie, 900) is None
    assert Attempt.begin("/" + "x" * 5000, 1000).next == "/"


# --- settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"oidc_issuer": "http://issuer.example.org"}, "https"),
        ({"oidc_issuer": "issuer.example.org"}, "https"),
        ({"oidc_issuer": "https://issuer.example.org/?a=b"}, "host and a path"),
        ({"oidc_issuer": "https://a:b@issuer.example.org"}, "host and a path"),
        ({"oidc_issuer": "https://[::1"}, "https"),
        ({"oidc_issuer": "https://issuer.example.org/a b"}, "https"),
        ({"oidc_issuer": "https://issuer.example.org/" + "x" * 600}, "https"),
        ({"oidc_client_id": ""}, "TITLEBOUT_OIDC_CLIENT_ID"),
        ({"oidc_scopes": "profile email"}, "TITLEBOUT_OIDC_SCOPES"),
    ],
)
def test_settings_that_cant_be_used_are_named(changes, said):
    given = {"oidc_issuer": "https://issuer.example.org/realms/a", "oidc_client_id": "titlebout"}
    ensure_oidc_usable(Settings(**given))
    with pytest.raises(InvalidParameter, match=said):
        ensure_oidc_usable(Settings(**{**given, **changes}))


def test_a_server_whose_issuer_cant_be_used_doesnt_start(tmp_path):
    with pytest.raises(InvalidParameter, match="TITLEBOUT_OIDC_CLIENT_ID"):
        check_surroundings(Settings(data=str(tmp_path), oidc_issuer="https://issuer.example.org"))


def test_without_the_extra_an_issuer_cant_be_set(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "authlib", None)
    ensure_oidc_usable(Settings())
    with pytest.raises(InvalidParameter, match=r"pip install 'titlebout\[oidc\]'"):
        ensure_oidc_usable(Settings(oidc_issuer="http://127.0.0.1:1", oidc_client_id="a"))

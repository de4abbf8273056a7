"""Who is let in, by what they show; who guesses waits."""

import asyncio
import base64

import pytest

from gateway.access.credentials import Unauthenticated
from gateway.access.gatekeeper import Gatekeeper
from gateway.access.identity import LOCAL, NotForKey, NotPermitted
from gateway.access.rate_limits import Bucket, RateExceeded
from gateway.access.throttle import Throttle, TooManyFailures
from gateway.main import check_surroundings
from gateway.settings import Settings
from tracking.access.book import Book, KnownKey, KnownToken, KnownUser
from tracking.access.grants import Grant
from tracking.access.permissions import Permission
from tracking.access.secrets import digest_of, hash_password
from tracking.errors import InvalidParameter

VIEWER = (Grant("viewer"),)
PASSWORD = "correct horse battery"
PEER = "192.0.2.1"


class Clock:
    now_s = 1_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def book():
    return Book(
        number=1,
        users={"ann": KnownUser("ann", VIEWER, hash_password(PASSWORD))},
        tokens={
            digest_of("good"): KnownToken("t1", "ann", VIEWER, 2_000_000, is_session=False),
            digest_of("old"): KnownToken("t2", "ann", VIEWER, 999_000, is_session=False),
            digest_of("tbs_good"): KnownToken("s1", "ann", VIEWER, 2_000_000, is_session=True),
            digest_of("tbs_old"): KnownToken("s2", "ann", VIEWER, 999_000, is_session=True),
        },
        keys={digest_of("key"): KnownKey("k1", "shop", ("iris", "shop-*"), False, False, 4.0, None)},
        disabled=frozenset({"bob"}),
    )


@pytest.fixture
def gate(book, clock):
    gate = Gatekeeper(
        is_open=False, clock=clock, trusted_proxies="10.0.0.0/8", user_header="X-User", workers=2, session_wait_s=0
    )
    gate.take(book)
    yield gate
    gate.close()


def bearer(secret):
    return [(b"authorization", b"Bearer " + secret.encode())]


def basic(user, password):
    return [(b"authorization", b"Basic " + base64.b64encode(f"{user}:{password}".encode()))]


def cookie(secret):
    return [(b"cookie", b"__Host-titlebout-session=" + secret.encode())]


def identify(gate, headers, peer=PEER):
    async def identified():
        found = gate.identify(peer, headers, b"")
        return await found if hasattr(found, "__await__") else found

    return asyncio.run(identified())


def test_an_open_door_asks_nobody(clock):
    gate = Gatekeeper(is_open=True, clock=clock)
    assert gate.identify(PEER, bearer("anything"), b"") is LOCAL
    gate.close()


def test_tokens_keys_and_passwords_say_who_it_is(gate):
    assert identify(gate, []) is None
    assert identify(gate, bearer("good")).name == "ann"
    assert identify(gate, bearer("key")).key.name == "shop"
    assert identify(gate, basic("ann", PASSWORD)).grants == VIEWER
    assert gate.used() == {"t1": 1_000_000, "k1": 1_000_000}
    assert gate.used() == {}


@pytest.mark.parametrize("headers", [bearer("bad"), bearer("old"), basic("ann", "wrong"), basic("eve", PASSWORD)])
def test_what_is_wrong_or_over_is_refused(gate, headers):
    with pytest.raises(Unauthenticated):
        identify(gate, headers)


def test_a_session_is_good_as_a_cookie_where_nothing_else_is_shown(gate):
    found = identify(gate, cookie("tbs_good"))
    assert (found.name, found.is_session, found.token_id, found.grants) == ("ann", True, "s1", VIEWER)
    assert gate.used() == {"s1": 1_000_000}
    assert not identify(gate, [*cookie("tbs_good"), *bearer("good")]).is_session
    assert identify(gate, [*cookie("tbs_good"), (b"x-titlebout-key", b"key")]).key.name == "shop"
    with pytest.raises(Unauthenticated):
        identify(gate, [*cookie("tbs_good"), *bearer("bad")])
    with pytest.raises(Unauthenticated, match="two cookies"):
        identify(gate, cookie("tbs_good") * 2)


def test_a_session_is_no_token_and_a_token_no_session(gate):
    with pytest.raises(Unauthenticated):
        identify(gate, bearer("tbs_good"))
    for secret in ("good", "key"):
        assert identify(gate, cookie(secret)) is None


def test_a_cookie_that_is_worth_nothing_is_as_none_and_locks_nobody_out(gate):
    for secret in ("tbs_old", "tbs_never", "nonsense", "\xff"):
        for _ in range(10):
            assert identify(gate, cookie(secret)) is None
    assert identify(gate, basic("ann", PASSWORD)).name == "ann"


def test_a_session_that_was_just_begun_elsewhere_is_waited_for(book, clock):
    gate = Gatekeeper(is_open=False, clock=clock, session_wait_s=30)

    async def asked_before_it_is_known():
        asked = asyncio.ensure_future(gate.identify(PEER, cookie("tbs_good"), b""))
        await asyncio.sleep(0)
        assert not asked.done()
        gate.take(book)
        return await asked

    assert asyncio.run(asked_before_it_is_known()).name == "ann"
    # And one that was known and is over is not.
    gate.take(Book(number=2))
    assert gate.identify(PEER, cookie("tbs_good"), b"") is None
    gate.close()


def test_only_a_listed_proxy_says_that_https_was_used(gate):
    def is_https(peer, *values):
        return gate.is_https(peer, [(b"x-forwarded-proto", value) for value in values])

    assert is_https("10.1.2.3", b"https")
    assert is_https("10.1.2.3", b"http, https")
    assert not is_https("10.1.2.3")
    # What the proxy itself saw comes last.
    assert not is_https("10.1.2.3", b"https, http")
    assert not is_https("10.1.2.3", b"https", b"http")
    assert not is_https(PEER, b"https")


def test_a_new_book_takes_back_at_once_what_the_old_one_gave(gate):
    assert identify(gate, basic("ann", PASSWORD)).name == "ann"
    gate.take(Book(number=2))
    for headers in (bearer("good"), bearer("key"), basic("ann", PASSWORD)):
        with pytest.raises(Unauthenticated):
            identify(gate, headers)


def test_without_a_header_for_it_no_proxy_names_users(clock):
    gate = Gatekeeper(is_open=False, clock=clock, trusted_proxies="10.0.0.0/8")
    assert identify(gate, [(b"x-forwarded-user", b"ann")], peer="10.1.2.3") is None
    gate.close()


def test_only_listed_proxies_name_users(gate):
    named = [(b"x-user", b"ann")]
    assert identify(gate, named) is None
    assert identify(gate, named, peer="10.1.2.3").grants == VIEWER
    assert identify(gate, [(b"x-user", b"new")], peer="10.1.2.3").grants == ()
    for headers in ([(b"x-user", b"bob")], [*named, *named], [(b"x-user", b" ")]):
        with pytest.raises(Unauthenticated):
            identify(gate, headers, peer="10.1.2.3")


def test_who_guesses_waits_and_keeps_no_right_token_out(gate, clock):
    for _ in range(6):
        with pytest.raises(Unauthenticated):
            identify(gate, bearer("bad"))
    with pytest.raises(TooManyFailures):
        identify(gate, bearer("bad"))
    assert identify(gate, bearer("good")).name == "ann"
    assert identify(gate, basic("ann", PASSWORD)).name == "ann"
    clock.now_s += 2
    with pytest.raises(Unauthenticated):
        identify(gate, bearer("bad"))


def test_guesses_at_a_name_are_counted_wherever_they_come_from(gate):
    for number in range(6):
        with pytest.raises(Unauthenticated):
            identify(gate, basic("ann", "wrong"), peer=f"192.0.2.{number}")
    with pytest.raises(TooManyFailures):
        identify(gate, basic("ann", "wrong"), peer="192.0.2.99")


def test_behind_a_proxy_the_source_is_the_last_hop_that_is_none_of_ours(gate):
    def guess(forwarded):
        with pytest.raises((Unauthenticated, TooManyFailures)) as refused:
            identify(gate, [*bearer("bad"), (b"x-forwarded-for", forwarded)], peer="10.0.0.1")
        return refused.type

    for number in range(6):
        # What the caller itself has put there first counts for nothing.
        guess(b"203.0.113.%d, 198.51.100.7, 10.0.0.2" % number)
    assert guess(b"198.51.100.7") is TooManyFailures
    assert guess(b"198.51.100.8") is not TooManyFailures


def test_all_addresses_of_one_ipv6_network_are_one_source(gate):
    def guess(peer):
        with pytest.raises((Unauthenticated, TooManyFailures)) as refused:
            identify(gate, bearer("bad"), peer=peer)
        return refused.type

    for number in range(6):
        guess(f"2001:db8:0:1::{number:x}")
    assert guess("2001:db8:0:1:ffff::1") is TooManyFailures
    assert guess("2001:db8:0:2::1") is not TooManyFailures
    # Of IPv4 addresses in the clothes of IPv6 each is somebody's own.
    for _ in range(6):
        guess("::ffff:192.0.2.1")
    assert guess("192.0.2.1") is TooManyFailures
    assert guess("::ffff:192.0.2.2") is not TooManyFailures


def test_pauses_double_are_bounded_and_forgotten():
    throttle, now_s, pauses = Throttle(pause_max_s=10), 0.0, []
    for _ in range(12):
        throttle.failed("x", now_s)
        try:
            throttle.check("x", now_s)
            pauses.append(0)
        except TooManyFailures as error:
            pauses.append(error.retry_after_s)
            now_s += error.retry_after_s
    assert pauses == [0, 0, 0, 0, 0, 1, 2, 4, 8, 10, 10, 10]
    throttle.failed("x", now_s + 901)
    throttle.check("x", now_s + 901)
    for number in range(20_000):
        throttle.failed(str(number), now_s)
    assert len(throttle._failures) == 10_000
    throttle.failed("y" * 60_000, now_s)
    assert max(map(len, throttle._failures)) == 256


def test_a_key_is_for_its_endpoints_and_at_its_rate(gate):
    identity = identify(gate, bearer("key"))

    def ask(endpoint="iris", now_s=0.0, **more):
        identity.ensure_may_score(endpoint, endpoint, **{"arm": None, "version": None, **more}, now_s=now_s)

    for endpoint in ("iri", "iris2", "shop", "other"):
        with pytest.raises(NotForKey):
            ask(endpoint)
    for named in ({"arm": "challenger"}, {"version": 2}):
        with pytest.raises(NotForKey):
            ask(**named)
    ask("shop-1")
    # Four a second for the replica are two for each of its two workers.
    ask()
    with pytest.raises(RateExceeded):
        ask()
    ask(now_s=0.5)
    with pytest.raises(NotPermitted):
        identity.caller(Permission.TRACKING_READ)


def test_forcing_an_arm_takes_more_than_scoring():
    gate = Gatekeeper(is_open=False, clock=Clock())
    grants = {"a": ("scorer",), "b": ("scorer", "promoter"), "c": ("promoter",), "d": ("scorer:model:iris",)}
    users = {name: KnownUser(name, tuple(map(Grant.parse, texts)), None) for name, texts in grants.items()}
    tokens = {digest_of(name): KnownToken(name, name, user.grants, 9_000_000, False) for name, user in users.items()}
    gate.take(Book(number=1, users=users, tokens=tokens))

    def may(name, endpoint="iris", arm=None):
        try:
            identify(gate, bearer(name)).ensure_may_score(endpoint, endpoint, arm=arm, version=None, now_s=0)
        except NotPermitted:
            return False
        return True

    assert [may(name) for name in "abcd"] == [True, True, False, True]
    assert [may(name, arm="challenger") for name in "abcd"] == [False, True, False, False]
    assert not may("d", "other")
    gate.close()


def test_a_bucket_fills_at_its_rate_and_holds_a_second():
    bucket = Bucket(rate=2)
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, 0.5]
    assert bucket.take(100.5) == 0
    assert [bucket.take(1_000.0) for _ in range(3)] == [0, 0, 0.5]
    slow = Bucket(rate=0.1)
    assert [slow.take(0.0), slow.take(1.0)] == [0, 9.0]


def test_networks_that_are_none_are_refused_at_the_start():
    with pytest.raises(InvalidParameter, match="'nonsense'"):
        Gatekeeper(is_open=False, clock=Clock(), trusted_proxies="10.0.0.1, nonsense")


@pytest.mark.parametrize("wrong", [{"trusted_proxies": "10.0.0.1, abc"}, {"default_grants": "viewer, viewr"}])
def test_a_proxy_or_a_default_grant_that_is_none_stops_the_start(tmp_path, wrong):
    with pytest.raises(InvalidParameter, match=r"'(abc|viewr)' is no"):
        check_surroundings(Settings(data=str(tmp_path), **wrong))


def test_who_is_recognised_is_who_was_identified_until_that_is_over(gate, clock):
    def shown(secret):
        return {b"authorization": f"Bearer {secret}".encode()}

    assert gate.recognise(shown("good")) is None, "nobody has looked at it yet"
    for secret in ("good", "key"):
        assert gate.recognise(shown(secret)) is None
        known = identify(gate, bearer(secret))
        assert gate.recognise(shown(secret)) is known
    gate.used()
    gate.recognise(shown("key"))
    assert list(gate.used()) == [identify(gate, bearer("key")).key.id]
    # All else takes the longer way, which says what is wrong with it.
    assert gate.recognise({}) is None
    assert gate.recognise({b"authorization": b"bearer good"}) is None
    # A session counts as a cookie alone.
    assert identify(gate, cookie("tbs_good")).is_session
    assert gate.recognise(shown("tbs_good")) is None
    assert gate.recognise(shown("good") | {b"x-titlebout-key": b"key"}) is None
    clock.now_s = 2_000.0
    assert gate.recognise(shown("good")) is None
    assert gate.recognise(shown("key")) is not None
    gate.take(Book(number=9))
    assert gate.recognise(shown("key")) is None

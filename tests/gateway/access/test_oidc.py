"""Signing in by an issuer, as a browser does it: there and back. Each lie on the way ends with nobody signed in."""

import html
import itertools
import logging
import re
import shutil
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from gateway.access.gatekeeper import Gatekeeper
from gateway.settings import Settings
from tests.conftest import running_api
from tests.gateway.access.oidc_issuer import ABSENT, CLIENT_ID, CLIENT_SECRET, running_issuer
from tracking.access import first_admin, subjects, users
from tracking.access.book import read_book
from tracking.access.grants import Grant
from tracking.access.secrets import hash_password
from tracking.access.users import list_users
from tracking.database import Database

ALL = (Grant("admin"), Grant("scorer"))
HOST = "titlebout.example.org"
BACK = f"https://{HOST}/signin/oidc/callback"
SESSION, ATTEMPT = "__Host-titlebout-session", "__Host-titlebout-oidc"
ANN = "ann@example.org"
CHROMIUM = shutil.which("chromium")
ADDRESSES = (f"192.0.2.{number}" for number in itertools.count(1))


class Replica:
    """An application and its door, which is told by hand what the supervisor would tell it within a second."""

    def __init__(self, url, gate):
        self.url, self.gate = url, gate


class Browser:
    """Keeps cookies as browsers do: Secure ones for HTTPS, which the proxy says it is, Strict ones from our pages."""

    def __init__(self, replica, base=f"https://{HOST}"):
        self.replica = replica
        self.base = base
        self.cookies = {}
        self.address = next(ADDRESSES)

    def get(self, path, *, from_elsewhere=False):
        kept = {
            name: value for name, (value, site) in self.cookies.items() if not (from_elsewhere and site == "Strict")
        }
        headers = {
            "Host": self.base.partition("://")[2],
            "Accept": "text/html",
            "X-Forwarded-For": self.address,
            "X-Forwarded-Proto": "https",
            "Cookie": "; ".join(f"{name}={value}" for name, value in kept.items()),
        }
        answer = httpx.get(self.replica.url + path, headers=headers, timeout=30)
        for line in answer.headers.get_list("Set-Cookie"):
            self._keep(line)
        return answer

    def _keep(self, line):
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        said = {key.lower(): rest for key, _, rest in (attribute.partition("=") for attribute in attributes)}
        assert name.startswith("__Host-")
        assert {"secure", "httponly"} <= said.keys()
        assert (said["path"], said.get("domain")) == ("/", None)
        if said.get("max-age") == "0":
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = (value, said["samesite"].capitalize())

    def begin(self, **query):
        """Where the issuer sends this browser back to, path and query."""
        there = self.get(f"/signin/oidc?{urlencode(query)}")
        assert there.status_code == 303, there.text
        back = httpx.get(there.headers["Location"]).headers["Location"]
        assert back.startswith(f"{self.base}/signin/oidc/callback?")
        return back.removeprefix(self.base)

    def come_back(self, path):
        return self.get(path, from_elsewhere=True)

    def sign_in(self, **query):
        return self.come_back(self.begin(**query))


@pytest.fixture(scope="module")
def shared_issuer():
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(shared_issuer):
    shared_issuer.be_honest()
    shared_issuer.calls.clear()
    return shared_issuer


@pytest.fixture(scope="module")
def data(tmp_path_factory, migrated_sqlite):
    data = tmp_path_factory.mktemp("oidc")
    shutil.copy(migrated_sqlite, data / "titlebout.db")
    return data


@pytest.fixture(scope="module")
def replicas(shared_issuer, data):
    """Two, on one database."""
    settings = Settings(
        data=str(data),
        allowed_hosts=HOST,
        oidc_issuer=shared_issuer.url,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
        oidc_name="Example & Sons",
    )
    gates = [
        Gatekeeper(
            is_open=False,
            clock=time.time,
            session_wait_s=0,
            trusted_proxies="127.0.0.1",
            user_header="X-User",
            default_grants=["viewer"],
        )
        for _ in range(2)
    ]
    with running_api(settings, gates[0]) as first, running_api(settings, gates[1]) as second:
        yield Replica(first, gates[0]), Replica(second, gates[1])


@pytest.fixture(scope="module")
def shared_database(replicas, data):
    database = Database(f"sqlite:///{data}/titlebout.db")
    with database.writing() as session:
        first_admin.ensure_admin(session, given="", now_ms=0)
    yield database
    database.dispose()


@pytest.fixture
def database(shared_database):
    """Nobody but the administrator is there."""
    with shared_database.writing() as session:
        for user in list_users(session, ALL):
            if user.name != "admin":
                users.delete_user(session, user.name, own=ALL)
    return shared_database


@pytest.fixture
def browser(replicas, issuer, database):
    return Browser(replicas[0])


def tell(database, *replicas):
    with database.reading() as session:
        for replica in replicas:
            replica.gate.take(read_book(session))


def names(database):
    with database.reading() as session:
        return {user.name for user in list_users(session, ALL)}


def add(database, name, *, password_hash=None):
    with database.writing() as session:
        users.create_user(
            session, name, grants=[Grant("publisher")], password_hash=password_hash, author="admin", own=ALL, now_ms=1
        )


def assert_nobody_is_signed_in(browser, database, answer, status=403):
    assert answer.status_code == status, answer.text
    assert SESSION not in browser.cookies
    with database.reading() as session:
        assert not any(token.is_session for token in read_book(session).tokens.values())


def said(answer):
    return html.unescape(re.search(r"<p>(.*?)</p>", answer.text, re.DOTALL)[1])


# --- the good way


def test_the_way_in_is_on_the_page_where_people_sign_in(browser):
    page = browser.get("/signin?next=/endpoints/iris/docs")
    assert "Sign in with Example &amp; Sons" in page.text
    assert 'href="/signin/oidc?next=/endpoints/iris/docs"' in page.text


def test_whom_the_issuer_vouches_for_is_added_signed_in_and_led_on(browser, database):
    answer = browser.sign_in(next="/endpoints/iris/docs?x=1")
    assert answer.status_code == 200
    assert 'url=/endpoints/iris/docs?x=1"' in answer.text
    assert browser.cookies.keys() == {SESSION}
    assert browser.cookies[SESSION][1] == "Strict"
    tell(database, browser.replica)
    me = browser.get("/api/1.0/titlebout/me").json()
    assert (me["name"], me["grants"]) == (ANN, ["viewer"])
    with database.reading() as session:
        user = users.get_user(session, ANN)
    assert (user.created_by, user.has_password) == ("oidc", False)
    assert browser.sign_in().status_code == 200
    assert names(database) == {"admin", ANN}


def test_what_is_begun_on_one_replica_ends_on_another(browser, replicas, database):
    back = browser.begin()
    browser.replica = replicas[1]
    assert browser.come_back(back).status_code == 200
    tell(database, *replicas)
    for replica in replicas:
        browser.replica = replica
        assert browser.get("/api/1.0/titlebout/me").json()["name"] == ANN


def test_the_issuer_is_asked_with_pkce_and_told_no_secret_of_the_browsers(browser):
    there = browser.get("/signin/oidc")
    query = {name: values[0] for name, values in parse_qs(urlsplit(there.headers["Location"]).query).items()}
    assert query.keys() == {
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method",
    }  # fmt: skip
    assert (query["redirect_uri"], query["scope"]) == (BACK, "openid profile email")
    (value, site) = browser.cookies[ATTEMPT]
    assert site == "Lax"
    assert value.split(".")[1] not in there.headers["Location"]
    assert re.search(r"Max-Age=600\b", there.headers["Set-Cookie"])


@pytest.mark.parametrize(
    "path",
    ["https://elsewhere.example.org/", "//elsewhere.example.org", "/\\elsewhere.example.org", "javascript:x", ""],
)
def test_nobody_is_led_elsewhere(browser, path):
    answer = browser.sign_in(next=path)
    assert 'content="0; url=/account"' in answer.text
    assert "elsewhere" not in answer.text


def test_nothing_that_signs_in_is_logged(browser, issuer, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    given = []
    true = issuer.token
    monkeypatch.setattr(issuer, "token", lambda nonce: given.append(true(nonce)) or given[-1])
    back = browser.begin()
    attempt = browser.cookies[ATTEMPT][0].split(".")[1]
    browser.come_back(back)
    code = parse_qs(urlsplit(back).query)["code"][0]
    # The browser of this test is in the same process, and says where it goes.
    ours = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("gateway"))
    assert "signed_in" in ours
    for secret in (*given, code, attempt, browser.cookies[SESSION][0], CLIENT_SECRET):
        assert secret not in ours


# --- lies


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        pytest.param({"iss": "https://elsewhere.example.org"}, "'iss'", id="wrong issuer"),
        pytest.param({"aud": "another"}, "'aud'", id="wrong audience"),
        pytest.param({"aud": ["titlebout", "another"]}, "'azp'", id="several audiences without azp"),
        pytest.param({"nonce": "another"}, "'nonce'", id="wrong nonce"),
        pytest.param({"nonce": ABSENT}, "'nonce'", id="no nonce"),
        pytest.param({"sub": ABSENT}, "'sub'", id="no subject"),
        pytest.param({"exp": 1}, "expired", id="expired"),
        pytest.param({"nbf": 99_999_999_999}, "'nbf'", id="not yet valid"),
        pytest.param({"email_verified": False}, "verified", id="unverified address"),
        pytest.param({"email": "<script>alert(1)</script>"}, "name has letters", id="an address that is none"),
    ],
)
def test_a_claim_that_lies_signs_nobody_in(browser, database, issuer, lies, words):
    issuer.claim_lies = lies
    answer = browser.sign_in()
    assert_nobody_is_signed_in(browser, database, answer, 400 if "email" in lies else 403)
    assert words in said(answer)
    assert names(database) == {"admin"}
    assert ATTEMPT not in browser.cookies


@pytest.mark.parametrize("how", ["none", "public key", "client secret", "another key", "another key's id"])
def test_a_signature_that_isnt_the_issuers_signs_nobody_in(browser, database, issuer, how):
    from joserfc.jwk import ECKey

    match how:
        case "none":
            issuer.unsigned = True
        case "public key":
            issuer.shared_secret = issuer.key.as_pem(private=False)
        case "client secret":
            issuer.shared_secret = CLIENT_SECRET.encode()
        case _:
            issuer.signing_key = ECKey.generate_key("P-256", {"kid": "another"})
            issuer.header_lies = {} if how == "another key's id" else {"kid": issuer.key.kid}
    assert_nobody_is_signed_in(browser, database, browser.sign_in())
    assert names(database) == {"admin"}


def test_an_error_of_the_issuers_is_a_sentence_and_no_page_of_its(browser, database, issuer):
    issuer.answer_lies = {"code": ABSENT, "error": "access_denied", "error_description": "<b>No.</b>"}
    answer = browser.sign_in()
    assert_nobody_is_signed_in(browser, database, answer)
    assert said(answer) == "The identity provider refuses: access_denied (<b>No.</b>)."
    assert "<b>" not in answer.text


def test_words_that_nobody_asked_for_are_not_shown(browser, database):
    answer = browser.come_back("/signin/oidc/callback?error=x&error_description=Call+0900+123")
    assert_nobody_is_signed_in(browser, database, answer)
    assert "0900" not in answer.text


# --- whose way it is


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda back: re.sub(r"state=[^&]*", "state=x", back), id="wrong state"),
        pytest.param(lambda back: re.sub(r"state=[^&]*", "", back), id="no state"),
        pytest.param(lambda back: re.sub(r"state=[^&]*", "state=%C3%A9", back), id="a state that is no text"),
        pytest.param(lambda back: back + "&state=x", id="two states"),
        pytest.param(lambda back: back + "&code=x", id="two codes"),
        pytest.param(lambda _: "/signin/oidc/callback", id="nothing"),
    ],
)
def test_an_answer_to_something_else_signs_nobody_in(browser, database, issuer, change):
    back = browser.begin()
    assert_nobody_is_signed_in(browser, database, browser.come_back(change(back)))
    assert "/token" not in issuer.calls
    # And whoever made the browser go there has not spoilt what it had begun.
    assert browser.come_back(back).status_code == 200


def test_another_browsers_way_is_not_ones_own(browser, replicas, database, issuer):
    back = browser.begin()
    other = Browser(replicas[0])
    assert_nobody_is_signed_in(other, database, other.come_back(back))
    other.begin()
    assert_nobody_is_signed_in(other, database, other.come_back(back))
    assert "/token" not in issuer.calls


def test_a_way_back_is_good_once(browser, database, issuer):
    back = browser.begin()
    attempt = browser.cookies[ATTEMPT]
    assert browser.come_back(back).status_code == 200
    del browser.cookies[SESSION]
    assert browser.come_back(back).status_code == 403
    # With the cookie kept, too: then it is the issuer that knows its code.
    browser.cookies[ATTEMPT] = attempt
    answer = browser.come_back(back)
    assert (answer.status_code, SESSION in browser.cookies) == (403, False)
    assert "invalid_grant" in said(answer)
    assert "<b>" not in answer.text


def test_two_cookies_of_one_name_are_neither(browser, database):
    back = browser.begin()
    browser.cookies[f"x=1; {ATTEMPT}"] = browser.cookies[ATTEMPT]
    assert_nobody_is_signed_in(browser, database, browser.come_back(back))


def test_who_fails_often_waits_and_nobody_else(browser, replicas, database, issuer):
    statuses = [browser.come_back("/signin/oidc/callback?state=x").status_code for _ in range(7)]
    assert statuses == [403] * 6 + [429]
    assert int(browser.come_back("/signin/oidc/callback?state=x").headers["Retry-After"]) >= 1
    assert Browser(replicas[0]).sign_in().status_code == 200


# --- who it is


@pytest.mark.parametrize("name", [ANN, "admin"])
def test_a_user_who_is_there_is_not_taken_over(browser, database, issuer, name):
    issuer.claim_lies = {"email": name}
    if name == ANN:
        add(database, ANN, password_hash=hash_password("correct horse battery"))
    answer = browser.sign_in()
    assert_nobody_is_signed_in(browser, database, answer)
    assert f"titlebout user oidc {name}" in said(answer)


def test_a_user_whom_an_administrator_linked_is(browser, database):
    add(database, ANN)
    with database.writing() as session:
        subjects.set_oidc(session, ANN, awaited=True, own=ALL)
    assert browser.sign_in().status_code == 200
    tell(database, browser.replica)
    assert browser.get("/api/1.0/titlebout/me").json()["grants"] == ["publisher"]


def test_a_name_that_the_issuer_gave_to_another_is_not_theirs_here(browser, replicas, database, issuer):
    browser.sign_in()
    del browser.cookies[SESSION]
    issuer.claim_lies = {"sub": "another"}
    assert browser.sign_in().status_code == 403
    assert SESSION not in browser.cookies


def test_who_is_disabled_stays_out(browser, database):
    browser.sign_in()
    del browser.cookies[SESSION]
    with database.writing() as session:
        users.set_disabled(session, ANN, disabled=True, own=ALL)
    answer = browser.sign_in()
    assert (answer.status_code, SESSION in browser.cookies) == (403, False)
    assert "turned off" in said(answer)


def test_where_nothing_is_granted_to_all_nobody_is_added(browser, database, monkeypatch):
    monkeypatch.setattr(browser.replica.gate, "default_grants", ())
    answer = browser.sign_in()
    assert_nobody_is_signed_in(browser, database, answer)
    assert f"titlebout user add {ANN} ROLE --oidc" in said(answer)
    assert names(database) == {"admin"}


# --- without an issuer


def test_while_the_issuer_is_away_nobody_signs_in_by_it_and_nothing_else_changes(browser, database, issuer):
    back = browser.begin()
    issuer.away = {"/token"}
    answer = browser.come_back(back)
    assert_nobody_is_signed_in(browser, database, answer, 503)
    assert "can't be asked: a code is answered by 503" in said(answer)
    assert browser.get("/signin").status_code == 200
    assert browser.get("/health").status_code == 200


@pytest.mark.e2e
def test_a_server_starts_without_its_issuer_and_lets_people_in_by_it_once_it_is_there(serve, issuer):
    issuer.away = {"/.well-known/openid-configuration"}
    given = {
        "TITLEBOUT_OIDC_ISSUER": issuer.url,
        "TITLEBOUT_OIDC_CLIENT_ID": CLIENT_ID,
        "TITLEBOUT_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "TITLEBOUT_DEFAULT_GRANTS": "viewer",
    }
    server = serve("--workers", "2", environment=given)
    browser = Browser(server, base=server.url)
    refused = browser.get("/signin/oidc")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    issuer.be_honest()
    # On loopback, too, an issuer has everybody sign in.
    assert browser.get("/api/1.0/titlebout/me").status_code == 401
    assert browser.sign_in().status_code == 200
    for _ in range(5):
        assert browser.get("/api/1.0/titlebout/me").json() == {"name": ANN, "grants": ["viewer"], "scoring_key": False}
    assert "signed_in" in server.log
    if CHROMIUM is not None:
        assert_a_real_browser_signs_in(server.url.replace("127.0.0.1", "localhost"))


def assert_a_real_browser_signs_in(url):
    """By *url*, which is of another site than the issuer is: localhost, and not 127.0.0.1."""
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]) as chromium,
    ):
        context = chromium.new_context()
        page = context.new_page()
        page.goto(f"{url}/account?x=1")
        page.click("text='Sign in with single sign-on'")
        page.wait_for_url(f"{url}/account?x=1")
        assert page.inner_text("h1") == ANN
        assert [cookie["name"] for cookie in context.cookies() if "form" not in cookie["name"]] == [SESSION]


def test_where_no_issuer_is_set_there_is_no_way_in_by_one(api_server):
    for path in ("/signin/oidc", "/signin/oidc/callback?state=x&code=y"):
        assert httpx.get(api_server + path).status_code == 404

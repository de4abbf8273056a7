"""Signing in by a page: who gets a session, what it takes to act by one, and when it is over."""

import html
import logging
import re
import sqlite3
import time
from contextlib import closing

import httpx
import pytest
from argon2 import PasswordHasher

from gateway.access.cookies import csrf_token
from gateway.access.gatekeeper import Gatekeeper
from gateway.app import _PROTOCOLS
from gateway.settings import Settings
from gateway.web import account, signin
from gateway.web.local_paths import local_path
from tests.conftest import running_api
from tracking.access import first_admin, sessions, tokens, users
from tracking.access.book import read_book
from tracking.access.grants import Grant
from tracking.access.secrets import digest_of
from tracking.access.tokens import DAY_MS
from tracking.database import Database

ALL = (Grant("admin"), Grant("scorer"))
PASSWORD = "correct horse battery"
SESSION, FORM = "__Host-titlebout-session", "__Host-titlebout-form"
EXPERIMENTS = "/api/2.0/mlflow/experiments"
PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class Server:
    """An application and its door, which is told by hand what the supervisor would tell it within a second."""

    def __init__(self, url, gate, database):
        self.url, self.gate, self.database = url, gate, database

    def tell(self):
        with self.database.reading() as session:
            self.gate.take(read_book(session))

    def browser(self, **headers):
        return httpx.Client(base_url=self.url, headers={**PAGE, "Origin": self.url, **headers}, timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = Settings(data=str(tmp_path_factory.mktemp("sessions")), allowed_hosts="titlebout.example")
    gate = Gatekeeper(
        is_open=False, clock=time.time, session_wait_s=0, trusted_proxies="127.0.0.1", user_header="X-User"
    )
    with running_api(settings, gate) as url:
        database = Database(settings.database)
        # Cheaper than our own, which a test needn't wait for.
        hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        with database.writing() as session:
            first_admin.ensure_admin(session, given="", now_ms=0)
            for name, grant in (("ann", "publisher"), ("bob", "viewer")):
                users.create_user(
                    session, name, grants=[Grant(grant)], password_hash=hashed, author="admin", own=ALL, now_ms=0
                )
        server = Server(url, gate, database)
        server.tell()
        yield server
        database.dispose()


@pytest.fixture(autouse=True)
def nobody_waits(request):
    """Each test begins without another one's failures."""
    if "server" in request.fixturenames:
        gate = request.getfixturevalue("server").gate
        for throttle in (gate._by_source, gate._by_name):
            throttle._failures.clear()


def field(page, name="csrf_token"):
    return html.unescape(re.search(rf'name="{name}" value="([^"]*)"', page)[1])


def sign_in(browser, name="ann", password=PASSWORD, **fields):
    """As a person does: the page first, then its form. Cookies are kept by hand: httpx sends Secure ones by HTTPS."""
    page = browser.get("/signin")
    form = page.headers["Set-Cookie"].partition(";")[0]
    return browser.post(
        "/signin",
        data={"csrf_token": field(page.text), "name": name, "password": password, **fields},
        headers={"Cookie": form},
    )


def session_of(answer):
    return re.match(rf"{SESSION}=(tbs_[\w-]+);", answer.headers["Set-Cookie"])[1]


@pytest.fixture
def signed_in(server):
    """A browser with a session of ann's, and its secret."""
    with server.database.writing() as session:
        secret = sessions.begin_session(session, "ann", life_ms=DAY_MS, now_ms=int(time.time() * 1000)).secret
    server.tell()
    with server.browser(Cookie=f"{SESSION}={secret}") as browser:
        yield browser, secret


def refusal(answer):
    return answer.status_code, answer.json()["error_code"]


# --- signing in


def test_who_knows_the_password_gets_a_cookie_for_half_a_day_and_is_led_on(server):
    with server.browser() as browser:
        answer = sign_in(browser, next="/endpoints/iris/docs?x=1")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/endpoints/iris/docs?x=1")
    assert re.fullmatch(
        rf"{SESSION}=tbs_[\w-]{{43}}; Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Strict",
        answer.headers["Set-Cookie"],
    )
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_has_its_form_sent_nowhere_else_and_is_in_no_frame(server):
    answer = server.browser().get("/signin")
    policy = answer.headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    # By "no-referrer", which all other answers have, browsers would say "Origin: null".
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(rf"{FORM}=[\w-]{{43}}; Path=/; Secure; HttpOnly; SameSite=Strict", answer.headers["Set-Cookie"])
    assert not re.search(r"<script|\bsrc=|\bon\w+=|@import|url\(|<link", answer.text)


def test_who_is_not_there_and_what_is_wrong_are_refused_alike_and_who_goes_on_guessing_waits(server):
    with server.browser() as browser:
        names = ("ann", "nobody", "", "bob", "ann", "bob", "ann")
        *answers, last = [sign_in(browser, name, "wrong password") for name in names]
    said = {re.search(r'role="alert">([^<]*)<', answer.text)[1] for answer in answers}
    assert said == {"The user&#39;s name or the password is wrong."}
    assert {answer.status_code for answer in answers} == {403}
    # By WWW-Authenticate a browser would ask in a window of its own.
    assert not any({"Set-Cookie", "WWW-Authenticate"} & set(answer.headers) for answer in answers)
    assert (last.status_code, "Too many tries" in last.text) == (429, True)
    assert int(last.headers["Retry-After"]) >= 1


def test_another_sites_page_signs_nobody_in(server):
    with server.browser() as browser:
        page = browser.get("/signin")
        form = page.headers["Set-Cookie"].partition(";")[0]
        other = browser.get("/signin").headers["Set-Cookie"].partition(";")[0]
        right = {"csrf_token": field(page.text), "name": "ann", "password": PASSWORD}
        tries = [
            (right, {"Cookie": other}),
            (right, {}),
            ({**right, "csrf_token": ""}, {"Cookie": form}),
            ({"name": "ann", "password": PASSWORD}, {"Cookie": form}),
            (right, {"Cookie": form, "Origin": "https://evil.example"}),
            (right, {"Cookie": form, "Origin": "null"}),
            (right, {"Cookie": f"{form}; {form}"}),
        ]
        for data, headers in tries:
            answer = browser.post("/signin", data=data, headers=headers)
            assert answer.status_code in {401, 403}, (data, headers)
            assert SESSION not in answer.headers.get("Set-Cookie", "")
        del browser.headers["Origin"]
        assert browser.post("/signin", data=right, headers={"Cookie": form}).status_code == 403


def test_the_password_is_in_no_log(server, caplog):
    caplog.set_level(logging.DEBUG)
    with server.browser() as browser:
        assert sign_in(browser).status_code == 303
        # Typed into the wrong field.
        assert sign_in(browser, name=PASSWORD, password="ann").status_code == 403
        assert sign_in(browser, password="a-wrong-password").status_code == 403
    # Less what this test's own client says.
    said = [str(vars(record)) for record in caplog.records if not record.name.startswith("http")]
    assert any("signed_in" in line for line in said)
    assert not any(re.search(f"{PASSWORD}|a-wrong-password|tbs_", line) for line in said)


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"name=ann", "text/plain", 415),
        (b"--x", "multipart/form-data; boundary=x", 415),
        (b"{}", "application/json", 415),
        (b"\xff=1", "application/x-www-form-urlencoded", 400),
        (b"name=%ff", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=1"] * 201), "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
)
def test_what_is_no_form_of_ours_is_refused(server, content, content_type, status):
    answer = server.browser().post("/signin", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example", "///evil.example", "/\\evil.example", "\\evil.example", "https:evil.example",
        "https://evil.example/", "javascript:alert(1)", "evil.example", "/\t/evil.example", "/\n/evil", "\t//evil",
        " /account", "/a b", "/ä", "/a\0", "", "?x", "#x", "/" + "x" * 2000,
    ],
)  # fmt: skip
def test_a_link_leads_to_no_other_place_after_signing_in(server, path):
    assert local_path(path, "/account") == "/account"
    with server.browser() as browser:
        page = browser.get("/signin", params={"next": path})
        assert "\0" in path or field(page.text, "next") == "/account"


def test_a_form_that_was_tampered_with_leads_to_no_other_place(server):
    with server.browser() as browser:
        assert sign_in(browser, next="//evil.example").headers["Location"] == "/account"


@pytest.mark.parametrize("path", ["/", "/account", "/a//b", "/%2F%2Fevil", "/%5Cevil", "/a?b=https://c&d#e", "/a@b:c"])
def test_a_path_of_ours_is_led_to_as_it_is(path):
    assert local_path(path, "otherwise") == path


# --- what a session may do


def test_a_session_reads_as_its_user_may(signed_in):
    browser, _ = signed_in
    assert browser.get(f"{EXPERIMENTS}/get?experiment_id=0").status_code == 200
    assert browser.get("/api/1.0/titlebout/me").json()["name"] == "ann"
    assert refusal(browser.get("/api/1.0/titlebout/users", headers={"Accept": "*/*"})) == (403, "PERMISSION_DENIED")


def test_a_session_changes_nothing_without_a_proof_that_a_page_of_ours_asks(signed_in, server):
    browser, secret = signed_in
    proof, url, body = csrf_token(secret), f"{EXPERIMENTS}/create", {"name": f"made {digest_of(secret)}"}
    refused = [
        {},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": csrf_token("tbs_other")},
        {"X-CSRF-Token": proof, "Origin": "https://evil.example"},
        {"X-CSRF-Token": proof, "Origin": "null"},
    ]
    for headers in refused:
        assert refusal(browser.post(url, json=body, headers=headers)) == (403, "PERMISSION_DENIED"), headers
    with httpx.Client(base_url=server.url, headers={"Cookie": browser.headers["Cookie"]}) as without_origin:
        assert refusal(without_origin.post(url, json=body, headers={"X-CSRF-Token": proof}))[0] == 403
    by_name = f"{EXPERIMENTS}/get-by-name?experiment_name={body['name']}"
    assert browser.get(by_name).status_code == 404
    assert browser.post(url, json=body, headers={"X-CSRF-Token": proof}).status_code == 200
    assert browser.get(by_name).status_code == 200


def test_whatever_changes_something_asks_for_the_proof(signed_in):
    browser, _ = signed_in
    for protocol in _PROTOCOLS:
        for handler in protocol.handlers:
            for method in sorted(handler.http_methods - {"GET", "HEAD", "OPTIONS"}):
                path = re.sub(r"{\w+:\w+}", "1", min(handler.paths))
                is_form = protocol in {account, signin}
                more = {"data": {"name": "x"}} if is_form else {"json": {}}
                answer = browser.request(str(method), path, headers={"Cookie": browser.headers["Cookie"]}, **more)
                # Who is signed in is led on from there, which changes nothing.
                assert answer.status_code == (303 if path == "/signin" else 403), (method, path)
                assert "Set-Cookie" not in answer.headers


def test_reading_changes_nothing(server):
    """So it needs no proof: of all that a link could make a browser ask for."""

    def everything_kept():
        with closing(sqlite3.connect(server.database.url.database)) as connection:
            return list(connection.iterdump())

    with server.database.writing() as session:
        admin = sessions.begin_session(session, "admin", life_ms=DAY_MS, now_ms=int(time.time() * 1000))
    server.tell()
    before = everything_kept()
    with server.browser(Cookie=f"{SESSION}={admin.secret}") as browser:
        for protocol in _PROTOCOLS:
            for handler in protocol.handlers:
                for method in handler.http_methods & {"GET", "HEAD"}:
                    path = re.sub(r"{\w+:\w+}", "1", min(handler.paths))
                    assert browser.request(str(method), path).status_code != 401, path
    assert everything_kept() == before


def test_two_sessions_in_one_request_are_refused(signed_in):
    browser, _ = signed_in
    twice = {"Cookie": f"{browser.headers['Cookie']}; {browser.headers['Cookie']}"}
    assert refusal(browser.get("/api/1.0/titlebout/me", headers=twice)) == (401, "UNAUTHENTICATED")


def test_a_token_counts_before_a_cookie(signed_in, server):
    browser, _ = signed_in
    with server.database.writing() as session:
        token = tokens.create_token(session, "bob", "t", life_ms=DAY_MS, now_ms=int(time.time() * 1000), own=ALL)
    server.tell()
    bearer = {"Authorization": f"Bearer {token.secret}"}
    assert browser.get("/api/1.0/titlebout/me", headers=bearer).json()["name"] == "bob"
    # Nobody makes a browser send this header for them, so it needs no proof; bob may only see.
    assert refusal(browser.post(f"{EXPERIMENTS}/create", json={"name": "x"}, headers=bearer))[0] == 403
    assert browser.get("/api/1.0/titlebout/me", headers={"Authorization": "Bearer nobodys"}).status_code == 401


# --- its end


def test_signing_out_ends_this_session_and_everywhere_ends_all(server):
    with server.browser() as browser:
        one, two, three = (session_of(sign_in(browser)) for _ in range(3))
        server.tell()

        def is_in(secret):
            return browser.get("/api/1.0/titlebout/me", headers={"Cookie": f"{SESSION}={secret}"}).status_code == 200

        def sign_out(secret, **fields):
            data = {"csrf_token": csrf_token(secret), **fields}
            return browser.post("/signout", data=data, headers={"Cookie": f"{SESSION}={secret}"})

        assert browser.get("/signout").status_code == 405
        answer = sign_out(one)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/signin")
        assert answer.headers["Set-Cookie"].startswith(f"{SESSION}=; Max-Age=0; Path=/; Secure")
        server.tell()
        assert [is_in(secret) for secret in (one, two, three)] == [False, True, True]
        assert sign_out(two, csrf_token=csrf_token(three)).status_code == 403
        assert sign_out(two, everywhere="yes").status_code == 303
        server.tell()
        assert [is_in(secret) for secret in (one, two, three)] == [False, False, False]


def test_signing_in_again_ends_the_session_before(signed_in, server):
    browser, secret = signed_in
    # A page that was open in another window before.
    outdated = browser.post("/signin", data={"csrf_token": csrf_token("x"), "name": "bob", "password": PASSWORD})
    assert (outdated.status_code, outdated.headers["Location"]) == (303, "/account")
    again = browser.post(
        "/signin", data={"csrf_token": csrf_token(secret), "name": "bob", "password": PASSWORD, "next": "/x"}
    )
    server.tell()
    assert browser.get("/api/1.0/titlebout/me", headers={"Accept": "*/*"}).status_code == 401
    browser.headers["Cookie"] = f"{SESSION}={session_of(again)}"
    assert browser.get("/api/1.0/titlebout/me").json()["name"] == "bob"


@pytest.mark.parametrize("what", ["expired", "new password", "disabled", "removed"])
def test_a_session_is_over_when_it_is_old_or_its_user_is_changed(server, what):
    name = f"eve-{what.replace(' ', '-')}"
    now_ms = int(time.time() * 1000)
    with server.database.writing() as session:
        users.create_user(
            session, name, grants=[Grant("viewer")], password_hash=None, author="admin", own=ALL, now_ms=0
        )
        began_ms = now_ms - DAY_MS if what == "expired" else now_ms
        begun = sessions.begin_session(session, name, life_ms=DAY_MS - 1_000, now_ms=began_ms)
    with server.database.writing() as session:
        match what:
            case "disabled":
                users.set_disabled(session, name, disabled=True, own=ALL)
            case "removed":
                users.delete_user(session, name, own=ALL)
    if what == "new password":
        server.tell()
        with server.database.writing() as session:
            admin = sessions.begin_session(session, "admin", life_ms=DAY_MS, now_ms=now_ms)
        server.tell()
        changed = server.browser(Cookie=f"{SESSION}={admin.secret}").patch(
            f"/api/1.0/titlebout/users/{name}",
            json={"password": "another long password"},
            headers={"X-CSRF-Token": csrf_token(admin.secret)},
        )
        assert changed.status_code == 200
    server.tell()
    browser = server.browser(Cookie=f"{SESSION}={begun.secret}")
    assert browser.get("/api/1.0/titlebout/me").status_code == 401
    # And the way back in is open.
    led = browser.get("/account")
    assert (led.status_code, led.headers["Location"]) == (303, "/signin?next=%2Faccount")
    assert led.headers["Set-Cookie"].startswith(f"{SESSION}=; Max-Age=0")
    assert browser.get("/signin").status_code == 200


# --- pages and those who ask for them


def test_a_page_leads_to_the_sign_in_page_and_an_api_says_no(server):
    with server.browser() as browser:
        for path, then in (
            ("/account", "%2Faccount"),
            ("/endpoints/a%20b/docs?x=1", "%2Fendpoints%2Fa%2520b%2Fdocs%3Fx%3D1"),
        ):
            led = browser.get(path)
            assert (led.status_code, led.headers["Location"]) == (303, f"/signin?next={then}")
            assert refusal(browser.get(path, headers={"Accept": "application/json"})) == (401, "UNAUTHENTICATED")
            assert refusal(browser.get(path, headers={"Accept": "*/*"})) == (401, "UNAUTHENTICATED")
        assert refusal(browser.get(f"{EXPERIMENTS}/get?experiment_id=0")) == (401, "UNAUTHENTICATED")
        assert browser.get("/").headers["Location"] == "/account"
        assert refusal(browser.get("/", headers={"Accept": "*/*"})) == (404, "ENDPOINT_NOT_FOUND")


def test_who_follows_a_link_from_elsewhere_is_asked_again_with_the_cookie(server):
    # The first request is another site's doing, and comes without a Strict cookie; what the page asks for is ours.
    answer = server.browser(**{"Sec-Fetch-Site": "cross-site"}).get("/endpoints/iris/docs?a=1&b=2")
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/endpoints/iris/docs?a=1&amp;b=2">' in answer.text


def test_who_is_signed_in_is_led_past_the_sign_in_page(signed_in):
    browser, _ = signed_in
    assert browser.get("/signin?next=/endpoints/x/docs").headers["Location"] == "/endpoints/x/docs"
    assert browser.get("/signin?next=//evil").headers["Location"] == "/account"


def test_an_error_of_a_page_is_a_page(signed_in):
    browser, _ = signed_in
    # Nothing is served here yet.
    answer = browser.get("/endpoints/nothing/docs")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "<h1>" in answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert refusal(browser.get("/endpoints/nothing/docs", headers={"Accept": "*/*"})) == (
        503,
        "TEMPORARILY_UNAVAILABLE",
    )


# --- one's own tokens


def test_a_token_is_made_shown_once_with_what_to_paste_and_revoked(signed_in, server):
    browser, secret = signed_in
    proof = csrf_token(secret)
    made = browser.post(
        "/account/tokens", data={"csrf_token": proof, "name": "<lap&top>", "days": "7", "may": "viewer"}
    )
    token = re.search(r"export MLFLOW_TRACKING_TOKEN=(tbt_[\w-]+)\n?</pre>", made.text)[1]
    assert f"export MLFLOW_TRACKING_URI={server.url}\n" in made.text
    assert "&lt;lap&amp;top&gt;" in made.text
    server.tell()
    bearer = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{server.url}/api/1.0/titlebout/me", headers=bearer).json()["grants"] == ["viewer"]
    page = browser.get("/account").text
    assert token not in page
    token_id = re.search(rf"{token[:10]}….*?/account/tokens/(\w+)/revoke", page, re.DOTALL)[1]
    assert browser.post(f"/account/tokens/{token_id}/revoke", data={"csrf_token": proof}).status_code == 303
    server.tell()
    assert httpx.get(f"{server.url}/api/1.0/titlebout/me", headers=bearer).status_code == 401


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": " "}, "say what it is for"),
        ({"name": "a\0b"}, "NUL"),
        ({"name": "x" * 257}, "256"),
        ({"days": "0"}, "from 1 to 366"),
        ({"days": "367"}, "from 1 to 366"),
        ({"days": "١"}, "from 1 to 366"),
        ({"days": "9" * 30_000}, "from 1 to 366"),
        ({"days": "1e1"}, "from 1 to 366"),
        ({"may": "admin"}, "no more than you may"),
        ({"may": "nonsense"}, "no more than you may"),
    ],
)
def test_what_is_wrong_with_the_form_is_said_beside_its_field_and_nothing_is_made(signed_in, wrong, said):
    browser, secret = signed_in
    given = {"csrf_token": csrf_token(secret), "name": "a name", "days": "30", **wrong}
    answer = browser.post("/account/tokens", data=given)
    assert answer.status_code == 400
    (name,) = wrong
    assert re.search(rf'id="{name}-problem" role="alert">[^<]*{said}', answer.text)
    assert "tbt_" not in answer.text


def test_nobody_revokes_what_is_anothers(signed_in, server):
    browser, secret = signed_in
    with server.database.writing() as session:
        theirs = tokens.create_token(session, "bob", "t", life_ms=DAY_MS, now_ms=int(time.time() * 1000), own=ALL)
    for token_id in (theirs.token.id, "0" * 16):
        answer = browser.post(f"/account/tokens/{token_id}/revoke", data={"csrf_token": csrf_token(secret)})
        assert (answer.status_code, "There is no token" in answer.text) == (404, True)
    with server.database.reading() as session:
        tokens.get_token(session, theirs.token.id)


def test_a_token_with_a_scope_makes_and_revokes_none_that_may_more(server):
    now_ms = int(time.time() * 1000)
    with server.database.writing() as session:
        wide = tokens.create_token(session, "bob", "wide", life_ms=DAY_MS, now_ms=now_ms, own=ALL)
        narrow = tokens.create_token(
            session, "bob", "narrow", life_ms=DAY_MS, now_ms=now_ms, own=ALL, scope=[Grant("tracking:read")]
        )
        # All that bob may today, and nothing of what may come.
        lent = tokens.create_token(
            session, "bob", "lent", life_ms=DAY_MS, now_ms=now_ms, own=ALL, scope=[Grant("viewer")]
        )
    server.tell()
    with httpx.Client(base_url=f"{server.url}/api/1.0/titlebout") as client:
        client.headers["Authorization"] = f"Bearer {lent.secret}"
        made = client.post("/tokens", json={"name": "t", "days": 300}).json()
        assert (made["scope"], made["expires_ms"]) == (["viewer"], lent.token.expires_ms)
        client.headers["Authorization"] = f"Bearer {narrow.secret}"
        assert refusal(client.delete(f"/tokens/{wide.token.id}")) == (403, "PERMISSION_DENIED")
        with server.browser(Authorization=f"Bearer {narrow.secret}") as browser:
            form = browser.get("/account")
            refused = browser.post(
                f"/account/tokens/{wide.token.id}/revoke",
                data={"csrf_token": field(form.text)},
                headers={"Cookie": form.headers["Set-Cookie"].partition(";")[0]},
            )
            assert (refused.status_code, "doesn&#39;t revoke" in refused.text) == (403, True)
        assert client.delete(f"/tokens/{narrow.token.id}").is_success
        # Known here for a moment still, and worth nothing that lasts.
        assert refusal(client.post("/tokens", json={"name": "t", "scope": []})) == (403, "PERMISSION_DENIED")


def test_a_password_that_was_changed_a_moment_ago_begins_no_session(server):
    with server.database.writing() as session:
        before = read_book(session)
        users.set_password(session, "bob", None, own=ALL)
    try:
        # No worker has heard of it yet.
        with server.browser() as browser:
            refused = sign_in(browser, "bob")
        assert (refused.status_code, SESSION in refused.headers.get("Set-Cookie", "")) == (403, False)
        with server.database.reading() as session:
            assert read_book(session).tokens.keys() <= before.tokens.keys()
    finally:
        with server.database.writing() as session:
            users.set_password(session, "bob", before.users["bob"].password_hash, own=ALL)
        server.tell()


# --- other ways to reach a server


def test_behind_a_proxy_that_says_so_https_is_used_and_what_came_without_is_refused(server):
    https = server.url.replace("http:", "https:")
    with server.browser(**{"X-Forwarded-Proto": "https"}) as browser:
        assert sign_in(browser).status_code == 403
        browser.headers["Origin"] = https
        assert sign_in(browser).status_code == 303


def test_who_signed_in_at_the_proxy_has_no_session_and_forms_all_the_same(server):
    https = server.url.replace("http:", "https:")
    with server.browser(**{"X-Forwarded-Proto": "https", "X-User": "bob", "Origin": https}) as browser:
        page = browser.get("/account")
        assert "Sign out" not in page.text
        cookie = page.headers["Set-Cookie"].partition(";")[0]
        fields = {"csrf_token": field(page.text), "name": "t", "days": "1"}
        made = browser.post("/account/tokens", data=fields, headers={"Cookie": cookie})
        assert f"export MLFLOW_TRACKING_URI={https}\n" in made.text
        assert browser.post("/account/tokens", data=fields).status_code == 403
        assert "nobody has added stranger" in browser.get("/account", headers={"X-User": "stranger"}).text


def test_without_https_nobody_is_asked_for_a_password(server):
    page = server.browser(Host="titlebout.example").get("/signin", headers={"Origin": ""}).text
    assert "takes HTTPS" in page
    assert 'type="password"' not in page


def test_where_nobody_signs_in_the_pages_say_so(api_server):
    page = httpx.get(f"{api_server}/signin", headers=PAGE).text
    assert "Nobody signs in here" in page
    assert 'type="password"' not in page
    account = httpx.get(f"{api_server}/account", headers=PAGE)
    assert "may do everything" in account.text
    assert f"export MLFLOW_TRACKING_URI={api_server}" in account.text
    assert httpx.get(f"{api_server}/", headers=PAGE).headers["Location"] == "/endpoints"

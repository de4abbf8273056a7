"""The cookies of browsers, to the letter, and which requests that carry one are meant."""

import pytest

from gateway.access.cookies import (
    FORM,
    SESSION,
    TooManyCookies,
    csrf_token,
    find_cookie,
    form_cookie,
    is_csrf_token,
    no_session_cookie,
    session_cookie,
)
from gateway.api.own_pages import CsrfTokenWrong, OriginMissing, OriginWithoutHttps, ensure_meant

COOKIE = (b"cookie", b"__Host-titlebout-session=tbs_mine")
ORIGIN = (b"origin", b"https://titlebout.example")


def test_cookies_are_of_this_host_alone_over_https_and_hidden_from_scripts():
    assert session_cookie("tbs_x", 43_200) == (
        "__Host-titlebout-session=tbs_x; Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Strict"
    )
    assert form_cookie("x") == "__Host-titlebout-form=x; Path=/; Secure; HttpOnly; SameSite=Strict"
    assert no_session_cookie() == ("__Host-titlebout-session=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Strict")


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        ([], None),
        ([b""], None),
        ([b"other=1; __Host-titlebout-session=tbs_x ; more=2"], "tbs_x"),
        ([b"other=1", b"__Host-titlebout-session=tbs_x"], "tbs_x"),
        ([b"__Host-titlebout-session=a=b"], "a=b"),
        ([b"__Host-titlebout-session="], None),
        ([b"__Host-titlebout-session"], None),
        ([b"__host-titlebout-session=tbs_x"], None),
        ([b"x__Host-titlebout-session=tbs_x"], None),
        ([b"x=__Host-titlebout-session=tbs_x"], None),
        ([b"__Host-titlebout-session=\xff"], "\xff"),
    ],
)
def test_a_cookie_is_found_by_its_whole_name(cookies, found):
    assert find_cookie([(b"cookie", value) for value in cookies], SESSION) == found


@pytest.mark.parametrize(
    "cookies",
    [
        [b"__Host-titlebout-session=a; __Host-titlebout-session=a"],
        [b"__Host-titlebout-session=a", b"__Host-titlebout-session=b"],
    ],
)
def test_two_of_one_name_are_refused(cookies):
    with pytest.raises(TooManyCookies):
        find_cookie([(b"cookie", value) for value in cookies], SESSION)
    assert find_cookie([(b"cookie", value) for value in cookies], FORM) is None


def test_a_proof_is_of_one_session():
    assert is_csrf_token(csrf_token("mine"), "mine")
    for shown in ("", csrf_token("other"), csrf_token("mine")[:-1], "ä"):
        assert not is_csrf_token(shown, "mine")


def meant(*headers, method="POST", path="/api/2.0/mlflow/runs/create", scheme="https"):
    scope = {"method": method, "path": path, "scheme": scheme, "headers": [COOKIE, *headers]}
    ensure_meant(scope, dict(scope["headers"]))


PROOF = (b"x-csrf-token", csrf_token("tbs_mine").encode())
FORM_TYPE = (b"content-type", b"application/x-www-form-urlencoded")


def test_what_a_page_of_ours_asks_for_is_meant_and_reading_always_is():
    meant(ORIGIN, PROOF)
    meant((b"origin", b"http://localhost:8080"), PROOF, scheme="http")
    for method in ("GET", "HEAD", "OPTIONS"):
        meant(method=method)
    # Whoever answers it looks at the field.
    meant(ORIGIN, FORM_TYPE, path="/account/tokens")


@pytest.mark.parametrize(
    ("headers", "path", "why"),
    [
        pytest.param([PROOF], "/x", OriginMissing, id="no origin"),
        pytest.param([PROOF, (b"origin", b"http://titlebout.example")], "/x", OriginWithoutHttps, id="no HTTPS"),
        pytest.param([ORIGIN], "/x", CsrfTokenWrong, id="no proof"),
        pytest.param([ORIGIN, (b"x-csrf-token", b"")], "/x", CsrfTokenWrong, id="an empty one"),
        pytest.param([ORIGIN, (b"x-csrf-token", b"tbs_mine")], "/x", CsrfTokenWrong, id="the secret itself"),
        pytest.param(
            [ORIGIN, (b"x-csrf-token", csrf_token("tbs_other").encode())], "/x", CsrfTokenWrong, id="another session's"
        ),
        pytest.param([ORIGIN, FORM_TYPE], "/x", CsrfTokenWrong, id="a form where none belongs"),
        pytest.param([ORIGIN, FORM_TYPE], "/account/../x", CsrfTokenWrong, id="a form that leads elsewhere"),
        pytest.param([ORIGIN], "/account/tokens", CsrfTokenWrong, id="no form where one belongs"),
        pytest.param([FORM_TYPE], "/account/tokens", OriginMissing, id="a form without origin"),
    ],
)
def test_what_others_could_have_made_a_browser_send_is_not_meant(headers, path, why):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        if method == "POST" or why is not OriginMissing:
            with pytest.raises(why):
                meant(*headers, path=path, method=method)

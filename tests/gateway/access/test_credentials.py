"""What is read from headers, and what is refused before anybody looks whether it counts."""

import base64

import pytest

from gateway.access.credentials import Password, Secret, Unauthenticated, read_credentials


def basic(text):
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([(b"authorization", b"Bearer tbt_x")], Secret("tbt_x"), id="bearer"),
        pytest.param([(b"authorization", b"bearer  tbt_x ")], Secret("tbt_x"), id="in small letters, with spaces"),
        pytest.param([(b"authorization", basic("ann:pass:word"))], Password("ann", "pass:word"), id="basic"),
        pytest.param([(b"authorization", basic("ann:tbt_x"))], Secret("tbt_x"), id="a token as password"),
        pytest.param([(b"authorization", basic("änn:pässword"))], Password("änn", "pässword"), id="UTF-8"),
        pytest.param([(b"x-titlebout-key", b"tbk_x")], Secret("tbk_x"), id="a key of its own header"),
        pytest.param(
            [(b"authorization", b"AWS4-HMAC-SHA256 Credential=x"), (b"x-titlebout-key", b"tbk_x")],
            Secret("tbk_x"),
            id="beside what is signed for somebody else",
        ),
    ],
)
def test_credentials_are_read_from(headers, expected):
    assert read_credentials(headers, b"") == expected


@pytest.mark.parametrize(
    "values",
    [
        [b""], [b"Bearer"], [b"Bearer "], [b"Bearer a b"], [b"Basic"], [b"Basic !"], [b"Basic YQ=="], [b"Basic /w=="],
        [b"Digest x"], [b"tbt_x"], [b"\xff\xfe"], [b"Bearer " + b"x" * 5000], [b"Bearer a", b"Bearer a"],
        [b"Bearer a", b"Basic YTpi"], [b"Negotiate"],
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused(values):
    with pytest.raises(Unauthenticated, match="can't be used"):
        read_credentials([(b"authorization", value) for value in values], b"")


@pytest.mark.parametrize("query", [b"token=tbt_abc", b"a=1&key=tbk_abc", b"tbs_x"])
def test_a_secret_in_the_url_is_refused_whatever_else_is_shown(query):
    with pytest.raises(Unauthenticated, match="revoke it"):
        read_credentials([(b"authorization", b"Bearer tbt_other")], query)

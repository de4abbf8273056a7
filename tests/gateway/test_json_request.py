"""Bodies in which a key stands twice: none gets past the quick look that most bodies get by with."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.json_request import DuplicateKey, check_unique_keys


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"a": 1, "a": 1}', id="side by side"),
        pytest.param(b'{"a":1,"b":{"c":[{"d":1,"d":2}]}}', id="within"),
        pytest.param(b'{"a": "::::", "a": 1}', id="with colons in the text that is lost"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="spelled in two ways"),
        pytest.param(b'{"a": 1, "a": "\\u003a"}', id="with an escaped colon in place of the lost one"),
        pytest.param(b'{"a": 1, "a": "\\u003A"}', id="with one escaped in capitals"),
        pytest.param(b'{"a": 1, "a": ' + b"9" * 4_000 + b', "b": "\\u003a"}', id="with a number of many digits"),
    ],
)
def test_a_key_twice_is_refused_by_name(body):
    with pytest.raises(DuplicateKey, match=r"'[ad]' twice"):
        check_unique_keys(body, msgspec.json.decode(body))


@given(
    st.recursive(
        st.none() | st.text(":\\u03a", max_size=8) | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(":\\u03a", max_size=8), inner, max_size=4),
        max_leaves=12,
    )
)
def test_a_body_with_each_key_once_is_taken(value):
    body = json.dumps(value).encode()
    check_unique_keys(body, msgspec.json.decode(body))

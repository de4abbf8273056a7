"""Ids of predictions: what goes in comes out, and nobody else can make one."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feedback.prediction_ids import (
    LENGTH_MAX,
    Answered,
    ForgedId,
    LongClass,
    by_tag,
    can_be_carried,
    long_class,
    read_id,
    tag_of,
)
from registry.entities import PredictionKey
from tests.gateway.made_ids import made_id

KEY = PredictionKey(id="0a0b0c0d", secret=bytes(range(32)), made_ms=0)
OTHER = PredictionKey(id="0a0b0c0e", secret=bytes(range(1, 33)), made_ms=0)
KEYS = {key.id: key for key in (KEY, OTHER)}
PREFIX = b"here"
URL_SAFE = set(string.ascii_letters + string.digits + "-_")

answerers = st.builds(
    Answered,
    endpoint_id=st.binary(min_size=16, max_size=16).map(bytes.hex),
    period=st.integers(1, 2**32 - 1),
    arm=st.text(max_size=256),
    version=st.integers(0, 2**32 - 1),
)
values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
counts = st.integers(0, 2**64 - 1)
times_ms = st.integers(0, 2**48 - 1)
buckets = st.none() | st.integers(0, 9_999)


def made(answered=None, *, count=7, at_ms=1_700_000_000_000, bucket=4_321, prediction="setosa", key=KEY):
    answered = answered or Answered("ab" * 16, 3, "champion", 12)
    return made_id(key, answered, count=count, at_ms=at_ms, bucket=bucket, prediction=prediction, nonce_prefix=PREFIX)


@given(answerers, counts, times_ms, buckets, values)
def test_what_an_id_was_made_of_is_read_from_it_and_it_is_short(answered, count, at_ms, bucket, prediction):
    text = made(answered, count=count, at_ms=at_ms, bucket=bucket, prediction=prediction)
    assert len(text) <= LENGTH_MAX < 120
    assert set(text) <= URL_SAFE
    read = read_id(text, KEYS)
    assert (read.endpoint_id, read.period, read.version) == (answered.endpoint_id, answered.period, answered.version)
    assert (read.at_ms, read.bucket, read.key_id) == (at_ms, bucket, KEY.id)
    assert read.nonce == PREFIX + count.to_bytes(8, "big")
    assert by_tag(["other", answered.arm])[read.arm_tag] == answered.arm
    if isinstance(read.prediction, LongClass):
        assert read.prediction == long_class(prediction)
    else:
        assert read.prediction == prediction
        assert type(read.prediction) is type(prediction)


@pytest.mark.parametrize("prediction", [None, True, 3, 0.25, "setosa", "long" * 10])
def test_an_id_with_any_bit_flipped_is_forged(prediction):
    text = made(prediction=prediction)
    for place in range(len(text)):
        for bit in range(7):
            flipped = text[:place] + chr(ord(text[place]) ^ (1 << bit)) + text[place + 1 :]
            with pytest.raises(ForgedId):
                read_id(flipped, KEYS)


@given(st.text(max_size=200) | st.text(alphabet=sorted(URL_SAFE), max_size=LENGTH_MAX))
def test_what_was_not_made_here_is_forged_and_nothing_worse(text):
    with pytest.raises(ForgedId):
        read_id(text, KEYS)


@given(st.integers(0, LENGTH_MAX), st.text(alphabet=" \n=-_A", min_size=1, max_size=3))
def test_an_id_with_something_cut_off_or_put_in_is_forged(place, more):
    text = made(prediction=None)
    for changed in (text[:place] if place < len(text) else text[:-1], text[:place] + more + text[place:]):
        with pytest.raises(ForgedId):
            read_id(changed, KEYS)


def test_an_id_is_read_with_the_key_that_it_names_and_no_other():
    assert read_id(made(key=OTHER), KEYS).key_id == OTHER.id
    with pytest.raises(ForgedId, match="key"):
        read_id(made(key=OTHER), {KEY.id: KEY})
    with pytest.raises(ForgedId, match="signature"):
        read_id(made(), {KEY.id: PredictionKey(id=KEY.id, secret=OTHER.secret, made_ms=0)})


@pytest.mark.parametrize(
    ("value", "may"),
    [(0.5, True), (float("nan"), False), (float("-inf"), False), (2**63 - 1, True), (2**63, False), ("x", True)],
)
def test_values_that_no_label_can_be_compared_with_have_no_place_in_an_id(value, may):
    assert can_be_carried(value) is may


def test_arms_are_told_apart_by_their_tags_and_an_arm_that_is_gone_is_found_nowhere():
    assert by_tag(["a", "b" * 256, "b"])[tag_of("b")] == "b"
    assert tag_of("b") not in by_tag(["a"])


def test_a_key_shows_its_secret_to_nobody():
    assert "secret" not in repr(KEY)
    assert str(KEY.secret) not in str([KEY])

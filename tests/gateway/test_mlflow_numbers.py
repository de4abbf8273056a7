"""Numbers as protobuf's JSON writes them, and no other spelling that Python would read."""

import math

import pytest

from gateway.api.mlflow.numbers import double, int64
from tracking.errors import InvalidParameter


@pytest.mark.parametrize(
    ("sent", "read"),
    [("1", 1), ("-0.5", -0.5), ("1e-3", 0.001), ("2E+2", 200), ("Infinity", math.inf), ("-Infinity", -math.inf)],
)
def test_a_double_may_come_as_text(sent, read):
    assert double(sent, "value") == read


def test_nan_comes_as_a_word():
    assert math.isnan(double("NaN", "value"))


@pytest.mark.parametrize("sent", ["", "nan", "inf", "1_0", " 1", "1\n", "0x1", ".", "1e", "١", "1e999", "9" * 400])
def test_what_is_no_double_is_refused_by_its_field(sent):
    with pytest.raises(InvalidParameter, match="'value'"):
        double(sent, "value")


@pytest.mark.parametrize("sent", [2**63, -(2**63) - 1, str(2**63), "9" * 5_000, "", "-", "1.0", "1_0", " 1", "١"])
def test_what_is_no_int64_is_refused_by_its_field(sent):
    with pytest.raises(InvalidParameter, match="'step'"):
        int64(sent, "step")

"""An interval is said in so far as something is known of it."""

import math

import pytest

from gateway.comparison.interval_words import spoken


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [
        pytest.param(0.5, 1.5, "0.50 to 1.50", id="both ends"),
        pytest.param(0.0, 3.1, "at most 3.10", id="none is no end of a ratio"),
        pytest.param(None, 3.1, "at most 3.10", id="no lower end"),
        pytest.param(1.3, math.inf, "at least 1.30", id="no upper end"),
        pytest.param(1.3, None, "at least 1.30", id="no upper end, over the wire"),
        pytest.param(0.0, math.inf, None, id="nothing"),
    ],
)
def test_an_end_that_is_not_known_is_not_named(lower, upper, said):
    assert spoken(lower, upper, ".2f", floor=0.0) == said


def test_a_difference_may_be_negative():
    assert spoken(-0.01, 0.0, "+.2%") == "-1.00% to +0.00%"
    assert spoken(-math.inf, math.inf, "+.2%") is None

import pytest

from loadtests.scoring.models import alike


@pytest.mark.parametrize(
    ("got", "foretold"),
    [
        pytest.param([0, 2], [0, 2], id="classes"),
        pytest.param([{"label": "a", "score": 0.5000001}], [{"label": "a", "score": 0.5}], id="last digits"),
    ],
)
def test_the_same_answer_is_alike(got, foretold):
    assert alike(got, foretold)


@pytest.mark.parametrize(
    ("got", "foretold"),
    [
        pytest.param([0, 1], [0, 2], id="another class"),
        pytest.param([0], [0, 2], id="too few"),
        pytest.param("02", [0, 2], id="no list"),
        pytest.param([{"label": "b", "score": 0.5}], [{"label": "a", "score": 0.5}], id="another label"),
        pytest.param([{"label": "a", "score": 0.51}], [{"label": "a", "score": 0.5}], id="another score"),
        pytest.param([{"label": "a"}], [{"label": "a", "score": 0.5}], id="a field less"),
        pytest.param([None], [0.5], id="nothing"),
    ],
)
def test_another_answer_is_not(got, foretold):
    assert not alike(got, foretold)

import pytest

from loadtests.effort import Effort
from loadtests.scoring import measuring
from loadtests.scoring.models import LOGISTIC
from loadtests.scoring.work import Work

FOUR_CONNECTIONS = Work("logistic", LOGISTIC, rows=1, connections=4, goals=())


def test_rounds_come_to_medians_their_spread_and_all_their_errors():
    rounds = [measuring.Round(per_s, per_s / 100, per_s / 10, 2 * per_s, errors=1) for per_s in (90.0, 10.0, 50.0)]
    seen = measuring.summary(rounds, rows=1000)
    assert (seen.per_s, seen.per_s_least, seen.per_s_most, seen.rows_per_s) == (50, 10, 90, 50_000)
    assert (seen.p50_ms, seen.p99_ms, seen.processor_us, seen.errors) == (0.5, 5, 100, 3)


@pytest.mark.parametrize(
    ("answers_per_s", "length_s"),
    [
        pytest.param(3000, 4, id="quick enough"),
        pytest.param(1, 8, id="two answers for each of four connections"),
        pytest.param(0, 16, id="none while it was warmed up"),
    ],
)
def test_slow_servers_get_longer_rounds(answers_per_s, length_s):
    assert measuring.round_length_s(FOUR_CONNECTIONS, Effort(3, 4), answers_per_s) == length_s

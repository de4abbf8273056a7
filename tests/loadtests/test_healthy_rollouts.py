"""A version that is no worse is almost never put back: `python -m loadtests.rollouts` simulates 400 days of it."""

import pytest

from loadtests.healthy_rollouts import healthy_alarms

DAYS = 3


@pytest.mark.slow
def test_in_the_windows_of_some_days_no_healthy_version_is_stopped_or_gone_back_from():
    # Of these a thousandth may be, which is none.
    alarms = healthy_alarms(DAYS)
    assert (alarms.windows, alarms.stopped, alarms.rolled_back) == (432, 0, 0)

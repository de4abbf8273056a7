import pytest

from loadtests.slo import Observations, Slo, breaches, report

SLO = Slo(p99_ms=100, failure_ratio=0.01)


def observed(latencies_ms, failures=0):
    observations = Observations()
    for latency_ms in latencies_ms:
        observations.add_answer(latency_ms)
        observations.add_assignment(arm="champion", version="1")
    for number in range(failures):
        observations.add_failure(1.0, f"failure {number}")
    return observations


@pytest.mark.parametrize(
    ("observations", "broken"),
    [
        pytest.param(observed([100.0] * 100), [], id="at the limit is kept"),
        pytest.param(observed([1.0] * 99 + [5000.0]), [], id="the slowest of a hundred is beyond p99"),
        pytest.param(observed([1.0] * 98 + [101.0] * 2), ["p99 is 101.0 ms"], id="p99 too slow"),
        pytest.param(observed([1.0] * 99, failures=1), [], id="as many failures as are allowed"),
        pytest.param(observed([1.0] * 98, failures=2), ["2 of 100 requests failed"], id="too many failures"),
        pytest.param(observed([]), ["nothing was measured"], id="a run without answers proves nothing"),
    ],
)
def test_breaches_name_what_was_not_kept(observations, broken):
    found = breaches(observations, SLO)
    assert len(found) == len(broken)
    assert all(expected in sentence for expected, sentence in zip(broken, found, strict=True))


def test_the_report_shows_percentiles_and_shares():
    observations = observed([1.0, 2.0, 3.0, 4.0], failures=1)
    observations.add_answer(9.0)
    observations.add_assignment(arm="challenger", version="2")
    text = report(observations, duration_s=2.0)
    assert "6  (3/s over 2.0 s)" in text
    assert "p50 2.0 ms  p95 9.0 ms  p99 9.0 ms" in text
    assert "champion 80.0%  challenger 20.0%" in text
    assert "1 x failure 0" in text


def test_kinds_of_failure_are_bounded():
    observations = observed([], failures=1000)
    assert observations.failed == 1000
    assert len(observations.failures) <= 101

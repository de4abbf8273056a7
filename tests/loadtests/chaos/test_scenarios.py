"""What the scenarios make of what was seen: decided on figures that are made up, without a server."""

import math

import numpy as np
import pytest

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.clients import Outcome
from loadtests.chaos.findings import Finding, found
from loadtests.chaos.neighbours import Comparison, Span, median_interval
from loadtests.chaos.open_loop import OpenLoop
from loadtests.chaos.scenarios.flips import are_right, lateness, old_tables_ms, went_back
from loadtests.chaos.scenarios.overload import recovered_after_s
from loadtests.chaos.scenarios.soak import Sample, growth_bytes
from loadtests.chaos.stage import EventCount, Registered
from loadtests.stalls import Stalls


def outcome(began_s=0.0, took_s=0.01, *, status=200, port=1, epoch=1, version=1, content=b""):
    return Outcome(
        began_s=began_s,
        ended_s=began_s + took_s,
        status=status,
        fault="" if status else "hung up",
        port=port,
        is_first=False,
        epoch=epoch,
        content=content,
        version=version,
    )


def each_10_ms(from_s, to_s, **facts):
    return [outcome(from_s + n / 100, **facts) for n in range(round(100 * (to_s - from_s)))]


def test_an_epoch_goes_back_only_where_one_connection_saw_it():
    seen = [outcome(port=1, epoch=2), outcome(port=2, epoch=1), outcome(port=1, status=0, epoch=0)]
    assert not went_back([*seen, outcome(port=1, epoch=2)])
    assert went_back([*seen, outcome(port=1, epoch=1)])


def test_an_old_table_is_as_old_as_the_next_commit_when_it_was_asked(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    outcomes = [outcome(4.0, epoch=1), outcome(5.0, epoch=1), outcome(5.0, epoch=2)]
    assert old_tables_ms(outcomes, {2: 1004.9}) == {2: pytest.approx(100)}


def test_an_old_table_counts_apart_where_the_machine_stood_still(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    stalls = Stalls()
    stalls.seen.append((8.05, 8.2))
    load = OpenLoop("http://127.0.0.1:1/x", b"", rate_per_s=1)
    load.outcomes = [outcome(5.1, epoch=1), outcome(8.3, epoch=2)]
    found_ms = lateness([load], {2: 1005.0, 3: 1008.0}, stalls)
    assert (found_ms.undisturbed, found_ms.in_stalls) == ([pytest.approx(100)], [pytest.approx(300)])
    assert "1 over 250" in found_ms.words()


def test_answers_are_held_to_what_was_foretold_of_the_version_that_they_name():
    versions = [Registered("iris", 1, [], [0]), Registered("iris", 2, [], [1])]
    right = [outcome(version=1, content=b'{"predictions": [0]}'), outcome(status=0, version=0)]
    assert are_right(right, versions)
    assert not are_right([*right, outcome(version=2, content=b'{"predictions": [0]}')], versions)


@pytest.mark.parametrize(
    ("outcomes", "after_s"),
    [
        pytest.param(each_10_ms(0, 3), 0.0, id="nothing was wrong"),
        pytest.param([*each_10_ms(0, 1, status=429), *each_10_ms(1, 3)], 1.0, id="failures"),
        pytest.param([*each_10_ms(0, 1, took_s=0.5), *each_10_ms(1, 3)], 0.5, id="slow by half of a second"),
        pytest.param([*each_10_ms(-1, 0, status=429), *each_10_ms(0, 3)], 0.0, id="before it counts for nothing"),
        pytest.param(each_10_ms(0, 3, status=429), math.inf, id="never"),
    ],
)
def test_recovery_is_when_a_second_is_as_usual(outcomes, after_s):
    assert recovered_after_s(outcomes, 0.0, 20.0) == pytest.approx(after_s)


def test_growth_is_the_slope_once_all_is_warm():
    samples = [Sample(n * 1_000, {1: 10**9 if n < 10 else 50_000_000 + 500 * n, 2: 7}) for n in range(100)]
    assert growth_bytes(samples, [1, 2]) == pytest.approx(50_000)
    assert growth_bytes(samples, [2]) == 0
    assert growth_bytes(samples[:1], [1]) == 0


def test_a_neighbours_p99_is_compared_with_the_quiet_before_and_after_it():
    load = OpenLoop("http://127.0.0.1:1/x", b"", rate_per_s=1)
    load.outcomes = [
        *each_10_ms(0, 1), *each_10_ms(1, 2, took_s=0.02),
        *each_10_ms(2, 3), *each_10_ms(3, 4, took_s=0.06),
        *each_10_ms(4, 5, took_s=0.04), *each_10_ms(5, 6, took_s=0.5),
        *each_10_ms(6, 7, took_s=0.04),
    ]  # fmt: skip
    comparison = Comparison(load, [Span(n, n + 1) for n in (0, 2, 4, 6)], [Span(n, n + 1) for n in (1, 3, 5)])
    assert comparison.ratios == pytest.approx([2, 3, 12.5])
    assert comparison.noise == pytest.approx(1)
    assert "3.00 x (-inf to inf by 3 rounds; quiet times differ 1.00 x)" in comparison.words()


def test_the_median_is_within_its_interval_as_often_as_it_says():
    drawn = np.random.default_rng(7).lognormal(size=(4_000, 9))
    intervals = [median_interval(row.tolist()) for row in drawn]
    # Of nine, the second and the last but one: 1 - 2 * (1 + 9) / 2**9.
    assert np.mean([low <= 1 <= high for low, high in intervals]) == pytest.approx(1 - 20 / 512, abs=0.01)
    assert median_interval([1.0] * 5) == (-math.inf, math.inf)


def test_a_finding_says_what_did_not_hold():
    outcomes = [outcome(took_s=0.02), outcome(took_s=0.5, status=503)]
    well = found("a thing", outcomes, [(True, "never said")], recovery_s=1.25)
    assert well.held
    assert well.line() == "| a thing | 2 | 1 | 20 | 1.25 |  | yes |"
    ill = found("a thing", outcomes, [(False, "it broke"), (False, "and fell")])
    assert not ill.held
    assert ill.line().endswith("**no**: it broke; and fell |")
    assert "broken off: ValueError: why" in Finding.broken_off("a thing", ValueError("why")).line()


def test_new_events_are_counted_as_the_log_grows(tmp_path):
    log, server = tmp_path / "serve.log", ServerProcess(None, "", tmp_path)
    ended = b'{"event": "host_ended", "model": "%s"}\n'
    log.write_bytes(ended % b"a")
    count = EventCount(server, "host_ended", model="a")
    assert count.now() == 0
    with log.open("ab") as file:
        file.write(ended % b"a" + ended % b"b" + (ended % b"a")[:20])
        file.flush()
        assert [count.now(), count.now()] == [1, 1]
        file.write((ended % b"a")[20:])
    assert count.now() == 2

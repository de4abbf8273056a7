"""Turns side by side: by turns first, and of one process or nothing."""

from gateway.load_testing.pairing import latency_pairs, processor_pairs, turns_of_pair
from gateway.load_testing.plan import Turn
from gateway.load_testing.slowdown import Pair


def turn(version, processor_s=1.0, requests=100, process="here:1", p50_ms=2.0):
    process = None if process is None else f"{process}-{version}"
    return Turn(
        version=version, seconds=1.0, requests=requests, p50_ms=p50_ms, process=process, processor_s=processor_s
    )


def test_who_goes_first_alternates_and_who_is_the_baseline_does_not():
    order = [version for number in range(2) for version in turns_of_pair(number, version=2, against=1)]
    assert order == [1, 2, 2, 1]
    turns = [turn(version, processor_s=float(version), p50_ms=10.0 * version) for version in order]
    assert processor_pairs(turns, version=2) == [Pair(0.01, 0.02)] * 2
    assert latency_pairs(turns, version=2) == [Pair(10.0, 20.0)] * 2


def test_a_pair_of_another_process_than_the_first_says_nothing_of_processors():
    turns = [turn(1), turn(2), turn(2, process="there:9"), turn(1), turn(1, process=None, processor_s=None), turn(2)]
    assert len(processor_pairs(turns, version=2)) == 1
    assert len(latency_pairs(turns, version=2)) == 3


def test_turns_without_a_request_or_without_a_pair_are_passed_over():
    turns = [turn(1, requests=0, p50_ms=None), turn(2), turn(1)]
    assert processor_pairs(turns, version=2) == []
    assert latency_pairs(turns, version=2) == []

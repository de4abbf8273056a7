"""SLOs as people write them: what each means, what is said of those that mean nothing, and whether they were kept."""

import msgspec
import pytest

from gateway.load_testing.slo import BadSlo, judge, parse_slo
from tests.gateway.load_testing.reports import FIGURES

SOME_FAILED = msgspec.structs.replace(FIGURES, failed=1)
NONE = msgspec.structs.replace(FIGURES, requests=0, failed=0, rps=0.0, p99_ms=None)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("p99=50ms", "p99=50ms"),
        ("P99 = 0.05s", "p99=50ms"),
        ("mean=200us", "mean=0.2ms"),
        ("max=1s", "max=1000ms"),
        ("failures=0", "failures=0"),
        ("failures=0.1%", "failures=0.1%"),
        ("rps=100", "rps=100"),
        ("rps=100/s", "rps=100"),
    ],
)
def test_an_slo_is_read_and_said_in_one_way(text, same):
    assert str(parse_slo(text)) == same
    assert parse_slo(same) == parse_slo(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("p99", "there is no '='"),
        ("p98=50ms", "'p98' isn't measured; mean, p50"),
        ("=50ms", "'' isn't measured"),
        ("p99=", "'' is no limit"),
        ("p99=fast", "'fast' is no limit"),
        ("p99=-1ms", "'-1ms' is no limit"),
        ("p99=50", "a time takes a unit"),
        ("p99=50%", "a time takes a unit"),
        ("p99=1e3ms", "'1e3ms' is no limit"),
        ("failures=1ms", "'ms' is no unit of failures"),
        ("failures=0.5", "failures are counted whole"),
        ("failures=101%", "more than there can be"),
        ("rps=10%", "'%' is no unit of rps"),
        (f"rps={'9' * 400}", "more than there can be"),
    ],
)
def test_what_means_nothing_is_told_apart(text, what):
    with pytest.raises(BadSlo) as refused:
        parse_slo(text)
    assert what in refused.value.message
    assert "p99=50ms" in refused.value.message


@pytest.mark.parametrize(
    ("slo", "figures", "kept", "said"),
    [
        ("p99=9ms", FIGURES, True, "p99 9ms, within 9ms"),
        ("p99=6ms", FIGURES, False, "p99 9ms, 50% more than 6ms"),
        ("failures=0", FIGURES, True, "failures 0, within 0"),
        ("failures=0", SOME_FAILED, False, "failures 1, and not 0"),
        ("failures=0.5%", SOME_FAILED, True, "failures 0.5%, within 0.5%"),
        ("failures=0.1%", SOME_FAILED, False, "failures 0.5%, 400% more than 0.1%"),
        ("rps=100", FIGURES, True, "rps 100/s"),
        ("rps=200", FIGURES, False, "rps 100/s, 50% less than 200/s"),
        ("failures=0", NONE, False, "nothing was measured"),
        ("p99=50ms", NONE, False, "nothing was measured"),
    ],
)
def test_an_slo_is_kept_or_broken_by_so_much(slo, figures, kept, said):
    outcome = judge(parse_slo(slo), figures)
    assert outcome.kept is kept
    assert said in outcome.said

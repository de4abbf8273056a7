"""Guards are read as people write them, and broken by what is surely so."""

import numpy as np
import pytest

from gateway.comparison.calibration import BINS, CalibrationSums
from gateway.comparison.distribution import Distribution
from gateway.comparison.evidence import Evidence
from gateway.comparison.latency_counts import counts_of
from gateway.comparison.sums import CLASSES, CLUSTERS, NUMBERS, REWARDS, SERVING, ClusterSums, Column
from gateway.rollouts.decision import NOTHING_COUNTED, Standing
from gateway.rollouts.guard_findings import findings, look
from gateway.rollouts.guards import Guard, GuardKind, GuardUnknown, parse_guard

BROKEN, KEPT, OPEN = Standing.BROKEN, Standing.KEPT, Standing.OPEN
RATIO, QUANTILE, SECONDS = GuardKind.FAILURES_RATIO, GuardKind.QUANTILE_RATIO, GuardKind.QUANTILE_S


@pytest.mark.parametrize(
    ("text", "kind", "limit", "share"),
    [
        ("failures", RATIO, 1.5, 0.0),
        ("failures=2x", RATIO, 2.0, 0.0),
        ("failures=1%", GuardKind.FAILURES_RATE, 0.01, 0.0),
        ("p99=1.2x", QUANTILE, 1.2, 0.99),
        ("p99.9=50ms", SECONDS, 0.05, 0.999),
        ("p50=2s", SECONDS, 2.0, 0.5),
        ("slow", GuardKind.SLOW, 0.01, 0.0),
        ("slow=2%", GuardKind.SLOW, 0.02, 0.0),
    ],
)
def test_a_guard_is_read_as_it_is_written(text, kind, limit, share):
    found = parse_guard(text)
    assert (found.kind, found.text) == (kind, text)
    assert (found.limit, found.share) == pytest.approx((limit, share))


@pytest.mark.parametrize(
    "text",
    ["", "p99", "p99=", "p99=1.2", "p10=2x", "p99=0.5x", "p99=1e9x", "failures=0%", "failures=0.5x", "failures=0x",
     "failures=200%", "failures=1.2.3x", "slow=2x", "accuracy", "p99=1.2x ", "p99.99=2x", "FAILURES"],
)  # fmt: skip
def test_what_is_no_guard_is_named(text):
    with pytest.raises(GuardUnknown, match="There is no guard"):
        parse_guard(text)


def serving(requests, failures, slow=0):
    """Of requests by as many units, spread over the clusters."""
    sums = ClusterSums(SERVING)
    place = np.random.default_rng(6).permutation(requests)
    for column, count in ((Column.REQUESTS, requests), (Column.FAILURES, failures), (Column.SLOW, slow)):
        sums.add_many(place[:count] % CLUSTERS, {column: np.ones(count)})
    return sums.values


def classes(labels, right):
    sums = ClusterSums(CLASSES)
    place = np.arange(labels)
    sums.add_many(place % CLUSTERS, {Column.LABELS: np.ones(labels)})
    sums.add_many(place[:right] % CLUSTERS, {Column.CORRECT: np.ones(right)})
    return sums.values


def evidence(champion, challenger, *, times=1.0, labels=None):
    nothing = np.zeros((len(CLASSES), CLUSTERS))
    seconds = 0.01 * np.exp(0.5 * np.random.default_rng(7).standard_normal(20_000))
    empty = CalibrationSums(labels=np.zeros(BINS), probabilities=np.zeros(BINS), outcomes=np.zeros(BINS))
    return Evidence(
        champion=("champion", 1),
        challenger=("challenger", 2),
        periods=(2,),
        sums={
            SERVING: [(serving(*champion), serving(*challenger))],
            CLASSES: [labels or (nothing, nothing)],
            NUMBERS: [(nothing[:4], nothing[:4])],
            REWARDS: [(nothing[:3], nothing[:3])],
        },
        latency=(counts_of(seconds), counts_of(seconds[:5_000] * times)),
        calibration=(empty, empty),
        predictions=(Distribution(), Distribution()),
    )


@pytest.mark.parametrize(
    ("text", "what", "standing"),
    [
        pytest.param("failures", evidence((9_500, 0), (500, 1)), OPEN, id="one failure isn't fatal"),
        pytest.param("failures", evidence((9_500, 19), (500, 1)), OPEN, id="as rare as the champion's"),
        pytest.param("failures", evidence((9_500, 19), (500, 25)), BROKEN, id="5 % where the champion fails in 0.2 %"),
        pytest.param("failures", evidence((9_500, 475), (500, 25)), OPEN, id="5 % on both"),
        pytest.param("failures", evidence((500_000, 2), (50_000, 20)), OPEN, id="often, of what is never"),
        pytest.param("failures=1%", evidence((9_500, 19), (500, 25)), BROKEN, id="over a rate"),
        pytest.param("failures=1%", evidence((9_500, 19), (5_000, 5)), KEPT, id="surely below it"),
        pytest.param("p99=1.2x", evidence((1, 0), (1, 0), times=2.0), BROKEN, id="twice the latency"),
        pytest.param("p99=1.2x", evidence((1, 0), (1, 0)), OPEN, id="the same latency"),
        pytest.param("p99=3x", evidence((1, 0), (1, 0)), KEPT, id="the same, and a wide limit"),
        pytest.param("p99=20ms", evidence((1, 0), (1, 0)), BROKEN, id="over a time"),
        pytest.param("p50=20ms", evidence((1, 0), (1, 0)), KEPT, id="within a time"),
        pytest.param("slow", evidence((9_000, 0, 90), (9_000, 0, 900)), BROKEN, id="slow ten times as often"),
        pytest.param("slow", evidence((90_000, 0, 900), (90_000, 0, 900)), KEPT, id="as slow"),
    ],
)
def test_a_guard_is_broken_by_what_is_surely_so(text, what, standing):
    found = look(parse_guard(text), what, alpha=0.0005)
    assert found.standing is standing, found.said


@pytest.mark.parametrize(
    ("labels", "margin", "standing"),
    [
        pytest.param((classes(20_000, 19_400), classes(20_000, 19_000)), 0.0, BROKEN, id="two points less"),
        pytest.param((classes(20_000, 19_400), classes(20_000, 19_000)), 0.05, KEPT, id="which is put up with"),
        pytest.param((classes(20_000, 19_400), classes(20_000, 19_400)), 0.0, OPEN, id="the same"),
        pytest.param((classes(20_000, 19_400), classes(20_000, 19_400)), 0.01, KEPT, id="the same, with a margin"),
        pytest.param((classes(20_000, 19_000), classes(20_000, 19_400)), 0.0, KEPT, id="better"),
    ],
)
def test_a_metric_is_judged_the_same_way(labels, margin, standing):
    guard, metric = findings(
        evidence((100, 0), (100, 0), labels=labels), [parse_guard("failures")], "accuracy", margin=margin
    )
    assert guard.standing is OPEN
    assert metric.standing is standing, metric.said


def test_without_labels_there_is_nothing_to_say():
    (metric,) = findings(evidence((100, 0), (100, 0)), [], "accuracy")
    assert (metric.standing, metric.said) == (OPEN, NOTHING_COUNTED)


def test_what_was_never_compared_breaks_nothing():
    kinds = ["failures", "failures=1%", "p99=1.2x", "p99=50ms", "slow"]
    nothing = evidence((0, 0), (0, 0))
    nothing = Evidence(
        champion=nothing.champion, challenger=nothing.challenger, sums=nothing.sums, calibration=nothing.calibration,
        predictions=nothing.predictions, latency=(nothing.latency[0] * 0, nothing.latency[1] * 0),
    )  # fmt: skip
    found = findings(nothing, [parse_guard(text) for text in kinds], None)
    assert [each.standing for each in found] == [OPEN] * 5


def test_guards_are_values():
    assert parse_guard("failures") == Guard(text="failures", kind=RATIO, limit=1.5)


@pytest.mark.parametrize(("requests", "blind"), [(500, True), (5_000, False)])
def test_a_ratio_of_quantiles_is_blind_until_the_champions_is_known(requests, blind):
    few = evidence((1, 0), (1, 0))
    few = Evidence(
        champion=few.champion, challenger=few.challenger, sums=few.sums, calibration=few.calibration,
        predictions=few.predictions, latency=(counts_of(np.linspace(0.01, 0.02, requests)), few.latency[1]),
    )  # fmt: skip
    assert look(parse_guard("p99=1.2x"), few, alpha=0.0005).blind is blind

"""The pictures of a comparison: where things lie in them, and that the page says what the API says."""

import pytest

from gateway.api.comparison_wire import (
    ArmFigures,
    CalibrationFigures,
    ComparisonAnswer,
    LatencyFigures,
    MetricFigures,
    NumberFigures,
    PeriodFigures,
    PredictionFigures,
    RatioFigures,
    ReliabilityFigures,
    SplitFigures,
)
from gateway.web.comparison_charts import bar_of, curve_of, histograms_of, shares_of
from gateway.web.comparison_page import render_comparison
from gateway.web.pages import Pages


def metric(lower, upper, *, better="higher", difference=0.0, verdict="not_yet"):
    return MetricFigures(
        metric="accuracy",
        better=better,
        champion=0.9,
        challenger=0.9,
        champion_n=10,
        challenger_n=10,
        difference=difference,
        lower=lower,
        upper=upper,
        p_value=1.0,
        method="asymptotic",
        design_effect=1.0,
        clusters=10,
        verdict=verdict,
        reason="so it is",
        alike=False,
        needed=None,
    )


def arm(name, version, *, classes=None, buckets=(), curve=(), numbers=None):
    return ArmFigures(
        arm=name,
        version=version,
        share_bp=5_000,
        requests=100,
        failures=1,
        failure_rate=0.01,
        failure_rate_lower=0.0,
        failure_rate_upper=0.1,
        latency=LatencyFigures(p50_ms=1.0, p90_ms=2.0, p99_ms=None, buckets=list(buckets)),
        predictions=PredictionFigures(classes=classes or {}, other_classes=0, numbers=numbers, not_finite=0),
        calibration=CalibrationFigures(ece=0.1, curve=list(curve)) if curve else None,
    )


def answer(champion, challenger, *metrics, locked=False):
    return ComparisonAnswer(
        endpoint="a/b",
        model="iris",
        conclusion="Better: <challenger>.",
        metric="accuracy",
        verdict="better",
        reason="the difference is there",
        minimal_effect=0.01,
        champion=champion,
        challenger=challenger,
        others=["new & old"],
        metrics=list(metrics),
        failure_ratio=RatioFigures(lower=0.0, upper=None),
        p99_ratio=RatioFigures(lower=0.0, upper=None),
        split=SplitFigures(asked=0.5, observed=0.4, p_value=1e-9 if locked else 1.0, locked=locked),
        periods=PeriodFigures(first=1, compared=[3], left_out=[4]),
    )


@pytest.mark.parametrize(
    ("given", "minimal_effect", "low", "high", "dot"),
    [
        pytest.param(metric(-0.02, 0.04, difference=0.01), 0.0, -43.48, 86.96, 21.74, id="higher is better"),
        pytest.param(
            metric(-0.02, 0.04, difference=0.01, better="lower"), 0.0, -86.96, 43.48, -21.74, id="lower is better"
        ),
        pytest.param(metric(-0.02, 0.04, difference=0.01), 0.08, -21.74, 43.48, 10.87, id="beside what matters"),
        pytest.param(metric(None, None, difference=0.01), 0.0, -100, 100, 86.96, id="no end either way"),
        pytest.param(metric(0.0, 0.0), 0.0, 0, 0, 0, id="no difference at all"),
        pytest.param(metric(None, None, difference=None), 0.0, -100, 100, None, id="nothing known"),
    ],
)
def test_a_bar_lies_on_the_side_of_what_is_better(given, minimal_effect, low, high, dot):
    bar = bar_of(given, minimal_effect)
    assert (bar.low, bar.high, bar.dot) == (low, high, dot)


def test_latencies_of_both_arms_share_one_scale():
    slow = [(0.1 * 2**4, 50), (0.1 * 2**5, 50)]
    drawn = histograms_of(arm("champion", 1, buckets=[(0.1, 100)]), arm("challenger", 2, buckets=slow))
    assert [tick.said for tick in drawn.ticks] == ["0.1 ms", "0.2 ms", "0.5 ms", "1 ms", "2 ms"]
    tallest, half = ({point.split(",")[1] for point in outline.split()} for outline in drawn.outlines)
    assert tallest == {"0.00", "100.00"}
    assert half == {"50.00", "100.00"}
    beyond = histograms_of(arm("champion", 1, buckets=[(None, 1)]), arm("challenger", 2, buckets=[(0.1, 1)]))
    assert [tick.said for tick in beyond.ticks] == ["0.1 ms", "1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"]
    assert histograms_of(arm("champion", 1), arm("challenger", 2)) is None


def test_what_comes_true_oftener_lies_higher():
    points = [
        ReliabilityFigures(predicted=0.2, observed=0.0, labels=4),
        ReliabilityFigures(predicted=0.8, observed=1.0, labels=16),
    ]
    curve = curve_of(arm("champion", 1, curve=points))
    assert curve.line == "20.00,100.00 80.00,0.00"
    assert [size for _, _, size in curve.points] == [1.65, 2.5]
    assert curve_of(arm("champion", 1)) is None


def test_rare_classes_are_shown_together():
    ours = arm("champion", 1, classes={"a": 50, "b": 30, "c": 20})
    theirs = arm("challenger", 2, classes={"b": 100})
    assert [(share.name, share.champion, share.challenger) for share in shares_of(ours, theirs, most=1)] == [
        ("b", 30.0, 100.0),
        ("others", 70.0, 0.0),
    ]
    assert [share.name for share in shares_of(ours, theirs)] == ["b", "a", "c"]


def test_the_page_says_the_conclusion_and_names_nothing_that_would_run():
    ours = arm("champion", 1, classes={"<b>": 1}, buckets=[(1.0, 3)])
    theirs = arm("challenger", 2, classes={"<b>": 1}, buckets=[(2.0, 3)])
    page = render_comparison(Pages(), answer(ours, theirs, metric(0.01, 0.03, difference=0.02, verdict="better")))
    assert "Better: &lt;challenger&gt;." in page
    assert '<p class="said better">' in page
    assert "&lt;b&gt;" in page
    assert "Periods 4 of the split" in page
    assert 'href="../a%2Fb/docs"' in page
    assert 'href="?challenger=new%20%26%20old"' in page
    assert "<script" not in page
    assert "style=" not in page
    locked = render_comparison(Pages(), answer(ours, theirs, metric(0.01, 0.03), locked=True))
    assert "which chance doesn’t do" in locked
    assert '<p class="said locked">' in locked


def test_numbers_are_shown_by_their_quantiles_and_nothing_at_all_is_no_error():
    numbers = NumberFigures(count=3, mean=1.5, deviation=0.5, lowest=1, p10=1, p50=1.5, p90=2, highest=None)
    page = render_comparison(Pages(), answer(arm("champion", 1, numbers=numbers), arm("challenger", 2)))
    assert '<td class="number">1.5</td>' in page
    assert '<td class="number">–</td>' in page
